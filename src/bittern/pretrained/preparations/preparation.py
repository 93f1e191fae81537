# SPDX-License-Identifier: Apache-2.0
"""How a raw example becomes the input of a network, as data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor


class Prepared(NamedTuple):
    """An input."""

    x: Tensor
    """A batch of one."""
    size: tuple[int, int] | None = None
    """Of the raw picture: width and height, in pixels."""


class Preparation(ABC):
    """One kind of raw examples.

    kind: its name in files. takes: what a raw example is, for readers. shape: of an input, without the batch.
    """

    kind: ClassVar[str]
    takes: ClassVar[str]
    shape: tuple[int, ...]

    @abstractmethod
    def __call__(self, raw: Any) -> Prepared:
        """Raises: TypeError, ValueError for what is no such example; FileNotFoundError."""

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """All there is to know, as JSON has it."""

    @classmethod
    @abstractmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """What `settings` gave, from a file. Raises: ValueError."""

    def refuse(self, raw: Any) -> TypeError:
        """The error of a raw example of another type."""
        return TypeError(f"prepare: a raw example is {self.takes}; got {type(raw).__name__}")
