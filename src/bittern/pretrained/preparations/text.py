# SPDX-License-Identifier: Apache-2.0
"""Texts: numbers of words, by the vocabulary of the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from bittern.data.words import Vocabulary, words_of
from bittern.pretrained.fields import only, text, whole
from bittern.pretrained.preparations.preparation import Preparation, Prepared


@dataclass(frozen=True)
class TextPreparation(Preparation):
    """`Vocabulary.encode` of one text: a start, then its words, cut or filled to `length` numbers.

    Raises: ValueError for a length below 2, a word twice, or one that is none (`words_of`).
    """

    vocabulary: Vocabulary
    length: int

    kind: ClassVar[str] = "text"
    takes: ClassVar[str] = "a text"

    def __post_init__(self) -> None:
        words = self.vocabulary.words
        if self.length < 2 or not words or len(set(words)) != len(words):
            raise ValueError(
                f"text: needs a length of at least 2 and words that differ; got {self.length} and {len(words)} words, "
                f"{len(set(words))} different ones"
            )
        other = next((word for word in words if words_of(word) != [word]), None)
        if other is not None:
            raise ValueError(f"text: {other!r} of the vocabulary is no word that a text can have")

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.length,)

    def __call__(self, raw: Any) -> Prepared:
        if not isinstance(raw, str):
            raise self.refuse(raw)
        return Prepared(self.vocabulary.encode([raw], self.length))

    def settings(self) -> Mapping[str, Any]:
        # no word holds white space
        return {"length": self.length, "words": " ".join(self.vocabulary.words)}

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        only(settings, ("length", "words"), "text")
        words = tuple(text(settings["words"], "text: words").split(" "))
        return cls(Vocabulary(words), whole(settings["length"], "text: length", 2))
