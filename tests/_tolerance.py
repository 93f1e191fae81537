# SPDX-License-Identifier: Apache-2.0
"""How close is close enough: the only place that computes a tolerance.

Each function is one class of results and states its rule. NaN fails everywhere; nothing depends on the environment.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SAME_SIZE_INTEGER = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _check_shape(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape, f"shape {list(actual.shape)}, expected {list(expected.shape)}"
    assert not actual.isnan().any(), f"{int(actual.isnan().sum())} of {actual.numel()} elements are NaN"


def _worst(error: Tensor) -> str:
    place = [int(i) for i in torch.unravel_index(error.argmax(), error.shape)]
    return f"worst at {place}"


def assert_exact(actual: Tensor, expected: Tensor) -> None:
    """Exact class: same dtype, shape and bits (so +0.0 is not -0.0)."""
    assert actual.dtype == expected.dtype, f"dtype {actual.dtype}, expected {expected.dtype}"
    _check_shape(actual, expected)
    if torch.equal(_bits(actual), _bits(expected)):
        return
    wrong = _bits(actual) != _bits(expected)
    place = tuple(int(i) for i in wrong.nonzero()[0])
    raise AssertionError(
        f"{int(wrong.sum())} of {wrong.numel()} elements differ; first at {list(place)}: "
        f"{actual[place].item()!r}, expected {expected[place].item()!r}"
    )


def _bits(x: Tensor) -> Tensor:
    return x.contiguous().view(_SAME_SIZE_INTEGER[x.element_size()]) if x.is_floating_point() else x


def assert_elementwise(actual: Tensor, exact: Tensor, roundings: int, largest_term: Tensor | float) -> None:
    """Elementwise class: |actual - exact| <= roundings * eps * largest term.

    exact: the formula in float64. roundings: counted from the formula. largest_term: per element or one for all.
    """
    _within(actual, exact, roundings * torch.finfo(actual.dtype).eps * torch.as_tensor(largest_term).double())


def assert_reduction(actual: Tensor, exact: Tensor, length: int, largest_term: Tensor | float) -> None:
    """Reduction class: |actual - exact| <= 64 * sqrt(length) * eps * largest term, for sums of `length` terms."""
    bound = 64 * math.sqrt(length) * torch.finfo(actual.dtype).eps
    _within(actual, exact, bound * torch.as_tensor(largest_term).double())


def _within(actual: Tensor, exact: Tensor, bound: Tensor) -> None:
    assert exact.dtype == torch.float64, f"exact must be computed in float64; got {exact.dtype}"
    _check_shape(actual, exact)
    error = (actual.double() - exact).abs()
    excess = error - bound
    assert (excess <= 0).all(), f"error {float(error.max()):.3g} exceeds {float(bound.max()):.3g}; {_worst(excess)}"


def assert_nearest_codes(codes: Tensor, y: Tensor, borders: Tensor, terms: Tensor | float = 1.0) -> None:
    """Boundary class: equal, except within 2 eps * terms of a border between two codes: then only the neighbour.

    codes: integers. y: the float64 numbers they stand for. borders: ascending, [codes - 1].
    """
    assert y.dtype == torch.float64, f"y must be computed in float64; got {y.dtype}"
    slack = 2 * torch.finfo(torch.float32).eps * torch.as_tensor(terms).double()
    borders = borders.double()
    least = torch.bucketize(y - slack, borders, right=True)
    most = torch.bucketize(y + slack, borders, right=True)
    wrong = (codes < least) | (codes > most)
    if wrong.any():
        i = int(wrong.nonzero()[0])
        raise AssertionError(
            f"{int(wrong.sum())} of {codes.numel()} codes are not the nearest; first at {i}: y = {float(y[i])!r}, "
            f"code {int(codes[i])}, expected {int(least[i])} to {int(most[i])}"
        )


def assert_mean(samples: Tensor, expected: float, deviation: float) -> None:
    """Statistical class: |mean - expected| <= 5 * deviation / sqrt(n), samples drawn by a fixed generator."""
    bound = 5 * deviation / math.sqrt(samples.numel())
    error = abs(float(samples.double().mean()) - expected)
    assert error <= bound, f"mean is off by {error:.3g}, allowed {bound:.3g} for {samples.numel()} samples"
