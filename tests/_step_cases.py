# SPDX-License-Identifier: Apache-2.0
"""Arguments for `optimizer_step`, and what it must do to them by the formulas in float64."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from _tolerance import assert_elementwise, assert_nearest_codes
from bittern.ops.codebooks import boundaries
from bittern.ops.optimizer_step import SPECS, Rule, block_count, code_count, state_table

SIZES = (0, 1, 7, 63, 64, 65, 255, 257, 1000, 4097)
SCALARS = {
    "grad_scale": -0.5,
    "lr": 1e-2,
    "weight_decay": 1e-2,
    "momentum": 0.9,
    "gradient_weight": 0.7,
    "nesterov": 0.0,
    "beta1": 0.9,
    "beta1_rest": 0.1,
    "beta2": 0.99,
    "beta2_rest": 0.01,
    "beta3": 0.999,
    "beta3_rest": 0.001,
    "step_size": 1e-2,
    "inv_correction1": 1.3,
    "inv_correction2": 1.1,
    "inv_sqrt_correction2": 1.5,
    "inv_sqrt_correction3": 1.2,
    "eps": 1e-6,
    "keep": 0.999,
    "gradient_step": 1e-3,
    "momentum_step": 2e-3,
    "adaptive": 1.0,
    "alpha": 0.9,
    "alpha_rest": 0.1,
    "trust_coefficient": 0.01,
    "max_trust": 0.0,
    "shrink": 0.99,
    "has_previous": 1.0,
    "rho": 0.9,
    "rho_rest": 0.1,
    "eta_minus": 0.5,
    "eta_plus": 1.2,
    "least": 1e-6,
    "most": 50.0,
    "share": 0.25,
    "y_step": 2e-3,
    "mix": 0.3,
}


def scalars_of(rule: Rule, **changed: float) -> Tensor:
    """[1, K] float32."""
    values = SCALARS | changed
    return torch.tensor([[values[name] for name in SPECS[rule].scalars]])


@dataclass(frozen=True)
class Step:
    """One call: tensors of `sizes` with states of `bits` (one for all, or one per tensor)."""

    rule: Rule
    bits: int | tuple[int, ...] = 8
    sizes: tuple[int, ...] = SIZES
    dtype: torch.dtype = torch.float32
    grad_dtype: torch.dtype = torch.float32
    block: int = 256
    row: int | None = None
    options: tuple[tuple[str, float], ...] = ()
    kahan: bool = False
    seed: int | None = None

    def __str__(self) -> str:
        parts = [self.rule.name.lower(), str(self.bits), str(self.dtype).removeprefix("torch."), f"block{self.block}"]
        parts += [f"row{self.row}"] if self.row else []
        parts += [f"{name}={value:g}" for name, value in self.options]
        parts += ["kahan"] if self.kahan else []
        parts += [str(self.grad_dtype).removeprefix("torch.")] if self.grad_dtype != torch.float32 else []
        return "-".join(parts) + ("-seed" if self.seed is not None else "") + f"-{len(self.sizes)}tensors"

    def make(self) -> tuple[Any, ...]:
        draw = torch.Generator().manual_seed(zlib.crc32(str(self).encode()))
        spec = SPECS[self.rule]
        bits = list(self.bits) if isinstance(self.bits, tuple) else [self.bits] * len(self.sizes)
        rows = [self.row or n for n in self.sizes]
        params = [torch.randn(n, generator=draw).to(self.dtype) for n in self.sizes]
        grads = [torch.randn(n, generator=draw).to(self.grad_dtype) for n in self.sizes]
        states, absmax = [], []
        for n, b, row in zip(self.sizes, bits, rows, strict=True):
            for state in spec.states:
                scale = 0.1 if state.signed else 1.0  # a mean stays below the root of its square
                if b == 32 or state.exact:
                    values = torch.rand(n, generator=draw) + 0.1
                    states.append(values if not state.signed else (values - 0.6) * 0.2)
                    absmax.append(torch.empty(0))
                else:
                    count = code_count(n, b, row)
                    low = 100 if not state.signed else 0  # squares away from 0
                    states.append(torch.randint(low, 256, (count,), generator=draw, dtype=torch.uint8))
                    absmax.append((torch.rand(block_count(n, self.block, row), generator=draw) + 0.5) * scale)
        compensation = [torch.zeros_like(p) for p in params] if self.kahan else []
        scalars = scalars_of(self.rule, **dict(self.options))
        return (int(self.rule), params, grads, states, absmax, scalars, bits, [self.block] * len(bits), rows,
                compensation, self.seed)  # fmt: skip


LARGE = (40_000,)
INTERPRETED_SIZES = (0, 1, 63, 257, 1025)
"""A tile of the kernel has 1024 elements, which take Triton's interpreter 50 ms."""


def interpreted_steps() -> Iterator[Step]:
    """Steps that tell kernels apart, on smaller tensors: a rule's storages stand together in its step of three."""
    for step in steps():
        grid = step == Step(step.rule, step.bits) and step.rule not in (Rule.ADAM, Rule.LAMB)
        rows = step.row in (1, 63) or (step.row and step.bits == 4)
        blocks = step.row is None and step.bits == 4 and step.block in (64, 128, 512)
        large = step.sizes == LARGE and step.rule == Rule.LARS
        if not (grid or rows or blocks or large):
            yield replace(step, sizes=INTERPRETED_SIZES) if step.sizes == SIZES else step


def steps() -> Iterator[Step]:
    """Every rule in every storage, then every option and layout."""
    for rule in Rule:
        for bits in (32, 8, 4):
            yield Step(rule, bits)
        yield Step(rule, (8, 32, 4), (300, 65, 257), torch.bfloat16, torch.bfloat16)
        yield Step(rule, 8, (1000,), torch.float16, torch.float16)
    for rule in (Rule.MOMENTUM, Rule.LARS):
        yield Step(rule, options=(("nesterov", 1.0),))
    yield Step(Rule.RADAM, options=(("adaptive", 0.0),))
    yield Step(Rule.ADAN, options=(("has_previous", 0.0),))
    yield Step(Rule.ASGD, options=(("share", 1.0),))
    for rule in (Rule.LAMB, Rule.LARS):
        yield Step(rule, options=(("max_trust", 0.001),))
        yield Step(rule, sizes=LARGE)
    for block in (32, 64, 128, 512, 1024, 2048, 4096):
        yield Step(Rule.ADAM, 8, (4097, 9000), block=block)
        yield Step(Rule.ADAM, 4, (4097, 9000), block=block)
    for row, many in ((1, 64), (27, 64), (63, 64), (300, 16)):
        yield Step(Rule.ADAM, 8, (row * 5, row * many), row=row, block=64)
        yield Step(Rule.ADAM, 4, (row * 5, row * many), row=row, block=64)
    for dtype in (torch.bfloat16, torch.float16):
        yield Step(Rule.ADAM, 8, dtype=dtype, kahan=True)
        yield Step(Rule.ADAM, 8, grad_dtype=dtype)
    yield Step(Rule.ADAM, 8, dtype=torch.bfloat16, seed=2**40 + 12345)
    yield Step(Rule.SGD, 8, sizes=(70_000,), dtype=torch.bfloat16, seed=7)


def copied(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same call on tensors of its own."""
    return tuple([x.clone() for x in a] if isinstance(a, list) and a and isinstance(a[0], Tensor) else a
                 for a in arguments)  # fmt: skip


def decoded(codes: Tensor, absmax: Tensor, signed: bool, bits: int, n: int, block: int, row: int) -> Tensor:
    """Float32 state by loops, over lists for their speed: the definition of the layout."""
    if bits == 32:
        return codes.clone()
    table, scales, stored = state_table(signed, bits).tolist(), absmax.tolist(), codes.tolist()
    per_row, values = -(-row // block) if n else 0, []
    for i in range(n):
        r, j = divmod(i, row)
        values.append(table[code_at(stored, i, bits, row)] * scales[r * per_row + j // block])
    return torch.tensor(values)  # rounds exact products once, as float32 does


def code_at(stored: Sequence[int], i: int, bits: int, row: int) -> int:
    """The code of element i: a byte, or a half of one, the first element in the high half; a row starts a byte."""
    if bits == 8:
        return stored[i]
    r, j = divmod(i, row)
    pair = stored[r * -(-row // 2) + j // 2]
    return pair >> 4 if j % 2 == 0 else pair & 15


def check_step(arguments: tuple[Any, ...], run: Callable[..., None]) -> None:
    """`run` does what the formulas say, tensor by tensor."""
    done = copied(arguments)
    run(*done)
    rule, params, grads, states, absmax, scalars, bits, block, rows, _, seed = arguments
    spec = SPECS[Rule(rule)]
    s = dict(zip(spec.scalars, scalars[0].double().tolist(), strict=True))
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        mine = range(i * len(spec.states), (i + 1) * len(spec.states))
        layouts = [(32 if q.exact else bits[i], p.numel(), block[i], rows[i]) for q in spec.states]
        kinds = zip(mine, spec.states, layouts, strict=True)
        old = [decoded(states[k], absmax[k], q.signed, *layout) for k, q, layout in kinds]
        if not p.numel():
            continue
        new_p, new = spec.update(p.double(), g.double() * s["grad_scale"], tuple(x.double() for x in old), s)
        moved = (new_p - p.double()).abs()
        check_param(done[1][i], new_p, p.double().abs() + moved + 1e-3, exact_rounding=seed is None)
        for k, state, exact, before, layout in zip(mine, spec.states, new, old, layouts, strict=True):
            largest = float(before.abs().max() + g.double().abs().max() ** (1 if state.signed else 2) + moved.max())
            check_state(done[3][k], done[4][k], exact, state.signed, layout, largest)


def check_param(actual: Tensor, exact: Tensor, terms: Tensor, exact_rounding: bool) -> None:
    """Within the roundings of the formula, and one (at random: two) of the parameter's own type."""
    own = torch.finfo(actual.dtype).eps / torch.finfo(torch.float32).eps
    extra = 0.0 if actual.dtype == torch.float32 else own * (1 if exact_rounding else 2)
    assert_elementwise(actual.float(), exact, 1, (32 + extra) * terms)


def check_state(
    actual: Tensor, absmax: Tensor, exact: Tensor, signed: bool, layout: tuple[int, int, int, int], largest: float
) -> None:
    """A float32 state within its roundings; codes by the boundary rule, on the absmax that was stored."""
    bits, n, block, row = layout
    if bits == 32:
        assert_elementwise(actual, exact, 16, largest)
        return
    table, per_row = state_table(signed, bits), -(-row // block)
    y, scale = torch.empty(n, dtype=torch.float64), torch.empty(n, dtype=torch.float64)
    for start, place in _blocks(n, block, row):
        stop = min(start + block, (start // row + 1) * row)
        piece = exact[start:stop]
        found = float(absmax[place])
        assert abs(found - float(piece.abs().max())) <= 16 * torch.finfo(torch.float32).eps * largest
        found = found or 1.0  # of a block of zeros
        y[start:stop], scale[start:stop] = piece / found, found
    stored = actual.tolist()
    codes = torch.tensor([code_at(stored, i, bits, row) for i in range(n)])
    assert per_row * (n // row) == absmax.numel()
    assert_nearest_codes(codes, y, boundaries(table), 16 * largest / scale)


def _blocks(n: int, block: int, row: int) -> Sequence[tuple[int, int]]:
    starts = [r * row + j for r in range(n // row) for j in range(0, row, block)]
    return [(start, place) for place, start in enumerate(starts)]
