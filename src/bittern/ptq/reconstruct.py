# SPDX-License-Identifier: Apache-2.0
"""Reconstruction of a block: the rounding of its weights and the steps of its inputs, so that its output is kept.

    loss       mean of w (y - y_float)^2 / that of weights rounded to the nearest + strength * penalty (`soft_rounding`)
    w          1, or the square of the task loss's gradient at y: the diagonal of the Fisher information
    weights    W_soft of `soft_rounding`; V is learned by Adam
    points     x_q = S (clamp(round(x / S) + Z) - Z), S = S_0 exp(theta); theta is learned by Adam, its rate falls as
               half a cosine; backward: 1 to x within the range, and LSQ's gradient to S
    drop       in training a number of x_q is x with probability `drop`, each by itself; where the block's float input
               is given, so is each number of its input. 0 is BRECQ, 1/2 QDrop, 1 rounds weights for real inputs

A block is a function of its weights, of a function that quantizes the value at a named point, and of its inputs.

Differences from the authors' code: the loss is relative, and the penalty the mean of all weights' and not their sum, so
that `strength` depends neither on the scale of outputs nor on how many weights there are; steps are learned as
logarithms, so that their rate does not depend on their scale either; weights and steps are learned together, as QDrop
does, where BRECQ's code learns steps behind the weights. The papers ask for 20,000 iterations at a rate of 0.001;
`Schedule` has fewer at a higher one. BRECQ's paper weights by the Fisher information, its code by default does not:
`gradients` given, or None.

Sources: Li et al., BRECQ, arXiv:2102.05426; Wei et al., QDrop, arXiv:2203.05740; Esser et al., LSQ, arXiv:1902.08153.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from bittern.optim import Adam
from bittern.ptq.reconstruction_samples import Samples
from bittern.ptq.soft_rounding import Decay, SoftRounding, Weight, sharpness
from bittern.ptq.steps import Limits, dequantize, input_limits

Progress = Callable[[int, int, float], None]
"""Called behind every iteration: how many are done, of how many, and the loss."""


class Block(Protocol):
    """What is reconstructed: y = block(weights, at, *inputs), where `at(name, x)` quantizes x at a point."""

    def __call__(
        self, weights: Mapping[str, Tensor], at: Callable[[str, Tensor], Tensor], *inputs: Tensor
    ) -> Tensor: ...


class Point(NamedTuple):
    """The grid of a value within the block."""

    scale: float
    zero: int = 0
    bits: int = 8


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast a block learns."""

    iterations: int = 1000
    batch: int = 32
    rate: float = 0.03
    """Of V."""
    step_rate: float = 0.001
    """Of the logarithms of steps."""
    strength: float = 2.0
    """Of the penalty; with 0 nothing is decided before the end."""
    warm_up: float = 0.2
    """The share of iterations that the penalty waits."""
    decay: Decay = "linear"
    """How the penalty sharpens (`soft_rounding`)."""

    def __post_init__(self) -> None:
        """Raises: ValueError for iterations or a batch below 1, rates that are not above 0, a strength below 0, and a
        warm-up outside [0, 1)."""
        if not (self.iterations >= 1 and self.batch >= 1):
            raise ValueError(f"Schedule: iterations and batch must be at least 1; got {self.iterations}, {self.batch}")
        if not (self.rate > 0 and self.step_rate > 0 and self.strength >= 0 and 0 <= self.warm_up < 1):
            raise ValueError(f"Schedule: rates must be above 0, strength at least 0, warm_up in [0, 1); got {self}")


class Reconstructed(NamedTuple):
    """What was learned, and how far the block's output is from the float one: the mean squared error of all inputs."""

    codes: dict[str, Tensor]
    scales: dict[str, float]
    nearest_error: float
    """With weights rounded to the nearest and the scales given."""
    error: float
    """With the codes and scales learned."""


def reconstruct(
    block: Block,
    weights: Mapping[str, Weight],
    inputs: Sequence[Tensor],
    targets: Tensor,
    *,
    points: Mapping[str, Point] | None = None,
    float_inputs: Sequence[Tensor] | None = None,
    drop: float = 0.0,
    gradients: Tensor | None = None,
    schedule: Schedule = Schedule(),  # frozen
    seed: int = 0,
    progress: Progress | None = None,
) -> Reconstructed:
    """The integers of all weights and the scales of all points that keep the block's output; the formulas are above.

    inputs: what the network quantized so far gives the block, [N, ...] each. targets: the float block's output for the
    float network's inputs, [N, ...]. gradients: of the task's loss at the output, in the shape of targets. The same
    seed and thread count give the same result.
    Raises: ValueError for tensors that do not fit, hold NaN or infinity, and options that change nothing or lie outside
    their range; FloatingPointError where the loss is no number.
    """
    points = dict(points or {})
    _check(weights, points, drop, float_inputs)
    samples = Samples(inputs, targets, float_inputs, gradients)
    learner = _Learner(block, weights, points, drop, torch.Generator().manual_seed(seed))
    nearest = {name: weight.nearest() for name, weight in weights.items()}
    before, weighted = learner.errors(nearest, samples, schedule.batch)
    with torch.enable_grad():
        learner.learn(samples, weighted or 1.0, schedule, progress)
    codes = {name: rounding.codes() for name, rounding in learner.rounding.items()}
    rounded = {name: dequantize(codes[name], weight.along(), 0) for name, weight in weights.items()}
    after, _ = learner.errors(rounded, samples, schedule.batch)
    return Reconstructed(codes, learner.scales(), before, after)


class _Learner:
    """The block with what is learned of it."""

    def __init__(
        self,
        block: Block,
        weights: Mapping[str, Weight],
        points: dict[str, Point],
        drop: float,
        random: torch.Generator,
    ) -> None:
        self.block, self.points, self.drop, self.random = block, points, drop, random
        self.rounding = {name: SoftRounding(weight) for name, weight in weights.items()}
        self.logs = {name: torch.zeros((), requires_grad=True) for name in points}

    def scales(self) -> dict[str, float]:
        return {name: float(self._scale(name).detach()) for name in self.points}

    def _scale(self, name: str) -> Tensor:
        return self.points[name].scale * self.logs[name].exp()

    def quantized(self, name: str, x: Tensor) -> Tensor:
        """x on the grid of a point."""
        point = self.points.get(name)
        if point is None:
            raise ValueError(f"reconstruct: the block asks for point {name!r}; points has {sorted(self.points)}")
        return fake_quantized(x, self._scale(name), point.zero, input_limits(point.bits))

    def dropped(self, name: str, x: Tensor) -> Tensor:
        """x on the grid of a point, but for the numbers that are dropped."""
        found = self.quantized(name, x)
        return torch.where(self._mask(x), x, found) if self.drop else found

    def _mask(self, x: Tensor) -> Tensor:
        return (torch.rand(x.shape, generator=self.random) < self.drop).to(x.device)

    def learn(self, samples: Samples, scale: float, schedule: Schedule, progress: Progress | None) -> None:
        """All iterations; scale: what the loss is divided by."""
        groups = [
            {"params": [rounding.logits for rounding in self.rounding.values()], "lr": schedule.rate},
            {"params": list(self.logs.values()), "lr": schedule.step_rate},
        ]
        optimizer = Adam(groups, state_bits=32)
        for i in range(schedule.iterations):
            done = i / schedule.iterations
            optimizer.param_groups[1]["lr"] = schedule.step_rate * 0.5 * (1 + math.cos(math.pi * done))
            size = min(schedule.batch, samples.count)
            chosen = torch.randint(samples.count, (size,), generator=self.random)
            y = self.block(
                {name: r.soft() for name, r in self.rounding.items()}, self.dropped, *self._mixed(samples, chosen)
            )
            loss = samples.error(y, chosen).mean() / scale + self._penalty(done, schedule)
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"reconstruct: the loss is {loss.item()} in iteration {i}; take a lower rate")
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if progress is not None:
                progress(i + 1, schedule.iterations, loss.item())

    def _mixed(self, samples: Samples, chosen: Tensor) -> list[Tensor]:
        """The block's inputs, of which some numbers are the float network's."""
        batch = [x[chosen] for x in samples.inputs]
        if samples.float_inputs is None:
            return batch
        both = zip(batch, samples.float_inputs, strict=True)
        return [torch.where(self._mask(x), real[chosen], x) for x, real in both]

    def _penalty(self, done: float, schedule: Schedule) -> Tensor:
        if done < schedule.warm_up or not self.rounding:
            return torch.zeros(())
        b = sharpness((done - schedule.warm_up) / (1 - schedule.warm_up), schedule.decay)
        total = sum(r.logits.numel() for r in self.rounding.values())
        return schedule.strength / total * torch.stack([r.penalty(b) for r in self.rounding.values()]).sum()

    @torch.no_grad()
    def errors(self, weights: Mapping[str, Tensor], samples: Samples, batch: int) -> tuple[float, float]:
        """The mean squared error over all samples, without and with the factors of the loss."""
        plain = weighted = 0.0
        for first in range(0, samples.count, batch):
            chosen = torch.arange(first, min(first + batch, samples.count))
            y = self.block(weights, self.quantized, *(x[chosen] for x in samples.inputs))
            weighted += float(samples.error(y, chosen).double().sum())
            plain += float((y - samples.targets[chosen]).double().square().sum())
        return plain / samples.targets.numel(), weighted / samples.targets.numel()


def fake_quantized(x: Tensor, scale: Tensor, zero: int, limits: Limits) -> Tensor:
    """x on a grid, with LSQ's gradients: to x 1 within the range; to S round(x / S) - x / S within, q - Z beyond."""
    scaled = x / scale
    whole = scaled + (scaled.round() - scaled).detach()
    return whole.clamp(limits.least - zero, limits.most - zero) * scale


def _check(
    weights: Mapping[str, Weight],
    points: Mapping[str, Point],
    drop: float,
    float_inputs: Sequence[Tensor] | None,
) -> None:
    if not weights and not points:
        raise ValueError("reconstruct: must have a weight to round or a point to learn; got neither")
    for name, weight in weights.items():
        weight.check(name)
    for name, point in points.items():
        if not (math.isfinite(point.scale) and point.scale > 0):
            raise ValueError(f"reconstruct: point {name!r} must have a positive, finite scale; got {point.scale!r}")
        input_limits(point.bits)
    if not 0.0 <= drop <= 1.0:
        raise ValueError(f"reconstruct: drop must lie in [0, 1]; got {drop!r}")
    if drop == 1 and not weights:
        raise ValueError("reconstruct: with a drop of 1 no step is learned; give weights to round, or a lower drop")
    if drop > 0 and not points and float_inputs is None:
        raise ValueError("reconstruct: drop has nothing to drop; give points or float_inputs")
    if drop == 0 and float_inputs is not None:
        raise ValueError("reconstruct: float_inputs are taken with probability drop, which is 0; give a drop above 0")
