# SPDX-License-Identifier: Apache-2.0
"""Text readers: numbering, splitting, what is not a text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bittern import data


def test_characters_are_numbered_in_order_and_split_in_place() -> None:
    text = data.characters("abracadabra", held_out=0.2)
    assert text.vocabulary == ("a", "b", "c", "d", "r")
    both = torch.cat([text.train, text.held_out])
    assert "".join(text.vocabulary[i] for i in both) == "abracadabra"
    assert len(text.held_out) == 2


def test_rare_words_become_unknown(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("a a a b b c\nc d\n", encoding="utf-8")
    text = data.read_words(file, vocabulary_size=4, held_out=0.5)
    assert text.vocabulary == ("a", "<eos>", "b", "<unk>")
    words = [text.vocabulary[i] for i in torch.cat([text.train, text.held_out])]
    assert words == ["a", "a", "a", "b", "b", "<unk>", "<eos>", "<unk>", "<unk>", "<eos>"]


def test_windows_are_stretches_with_targets_one_further() -> None:
    inputs, targets = data.windows(torch.arange(100), 7, 5, torch.Generator().manual_seed(0))
    assert inputs.shape == targets.shape == (5, 7)
    assert torch.equal(inputs + 1, targets)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(7))
    last = data.windows(torch.arange(8), 7, 3, torch.Generator().manual_seed(0))[1]
    assert (last[:, -1] == 7).all()


def test_sample_text_is_the_same_for_a_seed() -> None:
    assert data.sample_text(5) == data.sample_text(5)
    assert data.sample_text(5) != data.sample_text(5, seed=1)
    assert data.sample_text(5).count("\n") == 5


def test_errors(tmp_path: Path) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match="must be UTF-8"):
        data.read_characters(latin)
    with pytest.raises(ValueError, match="at least 2 tokens"):
        data.characters("")
    with pytest.raises(ValueError, match="held_out must be between"):
        data.characters("abc", held_out=1.0)
    with pytest.raises(ValueError, match="at least 2"):
        data.read_words(latin, vocabulary_size=1)
    with pytest.raises(ValueError, match="more than 7 tokens"):
        data.windows(torch.arange(7), 7, 1, torch.Generator())
    with pytest.raises(FileNotFoundError):
        data.read_characters(tmp_path / "none.txt")
