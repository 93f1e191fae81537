# SPDX-License-Identifier: Apache-2.0
"""Texts as numbers of words, by a plain rule and a vocabulary of the training part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PADDING, UNKNOWN, START = 0, 1, 2
"""Numbers that stand for no word: behind the end, a word that is not in the vocabulary, the beginning of each text."""
SPECIAL = 3
TOKEN = re.compile(r"\w+|[^\w\s]")


def words_of(text: str) -> list[str]:
    r"""Runs of letters, digits and "_" in lower case, and every other character but white space by itself.

    "Don't pay $5!" -> don ' t pay $ 5 !
    """
    return TOKEN.findall(text.lower())


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Word number i + SPECIAL is `words[i]`."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[str], *, size: int, least: int = 1) -> Vocabulary:
        """The words that occur at least `least` times, the most frequent first (ties by the alphabet), `size` at most.

        Raises: ValueError for size or least below 1, and where no word is left.
        """
        if size < 1 or least < 1:
            raise ValueError(f"Vocabulary: size and least must be at least 1; got {size} and {least}")
        counts = Counter(word for text in texts for word in words_of(text))
        found = sorted((word for word, count in counts.items() if count >= least), key=lambda w: (-counts[w], w))
        if not found:
            raise ValueError(f"Vocabulary: no word occurs {least} times in {len(texts)} texts; give other texts")
        return cls(tuple(found[:size]))

    def __len__(self) -> int:
        """How many numbers there are, those of no word included."""
        return len(self.words) + SPECIAL

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """int64 [len(texts), length]: START, then the words, cut at `length` or filled with PADDING.

        Raises: ValueError for a length below 2.
        """
        if length < 2:
            raise ValueError(f"Vocabulary: length must be at least 2, the start and a word; got {length}")
        number = {word: i for i, word in enumerate(self.words, SPECIAL)}
        rows = torch.full((len(texts), length), PADDING, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            found = [START, *(number.get(word, UNKNOWN) for word in words_of(text)[: length - 1])]
            row[: len(found)] = torch.tensor(found)
        return rows
