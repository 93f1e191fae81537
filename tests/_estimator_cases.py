# SPDX-License-Identifier: Apache-2.0
"""Inputs for the ops of gradient estimators, and how near float64 those must come that are not exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from _conv_cases import generator
from _tolerance import assert_elementwise, assert_exact, assert_reduction
from bittern import ops

SIZES = (1, 7, 63, 64, 65, 257, 1000)
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, -1.3, 1.3, 1e-45, -1e-45, 3e38, math.inf, -math.inf)
Layout = Callable[[Tensor], Tensor]


def numbers(label: str, shape: tuple[int, ...], dtype: torch.dtype, edges: tuple[float, ...] = EDGES) -> Tensor:
    """Normal numbers with edges strewn in, as many as there is room for."""
    draw = generator(label)
    x = torch.randn(shape, generator=draw, dtype=torch.float64)
    flat = x.view(-1)
    places = torch.randperm(flat.numel(), generator=draw)[: len(edges)]
    flat[places] = torch.tensor(edges, dtype=torch.float64)[: len(places)]
    return x.to(dtype)


def gradient(label: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return numbers(label + "grad", shape, dtype, (0.0, -0.0))


def shapes() -> Iterator[tuple[tuple[int, ...], torch.dtype]]:
    """float32 in every size, other types in a few."""
    yield from (((n,), torch.float32) for n in SIZES)
    yield from (((0, 3), dtype) for dtype in FLOATS[:2])
    yield (70_001,), torch.float32  # more than one task of the thread pool
    yield (), torch.float32
    yield from (((5, 63), dtype) for dtype in FLOATS)


Made = tuple[ops.Op[Any], str, Callable[[], tuple[Any, ...]]]
"""An op, a name for one call of it, and what makes its arguments."""


def signs_and_masks(shape: tuple[int, ...], dtype: torch.dtype, layout: Layout) -> Iterator[Made]:
    """Calls whose results are exact."""
    label = f"{str(dtype).removeprefix('torch.')}-{'x'.join(map(str, shape))}-{layout.__name__}"

    def x(edges: tuple[float, ...] = EDGES) -> Tensor:
        return numbers(label, shape, dtype, edges)

    def grad() -> Tensor:
        return layout(gradient(label, shape, dtype))

    any_number = (*EDGES, math.nan)
    for limit, strict in ((1.0, False), (1.0, True), (1.3, False), (1.3, True)):
        own = (limit, strict)
        yield ops.clipped_sign, f"{label}-{limit}-{strict}", lambda own=own: (layout(x(any_number)), *own)
    for bits in (1, 3, 8):
        yield ops.clipped_levels, f"{label}-{bits}", lambda bits=bits: (layout(x(any_number)), bits)
    for factor in (1.0, 7.0):
        yield (
            ops.masked_gradient,
            f"{label}-{factor}",
            lambda factor=factor: (grad(), ops.clipped_sign.reference(x())[1], factor),
        )
    yield ops.approx_sign_gradient, label, lambda: (grad(), layout(x()))


DECAYS = ((1e-3, 1e3), (0.1, 10.0), (1.0, 1.0), (10.0, 1.0))
SERIES = ((10, 0.1, None, False), (19, 0.1, 1.0, False), (19, 0.1, None, True), (1, 3.14, None, False), (19, 3.0, None))


def bent(shape: tuple[int, ...], dtype: torch.dtype, layout: Layout) -> Iterator[Made]:
    """Calls whose results are near float64."""
    label = f"{str(dtype).removeprefix('torch.')}-{'x'.join(map(str, shape))}-{layout.__name__}"
    exact = torch.float64 if dtype == torch.float64 else torch.float32

    def scalar(value: float) -> Tensor:
        return torch.tensor(value, dtype=exact)

    def grad() -> Tensor:
        return layout(gradient(label, shape, dtype))

    def x(edges: tuple[float, ...] = EDGES) -> Tensor:
        return layout(numbers(label, shape, dtype, edges))

    for t, k in DECAYS:
        yield (
            ops.error_decay_gradient,
            f"{label}-{t}",
            lambda t=t, k=k: (grad(), x(), scalar(t), scalar(k)),
        )
    for terms, *rest in SERIES:
        yield (
            ops.fourier_gradient,
            f"{label}-{terms}-{'-'.join(map(str, rest))}",
            lambda terms=terms, rest=rest: (grad(), x(), torch.tensor(terms), *rest),
        )
    finite = (0.0, -0.0, 1.0, math.pi, 1e4, 3e4, torch.finfo(dtype).max / 2)
    own = (0.1, None, False)
    yield (
        ops.fourier_gradient,
        f"{label}-wave",
        lambda: (grad(), x(finite), torch.tensor(10), *own, scalar(0.01)),
    )
    yield ops.noisy_sign, label, lambda: (x(finite), grad(), scalar(0.1))


def is_near(op: ops.Op[Any], arguments: tuple[Any, ...], call: Callable[..., Any]) -> None:
    """Within the rounding of each operation of the formula in float64; 0 where the formula is 0 at infinity."""
    found = call(*arguments)
    assert found.is_contiguous()
    if op is ops.noisy_sign:
        x, noise, wave = arguments
        exact = op.reference(x.double(), noise.double(), wave.double())
        assert_elementwise(found, exact, 6, 1.0 + noise.double().abs() + float(wave))
        return
    grad, x, *constants = arguments
    constants = [c.double() if isinstance(c, Tensor) and c.is_floating_point() else c for c in constants]
    exact = op.reference(grad.double(), x.double(), *constants)
    one = torch.ones((), dtype=torch.float64)
    largest = op.reference(one, 0 * one, *constants).abs()
    steepness = 6.0
    if op is ops.fourier_gradient:
        terms, omega = float(constants[0]), float(constants[1])
        near = x.double().abs() <= 8192.0  # beyond it the angle itself is lost in x's own last digit
        found, exact, grad = found[near], exact[near], grad[near]
        # in 16 bits and in torch's own operations the rounding of the last angle moves a cosine by as many eps
        steepness = 8.0 if x.dtype == torch.float32 else 8.0 + 16.0 * terms * omega
        bend = (4 * omega / math.pi * terms * 2 * terms * omega * x.double()[near].abs()).clamp_max(1e30)
        assert_elementwise(found, exact, math.ceil(steepness), grad.double().abs() * (largest + 2.0**-24 * bend))
        return
    assert_elementwise(found, exact, math.ceil(steepness), grad.double().abs() * largest)


def samples(dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Samples to standardize: few numbers and many, a large mean, one number throughout."""
    for shape in ((3, 2), (2, 7, 9), (1, 4097), (3, 64), (2, 65, 3, 7), (0, 5), (300, 2)):
        x = torch.randn(shape, generator=generator(str(shape)), dtype=torch.float64) * 2
        if shape == (3, 64):
            x[0], x[1] = x[0] + 100.0, 0.0
        yield f"{dtype}-{shape}", x.to(dtype)


def is_standard(op: ops.Op[Any], arguments: tuple[Any, ...], call: Callable[..., Any]) -> None:
    """Signs exact, statistics and gradients within the rounding of their sums."""
    x = arguments[0] if op is ops.standard_sign else arguments[1]
    n = x.shape[1:].numel()
    if op is ops.standard_sign:
        values, statistics = call(*arguments)
        assert_exact(values, ops.sign.reference(x))
        exact = op.reference(x.double(), arguments[1])[1]
        size = x.double().flatten(1).abs().amax(1).clamp_min(1e-3) if n and len(x) else x.new_zeros(0).double()
        assert_reduction(statistics[:, 0], exact[:, 0], n, size)
        # the variance is that of numbers around a mean: its error grows with how far from 0 they lie
        assert_reduction(statistics[:, 1], exact[:, 1], n, exact[:, 1] * (1 + size * exact[:, 1]))
        return
    grad, x, statistics = arguments
    exact = op.reference(grad.double(), x.double(), statistics.double())
    largest = grad.double().abs().max() * 2 * statistics.double()[:, 1].max() if len(x) else 1.0
    assert_reduction(call(*arguments), exact, n, 4.0 * largest)


def shifted_shapes() -> Iterator[tuple[int, int, int, torch.dtype]]:
    """Outer, channels and inner: channels last where inner is 1; vectors that are not full, several parts."""
    shapes = ((0, 3, 1), (1, 1, 1), (5, 7, 1), (700, 16, 1), (130, 65, 1), (2, 9000, 1), (0, 3, 4), (2, 3, 0))
    yield from ((*shape, torch.float32) for shape in (*shapes, (3, 2, 5), (2, 5, 16), (3, 4, 63), (1, 3, 1027)))
    yield from ((*shape, dtype) for shape in ((5, 7, 1), (3, 2, 5)) for dtype in FLOATS[1:])


def shifted(label: str, shape: tuple[int, ...], dtype: torch.dtype, with_grad: bool) -> tuple[Any, ...]:
    x = numbers(label, shape, dtype, (0.0, -0.0, 1.0, -1.0, 0.25, -0.25))
    shift = numbers(label + "shift", shape[1:2], dtype, ()) * 0.25
    shift[1::3] = 0.0
    return (gradient(label, shape, dtype), x, shift) if with_grad else (x, shift)


def is_shifted(op: ops.Op[Any], arguments: tuple[Any, ...], call: Callable[..., Any]) -> None:
    """The bits of the formula, and a sum within its rounding."""
    expected = op.reference(*arguments)
    if op is ops.shifted_sign:
        assert_exact(call(*arguments), expected)
        return
    to_x, to_shift = call(*arguments)
    assert_exact(to_x, expected[0])
    if arguments[1].dtype != torch.float32:
        assert_exact(to_shift, expected[1])
        return
    largest = to_x.abs().max().double() if to_x.numel() else 1.0
    assert_reduction(to_shift, expected[0].double().sum((0, 2)), max(1, to_x.numel()), largest)


def scaled_shapes() -> Iterator[tuple[int, int, torch.dtype]]:
    yield from (
        (rows, n, torch.float32) for rows, n in ((0, 3), (3, 0), (1, 1), (5, 63), (3, 65), (64, 257), (7, 4097))
    )
    yield from ((5, 63, dtype) for dtype in FLOATS[1:])


def scaled(label: str, rows: int, n: int, dtype: torch.dtype) -> tuple[Any, ...]:
    grad, y = (numbers(label + part, (rows, n), dtype, ()) for part in ("grad", "y"))
    return grad, y, numbers(label, (n,), dtype, ())


def is_scaled(op: ops.Op[Any], arguments: tuple[Any, ...], call: Callable[..., Any]) -> None:
    """A product, exact, and a sum within its rounding."""
    grad, y, factor = arguments
    to_y, to_factor = call(*arguments)
    assert_exact(to_y, grad * factor)
    largest = (grad * y).abs().max().double() if grad.numel() else 1.0
    assert_reduction(to_factor, (grad.double() * y.double()).sum(0), max(1, len(grad)), largest)


def adapted_shapes() -> Iterator[tuple[int, int, int, torch.dtype]]:
    """Rows, columns and hidden numbers: vectors that are not full, several blocks, several parts with sums."""
    sizes = ((0, 3, 1), (1, 1, 1), (5, 7, 1), (65, 16, 1), (33, 24, 2), (9, 65, 3), (130, 128, 5), (3, 257, 16))
    yield from ((*size, torch.float32) for size in (*sizes, (2100, 16, 1)))
    yield from ((5, 16, 2, dtype) for dtype in FLOATS[1:])


def adapted(rows: int, columns: int, hidden: int, dtype: torch.dtype) -> Iterator[Made]:
    label = f"{str(dtype).removeprefix('torch.')}-{rows}x{columns}x{hidden}"
    finite = (0.0, -0.0, 1.0, -2.5, 4.0, 70.0)

    def given() -> tuple[Any, ...]:
        x = numbers(label, (rows, columns), dtype, finite if rows > 1 else ())
        down, up = (numbers(label + part, (hidden, columns), dtype, ()) for part in ("down", "up"))
        return x, down, up.t().contiguous(), torch.tensor(0.1), 0.1

    yield ops.adapted_sign, label, given
    for terms, *rest in SERIES[:3]:
        yield (
            ops.adapted_sign_gradient,
            f"{label}-{terms}-{'-'.join(map(str, rest))}",
            lambda terms=terms, rest=rest: (
                gradient(label, (rows, columns), dtype),
                *given(),
                torch.tensor(terms),
                *rest,
            ),
        )


def is_adapted(op: ops.Op[Any], arguments: tuple[Any, ...], call: Callable[..., Any]) -> None:
    """Each sum within its rounding; other types than float32 have the reference's bits."""
    found = call(*arguments)
    found = found if isinstance(found, tuple) else (found,)
    if arguments[0].dtype != torch.float32 or not len(arguments[0]):
        expected = op.reference(*arguments)
        for mine, theirs in zip(found, expected if isinstance(expected, tuple) else (expected,), strict=True):
            assert_exact(mine, theirs)
        return
    exact = op.reference(*(a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments))
    x, down, up, alpha = (a.double().abs() for a in arguments[-5 if op is ops.adapted_sign else 1 :][:4])
    numbers_most, up_most = (x @ down.t()).max(), alpha * up.max()
    columns, hidden = x.shape[1], len(down)
    if op is ops.adapted_sign:
        assert_reduction(found[0], exact, columns, 2.0 + hidden * numbers_most * up_most)
        return
    grad = arguments[0].double().abs()
    reached = (grad @ (alpha * up)).max()
    assert_reduction(found[0], exact[0], columns, 4.0 * grad.max() + hidden * reached * down.max())
    assert_reduction(found[1], exact[1], columns * len(x), reached * x.max())
    assert_reduction(found[2], exact[2], columns * len(x), alpha * numbers_most * grad.max())
