# SPDX-License-Identifier: Apache-2.0
"""Observers: which range low <= 0 <= high a value of a network shall have, from the numbers it takes on real inputs.

An observer sees tensors of any shape and gives one range. `merge` adds what the observer of another replica has seen.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from bittern.ptq.histogram import Bins, Histogram
from bittern.ptq.range_search import least_divergence, least_squares_range
from bittern.ptq.steps import check_bits

PER_OCTAVE_FOR_ERRORS = 128
"""Bins of an octave where errors are integrated over bins, which needs no fine ones."""


class Observer(ABC):
    """What all observers have: `see` tensors, then ask for the `range`."""

    def __init__(self) -> None:
        self.calls = 0
        """How many tensors it has seen."""

    def see(self, x: Tensor) -> None:
        """Takes account of x, of any shape, in float32.

        Raises: TypeError for integers; ValueError for a tensor without numbers, and one with NaN or infinity.
        """
        name = type(self).__name__
        if not x.is_floating_point():
            raise TypeError(f"{name}: x must be floating point; got {x.dtype}")
        if x.numel() == 0:
            raise ValueError(f"{name}: x must hold at least one number; got shape {list(x.shape)}")
        x = x.detach().float()
        if not math.isfinite(float(x.abs().max())):
            raise ValueError(
                f"{name}: x must be finite in float32; {int((~x.isfinite()).sum())} of {x.numel()} are not"
            )
        self._see(x)
        self.calls += 1

    def range(self) -> tuple[float, float]:
        """low <= 0 <= high. Raises: RuntimeError where it has seen nothing."""
        if self.calls == 0:
            raise RuntimeError(f"{type(self).__name__}: has seen no tensor; call see() with calibration data first")
        low, high = self._range()
        return min(low, 0.0), max(high, 0.0)

    def merge(self, other: Observer) -> None:
        """Adds what another observer of the same class and options has seen; the other stays as it is.

        Raises: TypeError for another class, ValueError for other options.
        """
        if type(other) is not type(self):
            raise TypeError(f"{type(self).__name__}: merges with its own class; got {type(other).__name__}")
        if other.options() != self.options():
            raise ValueError(f"{type(self).__name__}: has options {self.options()}; the other has {other.options()}")
        if other.calls:
            self._merge(other)
            self.calls += other.calls

    @abstractmethod
    def options(self) -> dict[str, object]:
        """The options that it was made with."""

    @abstractmethod
    def _see(self, x: Tensor) -> None: ...

    @abstractmethod
    def _range(self) -> tuple[float, float]: ...

    @abstractmethod
    def _merge(self, other: Self) -> None: ...


class MinMax(Observer):
    """The least and the largest number that was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = math.inf, -math.inf

    def options(self) -> dict[str, object]:
        return {}

    def _see(self, x: Tensor) -> None:
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))

    def _range(self) -> tuple[float, float]:
        return self.low, self.high

    def _merge(self, other: Self) -> None:
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


class MovingAverage(Observer):
    """Moving averages of the least and of the largest number of each tensor seen.

    The first tensor starts both; then a = decay * a + (1 - decay) * that of the tensor. Replicas merge by the mean,
    weighted by how many tensors each has seen.
    Source: Jacob et al., arXiv:1712.05877, section 3.1, which asks for a decay near 1.
    """

    def __init__(self, *, decay: float = 0.9) -> None:
        """Raises: ValueError for a decay outside [0, 1)."""
        super().__init__()
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"MovingAverage: decay must lie in [0, 1); got {decay!r}")
        self.decay = decay
        self.low, self.high = 0.0, 0.0

    def options(self) -> dict[str, object]:
        return {"decay": self.decay}

    def _see(self, x: Tensor) -> None:
        kept = self.decay if self.calls else 0.0
        self.low = kept * self.low + (1.0 - kept) * float(x.min())
        self.high = kept * self.high + (1.0 - kept) * float(x.max())

    def _range(self) -> tuple[float, float]:
        return self.low, self.high

    def _merge(self, other: Self) -> None:
        share = other.calls / (self.calls + other.calls)
        self.low += share * (other.low - self.low)
        self.high += share * (other.high - self.high)


class _FromHistogram(Observer):
    """Observers that keep a `Histogram` of all numbers, of at most 4 MB."""

    def __init__(self) -> None:
        super().__init__()
        self.histogram = Histogram()

    def _see(self, x: Tensor) -> None:
        self.histogram.add(x)

    def _merge(self, other: Self) -> None:
        self.histogram.merge(other.histogram)


class Percentile(_FromHistogram):
    """The range that leaves 1 - share of all numbers out at either end: quantiles 1 - share and share.

    A quantile is found in the histogram, evenly within its bin, so its error is at most 1/1024 of it. A share of 1 is
    `MinMax`.
    Source: Li et al., Fully Quantized Network for Object Detection, CVPR 2019, with share 0.999.
    """

    def __init__(self, *, share: float = 0.9999) -> None:
        """Raises: ValueError for a share outside [0.5, 1]."""
        super().__init__()
        if not 0.5 <= share <= 1.0:
            raise ValueError(f"Percentile: share must lie in [0.5, 1]; got {share!r}")
        self.share = share

    def options(self) -> dict[str, object]:
        return {"share": self.share}

    def _range(self) -> tuple[float, float]:
        bins = self.histogram.bins()
        mirrored = Bins(-bins.high.flip(0), -bins.low.flip(0), bins.counts.flip(0))
        return -_quantile(mirrored, self.share), _quantile(bins, self.share)


class LeastSquares(_FromHistogram):
    """The range with the least squared error of the numbers on a grid of `bits` bits (`range_search`).

    symmetric: the grid is symmetric about 0, its zero the integer 0.
    """

    def __init__(self, *, bits: int = 8, symmetric: bool = False) -> None:
        """Raises: ValueError for bits outside 2 ... 8."""
        super().__init__()
        check_bits("LeastSquares", bits)
        self.bits, self.symmetric = bits, symmetric

    def options(self) -> dict[str, object]:
        return {"bits": self.bits, "symmetric": self.symmetric}

    def _range(self) -> tuple[float, float]:
        return least_squares_range(self.histogram.bins(PER_OCTAVE_FOR_ERRORS), bits=self.bits, symmetric=self.symmetric)


class KullbackLeibler(_FromHistogram):
    """The threshold on |x| that changes the distribution of |x| least, as TensorRT calibrates (`range_search`).

    The range is -threshold ... threshold, cut at the least and the largest number. Magnitudes have 2^(bits-1) levels;
    where no number is negative and the grid is not symmetric, 2^bits.
    """

    def __init__(self, *, bits: int = 8, symmetric: bool = False) -> None:
        """Raises: ValueError for bits outside 2 ... 8."""
        super().__init__()
        check_bits("KullbackLeibler", bits)
        self.bits, self.symmetric = bits, symmetric

    def options(self) -> dict[str, object]:
        return {"bits": self.bits, "symmetric": self.symmetric}

    def _range(self) -> tuple[float, float]:
        counts, width = self.histogram.magnitudes()
        low, high = self.histogram.low, self.histogram.high
        one_sided = not self.symmetric and (low >= 0.0 or high <= 0.0)
        threshold = least_divergence(counts, 2 ** (self.bits if one_sided else self.bits - 1)) * width
        if self.symmetric:
            threshold = min(threshold, max(-low, high))
            return -threshold, threshold
        return max(low, -threshold), min(high, threshold)


def _quantile(bins: Bins, share: float) -> float:
    """The number that `share` of all numbers do not exceed; bins in ascending order."""
    sums = bins.counts.cumsum(0)
    wanted = share * float(sums[-1])
    i = min(int(torch.searchsorted(sums, wanted)), sums.numel() - 1)
    inside = (wanted - float(sums[i] - bins.counts[i])) / float(bins.counts[i])
    return float(bins.low[i] + (bins.high[i] - bins.low[i]) * inside)


OBSERVERS: dict[str, type[Observer]] = {
    "min_max": MinMax,
    "moving_average": MovingAverage,
    "percentile": Percentile,
    "least_squares": LeastSquares,
    "kullback_leibler": KullbackLeibler,
}
"""Every observer, by the name that commands have for it."""
