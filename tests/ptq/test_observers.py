# SPDX-License-Identifier: Apache-2.0
"""Observers: ranges worked by hand or by plain loops, inputs at the edges, and what must not be seen."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bittern.ptq import OBSERVERS, KullbackLeibler, LeastSquares, MinMax, MovingAverage, Observer, Percentile
from bittern.ptq.histogram import Bins, Histogram
from bittern.ptq.range_search import divergences, least_divergence, squared_error
from bittern.ptq.steps import dequantize, input_limits, quantize, scale_and_zero

ALL = tuple(OBSERVERS.values())


def _normal(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def _range_of(observer: Observer, *seen: Tensor) -> tuple[float, float]:
    for x in seen:
        observer.see(x)
    return observer.range()


def test_ranges_of_few_numbers() -> None:
    assert _range_of(MinMax(), torch.tensor([3.0, -1.5]), torch.tensor(4.0)) == (-1.5, 4.0)
    assert _range_of(MovingAverage(decay=0.5), torch.tensor([-2.0, 4.0]), torch.tensor([0.0, 8.0])) == (-1.0, 6.0)
    hundred = torch.arange(101.0)
    low, high = _range_of(Percentile(share=0.9), hundred)
    assert low == 0.0  # it lies at 10, and 0 belongs to every range
    assert high == pytest.approx(90.0, rel=2 / 1024)
    low, high = _range_of(Percentile(share=0.9), hundred - 50)
    assert (low, high) == (pytest.approx(-40.0, rel=2 / 1024), pytest.approx(40.0, rel=2 / 1024))
    assert _range_of(Percentile(share=1.0), hundred) == (0.0, 100.0)


@pytest.mark.parametrize("make", ALL)
def test_edges(make: Callable[[], Observer]) -> None:
    assert _range_of(make(), torch.zeros(7)) == (0.0, 0.0)
    assert _range_of(make(), torch.tensor(-0.0)) == (0.0, 0.0)
    for constant in (3.0, 1e-42, 3e38):
        number = float(torch.tensor(constant))
        for sign in (1.0, -1.0):
            low, high = _range_of(make(), torch.full((5, 3), sign * number))
            ends = (low, high) if sign > 0 else (-high, -low)
            assert ends[0] == 0.0
            assert ends[1] == pytest.approx(number, rel=0.01, abs=0.0), sign
    x = torch.tensor([-1.0, 2.0, 3.0e38, -1e-40], dtype=torch.float64)
    assert all(math.isfinite(end) for end in _range_of(make(), x, torch.zeros(2, 3)))
    assert _range_of(make(), torch.tensor([1.0, 2.0]).bfloat16())[1] == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("make", ALL)
def test_refusals(make: Callable[[], Observer]) -> None:
    observer = make()
    with pytest.raises(RuntimeError, match="has seen no tensor"):
        observer.range()
    for wrong in (torch.tensor([1.0, math.nan]), torch.tensor([math.inf]), torch.tensor([1e300], dtype=torch.float64)):
        with pytest.raises(ValueError, match=f"finite in float32; 1 of {wrong.numel()}"):
            observer.see(wrong)
    with pytest.raises(ValueError, match="at least one number"):
        observer.see(torch.zeros(0, 3))
    with pytest.raises(TypeError, match="floating point"):
        observer.see(torch.ones(3, dtype=torch.int8))
    with pytest.raises(RuntimeError, match="has seen no tensor"):
        observer.range()  # what was refused left nothing behind
    with pytest.raises(TypeError, match="merges with its own class"):
        observer.merge(Percentile() if make is not Percentile else MinMax())


def test_refused_options() -> None:
    for make, match in (
        (lambda: MovingAverage(decay=1.0), "decay"),
        (lambda: Percentile(share=0.4), "share"),
        (lambda: Percentile(share=math.nan), "share"),
        (lambda: LeastSquares(bits=9), "bits"),
        (lambda: KullbackLeibler(bits=1), "bits"),
    ):
        with pytest.raises(ValueError, match=match):
            make()
    with pytest.raises(ValueError, match="options"):
        LeastSquares(bits=4).merge(LeastSquares(bits=8))


@pytest.mark.parametrize("make", [MinMax, Percentile, KullbackLeibler])
def test_order_and_replicas_do_not_matter(make: Callable[[], Observer]) -> None:
    parts = [_normal(2000), 1000 * _normal(3, 1), torch.zeros(100), 1e-3 * _normal(500, 2)]
    one = _range_of(make(), *parts)
    assert _range_of(make(), *parts[::-1]) == one
    first, second = make(), make()
    first.see(parts[0])
    for x in parts[1:]:
        second.see(x)
    first.merge(second)
    first.merge(make())  # one that has seen nothing
    assert first.range() == one


def test_replicas_of_averages() -> None:
    first, second = MovingAverage(), MovingAverage()
    first.see(torch.tensor([0.0, 4.0]))
    second.see(torch.tensor([-3.0, 1.0]))
    second.see(torch.tensor([-3.0, 1.0]))
    first.merge(second)
    assert first.range() == (-2.0, pytest.approx(2.0))


def test_an_outlier_costs_no_resolution() -> None:
    x = _normal(100_000)
    _, alone = _range_of(Percentile(share=0.99), x)
    _, beside = _range_of(Percentile(share=0.99), x, torch.tensor([1e30, -1e30]))
    assert alone == pytest.approx(2.326, rel=0.02)
    assert beside == pytest.approx(alone, rel=2e-3)


def test_histogram_is_exact_and_small() -> None:
    x = torch.cat([_normal(800), torch.tensor([0.0, -0.0, 1e-45, -3e38, 2.0**-126])])
    histogram = Histogram()
    histogram.add(x)
    bins = histogram.bins()
    assert float(bins.counts.sum()) == x.numel()
    wide = x.double()
    inside = (
        (wide[:, None] >= bins.low) & (wide[:, None] <= bins.high) & ((wide[:, None] != 0) | (bins.low == bins.high))
    )
    assert (inside.sum(0) >= bins.counts).all()
    assert (inside.sum(1) >= 1).all()
    assert (bins.low[1:] >= bins.high[:-1]).all()
    assert float(histogram.bins(4).counts.sum()) == x.numel()
    assert sum(counts.numel() * 8 for counts in histogram.octaves.values()) < 2**22


@pytest.mark.parametrize("symmetric", [False, True])
def test_error_of_bins_is_that_of_numbers(symmetric: bool) -> None:
    """Numbers that lie evenly in their bins: the integral equals the plain sum of errors."""
    x = torch.linspace(-1.9, 5.3, 40_001, dtype=torch.float64)
    histogram = Histogram()
    histogram.add(x.float())
    for low, high in ((-1.9, 5.3), (-1.0, 2.0), (-0.1, 0.3), (0.0, 4.0)):
        scale, zero = scale_and_zero(low, high, bits=3, symmetric=symmetric)
        error = dequantize(quantize(x, scale, zero, input_limits(3)), scale, zero).double() - x
        found = squared_error(histogram.bins(128), low, high, bits=3, symmetric=symmetric)
        assert found == pytest.approx(float((error**2).sum()), rel=1e-3)
    lone = Bins(*(torch.tensor([v], dtype=torch.float64) for v in (0.3, 0.3, 2.0)))
    assert squared_error(lone, -1.0, 1.0, bits=2, symmetric=True) == pytest.approx(2 * 0.3**2)


@pytest.mark.parametrize(("bits", "step"), [(2, 1.224), (3, 0.749), (4, 0.403)])
def test_least_squares_of_a_normal_distribution(bits: int, step: float) -> None:
    """Steps close to a search by plain sums over the very numbers; 4 bits within 1 % in error of every other step."""
    x = _normal(200_000)
    low, high = _range_of(LeastSquares(bits=bits, symmetric=True), x)
    limits = input_limits(bits)

    def error(s: float) -> float:
        return float(((x / s).round().clamp(*limits) * s - x).square().mean())

    found = scale_and_zero(low, high, bits=bits, symmetric=True)[0]
    best = min(error(step * (0.7 + 0.02 * i)) for i in range(31))
    assert low == -high
    assert error(found) <= 1.01 * best


def test_least_squares_searches_both_ends() -> None:
    x = torch.cat([_normal(50_000).abs(), -0.05 * _normal(50_000, 1).abs(), torch.tensor([-3.0])])
    low, high = _range_of(LeastSquares(bits=4), x)
    assert -0.7 < low <= 0.0
    assert 1.5 < high < 4.0
    assert _range_of(LeastSquares(bits=8), torch.rand(5000, generator=torch.Generator().manual_seed(0)))[0] == 0.0


def _plain_divergence(h: list[float], kept: int, levels: int) -> float:
    p = h[:kept]
    q = [0.0] * kept
    for g in range(levels):
        members = [j for j in range(kept) if j * levels // kept == g]
        used = [j for j in members if p[j] > 0 or (j == kept - 1 and sum(h[kept:]) > 0)]
        for j in used:
            q[j] = sum(p[m] for m in members) / len(used)
    p = [*p[:-1], p[-1] + sum(h[kept:])]
    return sum(
        a / sum(p) * (math.log(a / sum(p) / (b / sum(q))) if b > 0 else math.inf)
        for a, b in zip(p, q, strict=True)
        if a > 0
    )


def test_divergence_by_plain_loops() -> None:
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        h = torch.randint(0, 40, (37,), generator=generator).double() * torch.linspace(1, 0, 37).double().square()
        h[20:30] *= (torch.rand(10, generator=generator) > 0.5).double()
        h[-1] = 1.0
        plain = {kept: _plain_divergence(h.tolist(), kept, 8) for kept in range(8, 38)}
        found = divergences(h, torch.tensor(list(plain)), 8)
        assert found.tolist() == pytest.approx(list(plain.values()), rel=1e-9, abs=1e-12)
        assert plain[least_divergence(h, 8)] <= min(plain.values()) + 1e-12
    assert least_divergence(torch.ones(5, dtype=torch.float64), 8) == 5


def test_divergence_cuts_tails_alone() -> None:
    _, high = _range_of(KullbackLeibler(symmetric=True), torch.cat([_normal(100_000), torch.tensor([30.0])]))
    assert 3.0 < high < 8.0
    even = torch.rand(100_000, generator=torch.Generator().manual_seed(1))
    low, high = _range_of(KullbackLeibler(), even)
    assert low == 0.0
    assert high == pytest.approx(1.0, abs=0.02)
