# SPDX-License-Identifier: Apache-2.0
"""A model whose sizes a call chooses, as it was prepared for the last choices."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from bittern.deploy.named_sizes import Sizes

if TYPE_CHECKING:
    from bittern.deploy.packed import Packed

MOST_KEPT = 16
"""Choices of sizes for which a model stays prepared; those that were not used for longest go."""


class FixedModels:
    """Keeps the models that were made for some sizes. Any number of threads may call."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, ...], Packed] = OrderedDict()
        """By sizes in the order of their names, the last used ones last."""
        self._lock = threading.Lock()

    def at(self, sizes: Sizes, make: Callable[[Sizes], Packed]) -> Packed:
        """The model for these sizes, in the order of the program; make: what makes one where they are new."""
        key = tuple(sizes.values())
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        made = make(sizes)  # others go on meanwhile; where two threads make the same, the first one counts
        with self._lock:
            found = self._kept.setdefault(key, made)
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return found

    def clear(self) -> None:
        """Forget them all; calls that run go on."""
        with self._lock:
            self._kept.clear()
