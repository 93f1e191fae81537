# SPDX-License-Identifier: Apache-2.0
"""Readers of texts with classes, and words as numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bittern.data.clinc150 import INTENTS, clinc150
from bittern.data.labelled_texts import LabelledTexts, lines_of
from bittern.data.spam_assassin import spam_assassin
from bittern.data.words import PADDING, START, UNKNOWN, Vocabulary, words_of


def lines(*texts: str) -> np.ndarray:
    return np.frombuffer("\n".join(texts).encode(), np.uint8)


def write_intents(folder: Path, **changes: np.ndarray) -> Path:
    arrays = {"class_names": np.array([*INTENTS, "oos"])}
    for part, count in (("train", 3), ("val", 2), ("test", 2)):
        arrays[f"{part}_text"] = lines(*(f"{part} text\u2028{i}" for i in range(count)))
        arrays[f"{part}_label"] = np.arange(count, dtype=np.uint8)
    np.savez(folder / "clinc150.npz", **(arrays | changes))
    return folder


def test_intents(tmp_path: Path) -> None:
    data = clinc150(write_intents(tmp_path))
    assert data.validation is not None
    assert [len(part) for part in (data.train, data.validation, data.test)] == [3, 2, 2]
    assert (len(data.classes), data.classes[-1]) == (150, "yes")
    # other ends of lines are part of a text
    assert data.train.texts[2] == "train text\u20282"
    assert data.train.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_text": lines("one", "two")}, "one label per text, and at least one; got 2 texts and 3 labels"),
        ({"test_text": np.array([0x66, 0xFF], np.uint8)}, r"test_text of .* must be UTF-8"),
        ({"val_label": np.array([0, 150], np.uint8)}, r"validation labels must lie in 0 \.\.\. 149; got 0 \.\.\. 150"),
        ({"class_names": np.array(["one"])}, "must begin with the 150 intents"),
        ({"class_names": np.arange(151)}, "class_names must be text with one dimension; got int64"),
        ({"train_label": np.arange(3)}, "train_label must be uint8"),
    ],
)
def test_intents_refuse_damage(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clinc150(write_intents(tmp_path, **changes))


def write_mails(folder: Path, **changes: np.ndarray) -> Path:
    arrays = {
        "text": lines(*(f"mail {i}" for i in range(12))),
        "label": np.array([0] * 7 + [1] * 5, np.uint8),
        "group": np.array([0, 3, 0, 3, 0, 0, 0, 0, 3, 3, 3, 3], np.uint8),
    }
    np.savez(folder / "spam_assassin.npz", **(arrays | changes))
    return folder


def test_every_fifth_mail_of_a_group_is_the_test_part(tmp_path: Path) -> None:
    data = spam_assassin(write_mails(tmp_path))
    # group 0 has mails 0 2 4 5 6 7, group 3 has mails 1 3 8 9 10 11; numbers 0 and 5 of each
    assert data.test.texts == ("mail 0", "mail 1", "mail 7", "mail 11")
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert len(data.train) == 8
    assert data.validation is None


def test_mails_refuse_damage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a group for each label; got 3 and 12"):
        spam_assassin(write_mails(tmp_path, group=np.zeros(3, np.uint8)))
    with pytest.raises(ValueError, match="one label per text"):
        spam_assassin(write_mails(tmp_path, text=lines("one")))


@pytest.mark.parametrize("read", [clinc150, spam_assassin])
def test_missing_files_say_what_is_expected(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(FileNotFoundError, match=rf"{read.__name__}: needs .*\.npz, but the folder .* lacks it"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(tmp_path / "nowhere")


def test_texts_of_classes() -> None:
    with pytest.raises(ValueError, match="at least one; got 0 texts"):
        LabelledTexts((), torch.empty(0, dtype=torch.int64))
    assert lines_of("x", lines("", "", "a")) == ("", "", "a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't pay $5!", ["don", "'", "t", "pay", "$", "5", "!"]),
        ("GRÖßE  snake_case\t4.5", ["größe", "snake_case", "4", ".", "5"]),
        ("", []),
        (" \n", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_vocabulary_by_frequency_then_alphabet() -> None:
    texts = ("b a c", "c b", "c d d")
    assert Vocabulary.of(texts, size=10).words == ("c", "b", "d", "a")
    assert Vocabulary.of(texts, size=2).words == ("c", "b")
    assert Vocabulary.of(texts, size=10, least=2).words == ("c", "b", "d")


def test_encoding_cuts_and_fills() -> None:
    vocabulary = Vocabulary(("yes", "no"))
    assert len(vocabulary) == 5
    encoded = vocabulary.encode(["No yes maybe yes", "yes", ""], 4)
    assert encoded.dtype == torch.int64
    assert encoded.tolist() == [[START, 4, 3, UNKNOWN], [START, 3, PADDING, PADDING], [START] + [PADDING] * 3]
    assert vocabulary.encode([], 4).shape == (0, 4)


def test_vocabularies_refuse_what_leaves_nothing() -> None:
    with pytest.raises(ValueError, match="no word occurs 2 times in 1 texts"):
        Vocabulary.of(["a b"], size=3, least=2)
    with pytest.raises(ValueError, match="size and least must be at least 1; got 0 and 1"):
        Vocabulary.of(["a"], size=0)
    with pytest.raises(ValueError, match="length must be at least 2"):
        Vocabulary(("a",)).encode(["a"], 1)


@pytest.mark.data
def test_real_texts(real_data: Callable[[str], Path]) -> None:
    intents = clinc150(real_data("clinc150_intents"))
    for part, each in ((intents.train, 100), (intents.validation, 20), (intents.test, 30)):
        assert part is not None
        assert part.labels.bincount().tolist() == [each] * 150
    assert intents.classes[intents.train.labels[0]] == "translate"
    mails = spam_assassin(real_data("spam_assassin"))
    assert len(mails.train) + len(mails.test) == 6046
    assert mails.test.labels.bincount().tolist() == [830, 380]
