# SPDX-License-Identifier: Apache-2.0
"""Codes: which numbers a quantized weight or input may be, as data.

A code is a grid of whole numbers, `levels` of them from `low` to `high`, `step` apart. What they stand for is

    real = (number - zero_point) * scale

with one scale for the whole tensor, for an output channel, for a group of inputs or for a block of weights.

Products of signs are what the kernels count, so every grid is also a sum of planes of signs s_i in {-1, +1}:

    number = (low + high) / 2 + step / 2 * sum_i f_i s_i        f = 1, 2, 4, ..., and last what levels - 1 still lacks

Signs are one plane. Ternary numbers are (s_0 + s_1) / 2, two planes of factor 1. 2^k levels are k planes of factors
1, 2, ..., 2^(k - 1). Where the last factor is smaller than that, some numbers have two spellings; the one in use has
the last sign at -1 wherever the planes before it reach the number: a ternary 0 is s_0 = +1, s_1 = -1, never the other
way round.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


class ScaleShape(ABC):
    """Which weights share a scale."""

    @abstractmethod
    def shape(self, weight: Sequence[int]) -> tuple[int, ...]:
        """Shape of the scales of a weight [out, in / groups, *kernel]; those of channels broadcast to the weight."""

    def holds(self, scale: Tensor | None, weight: Sequence[int]) -> bool:
        """Whether these are scales of this shape, or one for the whole tensor (None: 1)."""
        return scale is None or scale.ndim == 0 or tuple(scale.shape) == self.shape(weight)


@dataclass(frozen=True)
class PerTensor(ScaleShape):
    """One scale for all: 0 dims."""

    def shape(self, weight: Sequence[int]) -> tuple[int, ...]:
        return ()


@dataclass(frozen=True)
class PerOutputChannel(ScaleShape):
    """One scale for what makes one output: [out, 1, ...]."""

    def shape(self, weight: Sequence[int]) -> tuple[int, ...]:
        return (weight[0], *(1,) * (len(weight) - 1))


@dataclass(frozen=True)
class PerInputGroup(ScaleShape):
    """One scale for `size` neighbouring inputs of an output: [out, ceil(in / groups / size), *kernel]."""

    size: int

    def shape(self, weight: Sequence[int]) -> tuple[int, ...]:
        return (weight[0], -(-weight[1] // self.size), *weight[2:])


@dataclass(frozen=True)
class PerBlock(ScaleShape):
    """One scale for `size` neighbouring weights in row order: [ceil(weights / size)]."""

    size: int

    def shape(self, weight: Sequence[int]) -> tuple[int, ...]:
        return (-(-torch.Size(weight).numel() // self.size),)


STORED = (torch.uint8, torch.int8, torch.int16, torch.int32)
"""Types in which numbers of a code may be stored, the smallest first."""


BLOCK = 2**16
"""Numbers of a weight that are looked at at once, so that what is worked out on the way stays in the cache."""


class Code(ABC):
    """A grid of whole numbers; two codes are the same where their fields are."""

    low: int
    high: int
    step: int
    """Difference of neighbours."""
    zero_point: int
    """The number that stands for 0."""
    scale: ScaleShape

    @property
    def values(self) -> range:
        """All numbers, ascending."""
        return range(self.low, self.high + 1, self.step)

    @property
    def levels(self) -> int:
        """How many numbers."""
        return len(self.values)

    @property
    def bits(self) -> int:
        """Bits of one number, which is also how many planes of signs it is."""
        return (self.levels - 1).bit_length()

    @property
    def dtype(self) -> torch.dtype:
        """The smallest type of torch that holds all numbers."""
        for dtype in STORED:
            limits = torch.iinfo(dtype)
            if limits.min <= self.low and self.high <= limits.max:
                return dtype
        raise ValueError(f"{self}: its numbers do not fit int32; scale them down")

    def contains(self, numbers: Tensor) -> bool:
        """Whether all entries are numbers of this code."""
        blocks = torch.split(numbers.reshape(-1), BLOCK) if numbers.numel() else ()
        if self.levels > 2:
            return all(map(self._has, blocks))
        # Of a code of two: as float32, which torch compares several times faster than it makes a mask.
        lows, highs = numbers.new_empty((2, min(BLOCK, numbers.numel())), dtype=torch.float32)
        for block in blocks:
            low, high = lows[: len(block)], highs[: len(block)]
            torch.eq(block, self.low, out=low)
            torch.eq(block, self.high, out=high)
            if float(low.add_(high).min()) != 1.0:
                return False
        return True

    def _has(self, numbers: Tensor) -> bool:
        """The same of a few numbers, of any code."""
        least, most = numbers.aminmax()
        if not (bool(least >= self.low) and bool(most <= self.high)):  # neither holds of NaN
            return False
        whole = numbers.to(torch.int64)
        on_grid = bool((whole == numbers).all())
        return on_grid and (self.step == 1 or bool(((whole - self.low) % self.step == 0).all()))

    # -- as planes of signs

    @property
    def plane_factors(self) -> tuple[int, ...]:
        """f_i of each plane, whose sum is levels - 1."""
        before = tuple(1 << i for i in range(self.bits - 1))
        return (*before, self.levels - 1 - sum(before))

    def to_planes(self, numbers: Tensor) -> Iterator[Tensor]:
        """The planes of numbers of this code, one by one, each of their shape: bool, whether the sign is +1.

        The caller has asked `contains`.
        """
        if self.bits == 1:
            yield numbers == self.high
            return
        *before, last = self.plane_factors
        rest = ((numbers - self.low) / self.step).to(torch.int32)
        rest = torch.where(rest > sum(before), rest - last | 1 << len(before), rest)
        for i in range(self.bits):
            yield (rest >> i & 1).bool()

    @property
    def redundant(self) -> bool:
        """Whether planes can spell some number in two ways."""
        return self.levels != 1 << self.bits

    def spells(self, planes: Tensor) -> bool:
        """Whether these planes, bool [planes, ...], are what `to_planes` makes of some numbers."""
        if not self.redundant:
            return True
        *before, last = self.plane_factors
        lower = torch.zeros_like(planes[0], dtype=torch.int32)
        for plane, factor in zip(planes, before, strict=False):
            lower += plane * factor
        return not bool((planes[-1] & (lower <= sum(before) - last)).any())


@dataclass(frozen=True)
class Signs(Code):
    """{-1, +1}; sign(0) = +1."""

    scale: ScaleShape = PerOutputChannel()
    low: int = field(default=-1, init=False, repr=False)
    high: int = field(default=1, init=False, repr=False)
    step: int = field(default=2, init=False, repr=False)
    zero_point: int = field(default=0, init=False, repr=False)


@dataclass(frozen=True)
class Ones(Code):
    """{+1}: what an offset multiplies. No bits, and no planes."""

    scale: ScaleShape = PerOutputChannel()
    low: int = field(default=1, init=False, repr=False)
    high: int = field(default=1, init=False, repr=False)
    step: int = field(default=1, init=False, repr=False)
    zero_point: int = field(default=0, init=False, repr=False)

    @property
    def plane_factors(self) -> tuple[int, ...]:
        return ()

    def contains(self, numbers: Tensor) -> bool:
        return bool((numbers == 1).all())

    def to_planes(self, numbers: Tensor) -> Iterator[Tensor]:
        return iter(())


@dataclass(frozen=True)
class Ternary(Code):
    """{-1, 0, +1}."""

    scale: ScaleShape = PerOutputChannel()
    low: int = field(default=-1, init=False, repr=False)
    high: int = field(default=1, init=False, repr=False)
    step: int = field(default=1, init=False, repr=False)
    zero_point: int = field(default=0, init=False, repr=False)


@dataclass(frozen=True)
class Integers(Code):
    """{low, low + step, ..., high}.

    Errors: ValueError where `high` is no number of the grid above `low`, or `step` is below 1.
    """

    low: int
    high: int
    step: int = 1
    zero_point: int = 0
    scale: ScaleShape = PerOutputChannel()

    def __post_init__(self) -> None:
        if self.step < 1 or self.high <= self.low or (self.high - self.low) % self.step:
            raise ValueError(
                f"Integers: high must lie a multiple of step above low; got low={self.low}, high={self.high}, "
                f"step={self.step}"
            )


@dataclass(frozen=True)
class Reals:
    """No grid: float32, as it is."""

    bits: int = field(default=32, init=False, repr=False)


@dataclass(frozen=True)
class Floats(Reals):
    """No grid of whole numbers, but floats of few bits, as a method rounds them: packed as the float32 they are."""

    bits: int = 8
    """Of one number, without an exponent that it shares."""
    name: str = "floats"
    scale: ScaleShape = PerTensor()

    def contains(self, numbers: Tensor) -> bool:
        """Whether they are numbers at all: which of them a format has, its method knows."""
        return bool(torch.isfinite(numbers).all())


def odd_integers(bits: int, scale: ScaleShape = PerOutputChannel()) -> Code:
    """The 2^bits odd numbers about 0: signs for 1 bit, then {-3, -1, 1, 3}, ...: what is no 0 in as few bits."""
    top = 2**bits - 1
    return Signs(scale) if bits == 1 else Integers(-top, top, 2, scale=scale)


def symmetric(levels: int) -> Code:
    """The grid of so many whole numbers, as small as can be, that is its own mirror image: signs, ternary numbers,
    {-3, -1, 1, 3}, {-2, ..., 2}, ...: odd numbers where there are evenly many of them.

    Raises: ValueError for fewer than two levels.
    """
    if levels < 2:
        raise ValueError(f"symmetric: levels must be at least 2; got {levels}")
    if levels == 3:
        return Ternary()
    if levels % 2:
        return Integers(-(levels // 2), levels // 2)
    return Signs() if levels == 2 else Integers(1 - levels, levels - 1, 2)
