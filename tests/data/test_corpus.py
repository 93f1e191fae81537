# SPDX-License-Identifier: Apache-2.0
"""Corpora in parts: numbers by hand, folders as published, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bittern.bench.sequences.texts import read_texts
from bittern.data import penn_treebank, read_corpus, wikitext2

PARTS = {"train": "a b a\n\nc a\n", "valid": "b c\n", "test": "a a"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, text in PARTS.items():
        (tmp_path / f"ptb.{part}.txt").write_text(text)
        (tmp_path / f"wiki.{part}.tokens").write_text(text.replace("b", "<unk>"))
    return tmp_path


def paths(folder: Path) -> tuple[Path, Path, Path]:
    return folder / "ptb.train.txt", folder / "ptb.valid.txt", folder / "ptb.test.txt"


def test_words_of_published_files(folder: Path) -> None:
    found = penn_treebank(folder)
    assert found.vocabulary == ("a", "b", "<eos>", "c")
    assert found.train.tolist() == [0, 1, 0, 2, 2, 3, 0, 2]
    assert found.valid.tolist() == [1, 3, 2]
    assert found.test.tolist() == [0, 0, 2]
    assert found.train.dtype == torch.int64
    wiki = wikitext2(folder)
    assert wiki.vocabulary == ("a", "<unk>", "<eos>", "c")
    assert penn_treebank(folder, "character").vocabulary == ("a", " ", "b", "\n", "c")


def test_sizes_and_vocabularies(folder: Path) -> None:
    found = read_corpus(*paths(folder), size=3)
    assert found.vocabulary == ("a", "<eos>", "<unk>")
    assert found.valid.tolist() == [2, 2, 1]
    given = read_corpus(*paths(folder), vocabulary=("<unk>", "a"))
    assert given.train.tolist() == [1, 0, 1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda f: penn_treebank(f / "none"),
            FileNotFoundError,
            r"Penn Treebank: .*ptb\.train\.txt is missing",
        ),
        (lambda f: read_corpus(f / "x", f / "x", f / "x"), OSError, "No such file"),
        (lambda f: read_corpus(*paths(f), vocabulary=("a", "<eos>")), ValueError, "'b' is not in the vocabulary of 2"),
        (lambda f: read_corpus(*paths(f), vocabulary=()), ValueError, "names each token once; got 0"),
        (lambda f: read_corpus(*paths(f), vocabulary=("a", "a")), ValueError, "got 2 with 1 names"),
        (lambda f: read_corpus(*paths(f), size=1), ValueError, "size must be at least 2; got 1"),
        (lambda f: read_corpus(*paths(f), size=2, vocabulary=("a",)), ValueError, "leave one of them out"),
        (lambda f: read_corpus(*paths(f), "line"), ValueError, "level must be one of 'word', 'character'"),  # type: ignore[arg-type]
        (lambda f: read_texts(f / "empty", None, "word", None), FileNotFoundError, "no corpus is in this folder"),
        (lambda f: read_texts(f, None, "word", 5), ValueError, "comes with its test and vocabulary"),
    ],
)
def test_refusals(folder: Path, call: Callable[[Path], object], error: type[Exception], message: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(error, match=message):
        call(folder)


def test_empty_and_strange_files(folder: Path) -> None:
    (folder / "ptb.test.txt").write_text("")
    with pytest.raises(ValueError, match=r"ptb\.test\.txt: a text needs at least 2 tokens; it has 0"):
        penn_treebank(folder)
    (folder / "ptb.test.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="must be UTF-8 text"):
        penn_treebank(folder)


def test_texts_of_the_benchmark(folder: Path) -> None:
    name, train, test, words = read_texts(folder, None, "word", None)
    assert (name, len(train), len(test), words) == ("Penn Treebank", 8, 3, 4)
    one, other = paths(folder)[:2]
    assert read_texts(one, other, "word", 3)[3] == 3
    assert read_texts(one, None, "character", None)[0] == "ptb.train"
