# SPDX-License-Identifier: Apache-2.0
"""What is worked out once per code table, and again after the table was changed in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

T = TypeVar("T")


class PerTable(Generic[T]):
    """A function of a table that remembers its results for the tables that live now.

    An address alone could belong to another table by now, so they are kept by tensor and version.
    """

    def __init__(self, make: Callable[[Tensor], T]) -> None:
        self._make = make
        self._known = WeakTensorKeyDictionary()

    def __call__(self, code: Tensor) -> T:
        if code.is_inference():
            return self._make(code)  # it does not count its changes
        version, result = self._known.get(code, (None, None))  # type: ignore[no-untyped-call]
        if version != code._version:
            result = self._make(code)
            self._known[code] = (code._version, result)
        found: T = result
        return found
