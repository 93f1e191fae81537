# SPDX-License-Identifier: Apache-2.0
"""How a DDNN puts together what several devices see (Teerapittayanon, McDanel, Kung, ICDCS 2017).

Scores [batch, classes] and features [batch, channels, height, width] are put together alike, along dimension 1.
A device that is away leaves None in its place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NO_SIGN = -1.0
"""Features of a device that is away, where each has a place: what changes no maximum of signs."""
NO_SCORE = 0.0
"""Scores of one that is away: what a norm makes of an average example."""


class Aggregation(ABC):
    """Puts the parts of several devices together; the parts of those that are away are None."""

    name: str
    """As the paper abbreviates it."""
    keeps_size: bool
    """Whether the result has the size of one part."""

    @abstractmethod
    def channels(self, each: int, devices: int) -> int:
        """Size of dimension 1 of the result, where each part has `each`."""

    @abstractmethod
    def __call__(self, parts: Sequence[Tensor | None], away: float) -> Tensor:
        """parts: one of each device, all of one shape. away: the number that stands where a part is missing.

        Raises: ValueError where all are missing.
        """


@dataclass(frozen=True)
class MaxPooling(Aggregation):
    """MP: the largest, element by element, over the devices that are there."""

    name = "MP"
    keeps_size = True

    def channels(self, each: int, devices: int) -> int:
        return each

    def __call__(self, parts: Sequence[Tensor | None], away: float) -> Tensor:
        there = present(parts)
        return there[0] if len(there) == 1 else torch.stack(there).amax(0)


@dataclass(frozen=True)
class AveragePooling(Aggregation):
    """AP: the mean, element by element, over the devices that are there."""

    name = "AP"
    keeps_size = True

    def channels(self, each: int, devices: int) -> int:
        return each

    def __call__(self, parts: Sequence[Tensor | None], away: float) -> Tensor:
        there = present(parts)
        return there[0] if len(there) == 1 else torch.stack(there).mean(0)


@dataclass(frozen=True)
class Concatenation(Aggregation):
    """CC: one behind the other, in the order of the devices; `away` where one is missing."""

    name = "CC"
    keeps_size = False

    def channels(self, each: int, devices: int) -> int:
        return each * devices

    def __call__(self, parts: Sequence[Tensor | None], away: float) -> Tensor:
        like = present(parts)[0]
        return torch.cat([torch.full_like(like, away) if part is None else part for part in parts], 1)


ALL: tuple[Aggregation, ...] = (MaxPooling(), AveragePooling(), Concatenation())
"""The three of the paper."""


def present(parts: Sequence[Tensor | None]) -> list[Tensor]:
    """The parts that are there. Raises: ValueError without any."""
    there = [part for part in parts if part is not None]
    if not there:
        raise ValueError("aggregation: needs the part of at least one device; all are missing")
    return there
