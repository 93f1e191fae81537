# SPDX-License-Identifier: Apache-2.0
"""Arguments for `optimizer_step` with states rounded at random, whose new states every implementation gets exactly.

Means halve at each step and gradients have few bits, so that a new state is rounded once or not at all, in whatever
way an implementation multiplies and adds. What a root or a norm scales may be off by a level: the momentum of RMSprop
and of LARS, the steps of Adadelta, and weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from _conv_cases import generator
from _step_cases import Step, check_param, copied
from _tolerance import assert_exact
from bittern import ops
from bittern.ops.optimizer_step import SPECS, Rule, Storage, block_count, code_count, storage_of
from bittern.ops.optimizer_step.log_codes import LEAST_STEP, LEVELS, MOST_STEP

SHORT = (0, 1, 7, 63, 64, 65, 257, 1000)
WEIGHTS = (
    *("beta1", "beta1_rest", "beta2", "beta2_rest", "beta3", "beta3_rest"),
    *("alpha", "alpha_rest", "rho", "rho_rest", "momentum"),
)
HALVES = tuple((name, 0.5) for name in (*WEIGHTS, "gradient_weight"))
ROUGH = ("momentum_buffer", "acc_delta", "ax", "z")
OPTIONS = (*HALVES, ("weight_decay", 0.0), ("grad_scale", -1.0))


@dataclass(frozen=True)
class LogStep:
    """A `Step` whose states of 4 bits are those of log_codes, or squares of 8 bits those of random_squares."""

    step: Step
    own_seeds: bool = True
    """One seed per tensor, not one for all."""
    still: bool = False
    """The first half of each tensor has neither states nor gradients."""
    at_random: tuple[int, ...] = (4,)
    """Bits of the states that are."""

    def __str__(self) -> str:
        name = str(Step(**vars(self.step) | {"options": ()}))
        kind = "log" if self.at_random == (4,) else "random" + "".join(map(str, self.at_random))
        return f"{kind}-{name}" + "-own" * self.own_seeds + "-still" * self.still

    def make(self) -> tuple[Any, ...]:
        draw = generator(str(self))
        rule, params, grads, states, absmax, scalars, bits, blocks, rows, lost, seed = self.step.make()
        for i, g in enumerate(grads):
            kept = torch.rand(g.shape, generator=draw) < 0.7
            kept[: len(g) // 2 * self.still] = False
            grads[i] = ((torch.randn(g.shape, generator=draw) * 64).round() / 64 * kept).to(g.dtype)
        kinds = SPECS[Rule(rule)].states
        for at in range(len(states)):
            i, k = divmod(at, len(kinds))
            if bits[i] == 8 and 8 in self.at_random and not kinds[k].signed:
                states[at] = torch.randint(0, 256, states[at].shape, generator=draw, dtype=torch.uint8)
            if bits[i] == 4 and 4 in self.at_random:
                layout = (params[i].numel(), blocks[i], rows[i])
                if kinds[k].exact:
                    continue
                states[at], absmax[at] = self._stored(storage_of(kinds[k], 4, True), *layout, draw)
        low, high = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
        seeds = torch.randint(low, high, (len(params) if self.own_seeds else 1,), generator=draw)
        return rule, params, grads, states, absmax, scalars, bits, blocks, rows, lost, seed, seeds, self.at_random

    def _stored(self, storage: Storage, n: int, block: int, row: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Any codes, on scales as they may come."""
        count = block_count(n, block, row)
        codes = torch.randint(0, 256, (code_count(n, storage.bits, row),), generator=draw, dtype=torch.uint8)
        scales = torch.rand(count, generator=draw) + 0.5
        if storage is Storage.LOGARITHMS:
            steps = torch.randint(LEAST_STEP, MOST_STEP + 1, (count,), generator=draw)
            lowest = scales.view(torch.int32) - (LEVELS - 1) * steps.to(torch.int32)
            scales = torch.stack([scales, lowest.view(torch.float32)], -1).flatten()
        if self.still:
            codes[: len(codes) // 2] = 0
            whole = row // 2 // block if row == n else count // 2  # blocks whose every code is 0 now
            scales[: whole * storage.scales] = 0
        return codes, scales


def log_steps() -> Iterator[LogStep]:
    """Every rule, then every layout."""
    few, bf16 = (300, 65, 257), torch.bfloat16
    for rule in Rule:
        yield LogStep(Step(rule, 4, SHORT, block=64, options=OPTIONS))
        yield LogStep(Step(rule, 4, few, bf16, bf16, block=32, options=OPTIONS, seed=2**40 + 5), own_seeds=False)
        yield LogStep(Step(rule, 4, (1000,), block=128, options=OPTIONS), still=True)
    for rule in (Rule.ADAM, Rule.ADEMAMIX, Rule.RMSPROP_CENTERED_MOMENTUM):
        yield LogStep(Step(rule, (8, 4, 32), few, options=OPTIONS))
        for row in (1, 27, 64, 300):
            yield LogStep(Step(rule, 4, (row * 3, row * 7), block=32, row=row, options=OPTIONS))
    for block in (32, 64, 128, 256, 512, 1024, 2048, 4096):
        yield LogStep(Step(Rule.ADEMAMIX, 4, (4097, 9000), block=block, options=OPTIONS))


def random_square_steps() -> Iterator[LogStep]:
    """Every rule with squares, then layouts, and beside states of other bits."""
    few = (300, 65, 257)
    rules = [rule for rule in Rule if not all(state.signed for state in SPECS[rule].states)]
    for rule in rules:
        yield LogStep(Step(rule, 8, SHORT, block=64, options=OPTIONS), at_random=(8,))
    for rule in (Rule.ADAM, Rule.AMSGRAD):
        yield LogStep(Step(rule, (8, 4, 32), few, options=OPTIONS), at_random=(4, 8))
        yield LogStep(Step(rule, (8, 4, 32), few, options=OPTIONS), at_random=(8,), own_seeds=False)
    for block in (32, 128, 256, 4096):
        yield LogStep(Step(Rule.ADAM, 8, (4097, 9000), block=block, options=OPTIONS), at_random=(8,))
    yield LogStep(Step(Rule.ADAM, 8, (27 * 3, 27 * 7), block=32, row=27, options=OPTIONS), at_random=(8,))
    yield LogStep(Step(Rule.ADAM, 8, few, torch.bfloat16, torch.bfloat16, options=OPTIONS, seed=5), at_random=(8,))


def fewer_random_square_steps() -> Iterator[LogStep]:
    """For implementations that run slowly."""
    steps = list(random_square_steps())
    yield from (step for step in steps if step.step.rule in (Rule.AMSGRAD, Rule.ADAGRAD))
    yield from (step for step in steps if step.step.row is not None or step.step.block == 128)


def fewer_log_steps() -> Iterator[LogStep]:
    """For implementations that run slowly: every rule in one of its three forms, in turn, and each layout once."""
    steps = list(log_steps())
    rules = len(Rule)
    yield from (steps[3 * i + i % 3] for i in range(rules))
    yield from (
        step for step in steps[3 * rules :] if step.step.row in (None, 27) and step.step.block in (32, 256, 4096)
    )


def check_log_step(arguments: tuple[Any, ...], run: Callable[..., None]) -> None:
    """`run` leaves the codes and the scales of the reference, and parameters within their roundings."""
    mine, theirs = copied(arguments), copied(arguments)
    ops.optimizer_step.reference(*theirs)
    run(*mine)
    for p, new, expected in zip(arguments[1], mine[1], theirs[1], strict=True):
        moved = (expected.double() - p.double()).abs()
        check_param(new, expected.double(), p.double().abs() + moved + 1e-3, exact_rounding=arguments[10] is None)
    rule, kinds = Rule(arguments[0]), SPECS[Rule(arguments[0])].states
    for k, (a, b, scale_a, scale_b) in enumerate(zip(mine[3], theirs[3], mine[4], theirs[4], strict=True)):
        kind, bits = kinds[k % len(kinds)], arguments[6][k // len(kinds)]
        if kind.name not in ROUGH or rule == Rule.MOMENTUM:
            assert_exact(a, b)
            assert_exact(scale_a, scale_b)
        else:
            torch.testing.assert_close(scale_a, scale_b, rtol=1e-5, atol=0.0)
            check_near(a, b, 32 if kind.exact else bits)


def check_near(a: Tensor, b: Tensor, bits: int) -> None:
    """At most one code apart."""
    if bits == 32:
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
        return
    halves = [(a.int(), b.int())] if bits == 8 else [(a.int() >> 4, b.int() >> 4), (a.int() & 15, b.int() & 15)]
    for mine, theirs in halves:
        assert ((mine - theirs).abs() <= 1).all()
