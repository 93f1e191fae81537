# SPDX-License-Identifier: Apache-2.0
"""WAGE's update (arXiv 1802.04680): whole steps of a grid, rounded stochastically, and weights that stay on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from bittern.ops.powers_of_two import on_grid, shifted
from bittern.optim._optimizer import ParamsT

MOST_BITS = 15
"""The authors' code leaves wider gradients real."""
_GOLDEN, _PRIME, _WORD = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03, 2**63
"""Odd numbers whose multiples spread evenly over 64 bits, for seeds of consecutive steps and parameters."""


class IntegerSGD(torch.optim.Optimizer):
    """Gradient descent on weights that are multiples of s = 2^(1 - gradient_bits) between -1 + s and 1 - s.

    n = lr * g / Shift(max |g|), with Shift(x) = 2^round(log2 x) and the maximum over the tensor; the step is
    s sign(n) (floor |n| + 1 with probability |n| - floor |n|); w <- clip(w - step, -limit, limit).
    A gradient of zeros moves nothing. Weights are put on the grid when the optimizer is made.

    lr: in steps of the grid: no weight moves by more than sqrt(2) lr of them, rounded up. The authors have 8, then 1
    and 1/8. limit: None is the paper's 1 - s; the code clips at 1 - 2^(1 - weight_bits), 0.5 for weights of 2 bits.
    seed: of the rounding, which depends on it, the number of the step and of the parameter alone, so that a state_dict
    resumes exactly; None: `torch.initial_seed()`, kept in the group. CPU and CUDA draw other numbers.
    weight_decay: 0; there is nothing between two numbers of the grid to decay by.
    Errors: ValueError for invalid arguments and for a parameter of fewer than two dimensions, which is no weight (a
    bias or a norm: `optim.Cases` gives it to another optimizer); FloatingPointError for a gradient that is not finite,
    then nothing has changed.
    Source: arXiv 1802.04680; boluoweifenda/WAGE source/Quantize.py, source/Top.py, source/NN.py.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 8.0,
        *,
        gradient_bits: int = 8,
        limit: float | None = None,
        seed: int | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        seed = torch.initial_seed() % _WORD if seed is None else seed
        options = {"gradient_bits": gradient_bits, "limit": limit, "seed": seed, "weight_decay": weight_decay}
        super().__init__(params, {"lr": lr, **options})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            _check(group)
        except ValueError:
            self.param_groups.pop()
            raise
        with torch.no_grad():
            for p in group["params"]:
                p.copy_(_within(on_grid(p, group["gradient_bits"]), group))

    @_disable_dynamo
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all parameters with a gradient; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and not bool(torch.isfinite(p.grad).all()):
                    raise FloatingPointError(
                        f"IntegerSGD: a gradient of a parameter {list(p.shape)} is NaN or infinite, which no grid has; "
                        "lower the learning rate"
                    )
        number = 0
        for group in self.param_groups:
            _check(group)
            for p in group["params"]:
                number += 1
                if p.grad is not None:
                    self._move(p, p.grad, group, number)
        return loss

    def _move(self, p: Tensor, g: Tensor, group: dict[str, Any], number: int) -> None:
        state = self.state[p]
        count = int(state.get("step", 0)) + 1
        state["step"] = torch.tensor(count, dtype=torch.int64)
        draw = torch.Generator(p.device).manual_seed((group["seed"] + count * _GOLDEN + number * _PRIME) % _WORD)
        steps = rounded_steps(float(group["lr"]) * shifted(g.to(torch.float32)), draw)
        bits = group["gradient_bits"]
        p.copy_(_within(on_grid(on_grid(p.float(), bits) - steps * 2.0 ** (1 - bits), bits), group))


def rounded_steps(n: Tensor, generator: torch.Generator) -> Tensor:
    """sign(n) (floor |n| + 1 with probability |n| - floor |n|): whole numbers whose mean is n."""
    size = n.abs()
    whole = size.floor()
    up = torch.rand(n.shape, generator=generator, dtype=n.dtype, device=n.device) < size - whole
    return torch.where(n < 0, -1.0, 1.0) * (whole + up)


def _within(w: Tensor, group: dict[str, Any]) -> Tensor:
    limit = group["limit"]
    return w if limit is None else w.clamp(-limit, limit)


def _check(group: dict[str, Any]) -> None:
    """Raises: ValueError."""
    lr, bits, limit, seed = (group[name] for name in ("lr", "gradient_bits", "limit", "seed"))
    if not 0.0 <= float(lr) < float("inf"):
        raise ValueError(f"IntegerSGD: lr must be finite and at least 0; got {lr}")
    if not isinstance(bits, int) or isinstance(bits, bool) or not 2 <= bits <= MOST_BITS:
        raise ValueError(f"IntegerSGD: gradient_bits must be an integer from 2 to {MOST_BITS}; got {bits!r}")
    step = 2.0 ** (1 - bits)
    if limit is not None and not (step <= limit <= 1.0 - step and (limit / step).is_integer()):
        raise ValueError(
            f"IntegerSGD: limit must be None or a multiple of the step {step:g} of the grid, at most {1.0 - step:g}; "
            f"got {limit}"
        )
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < _WORD:
        raise ValueError(f"IntegerSGD: seed must be None or an integer from 0 to 2^63 - 1; got {seed!r}")
    if group["weight_decay"] != 0:
        raise ValueError(f"IntegerSGD: weight_decay must be 0, weights lie on a grid; got {group['weight_decay']}")
    for p in group["params"]:
        if p.ndim < 2:
            raise ValueError(
                f"IntegerSGD: a parameter {list(p.shape)} is no weight of a layer; give biases and norms to another "
                "optimizer, e.g. optim.Cases(Case(IntegerSGD, claims), Case(torch.optim.SGD))"
            )
        if not p.is_floating_point():
            raise ValueError(f"IntegerSGD: parameters must be floating point; got {p.dtype}")
