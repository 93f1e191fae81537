# SPDX-License-Identifier: Apache-2.0
"""What GaLore and APOLLO share: AdamW whose states belong to the gradient of a matrix in a space of few dimensions.

Of a gradient G [m, n] the smaller side is projected: R = B G [rank, n] for m < n, else R = G B^T [m, rank], with B
[rank, smaller side]. R's running means are states of the shape of R, in few bits, stepped by the native rule of Adam on
a matrix of zeros, which leaves the direction N. Projections are torch operations, one matrix at a time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.ops.optimizer_step import SPECS, Rule, optimizer_step
from bittern.optim._batch import Counts, state_seed
from bittern.optim._layout import STATE_BITS_ATTRIBUTE, is_sharded, layout_for
from bittern.optim._options import Group, check_betas, check_not_negative, scalar
from bittern.optim._rule_optimizer import RuleOptimizer
from bittern.optim._state import StateDict
from bittern.optim.adam import decay, moments


class LowRank(RuleOptimizer):
    """Matrices whose smaller side is above `rank` have states of few dimensions; other parameters step as AdamW's."""

    whole_tensors = True

    @abstractmethod
    def direction(self, p: Tensor, group: Group, state: StateDict, gradient: Tensor) -> Tensor:
        """What is subtracted, but for the rate: float32 of the shape of `p`. The step is counted already."""

    def check_group(self, group: Group) -> None:
        check_not_negative(self._name, group, "lr", "eps", "weight_decay", "scale")
        check_betas(self._name, group["betas"], 2)
        for name in ("rank", "update_proj_gap"):
            value = group[name]
            if not (value is None and name == "rank") and not (isinstance(value, int) and value > 0):
                raise ValueError(f"{self._name}: {name} must be a positive whole number; got {value!r}")
        for name, only in (("rounding", "nearest"), ("offload", None)):
            if group[name] != only:
                raise ValueError(f"{self._name}: {name} must be {only!r}; got {group[name]!r}")

    def rule(self, group: Group) -> Rule:
        return Rule.ADAM

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        step, (beta1, beta2) = counts[0], group["betas"]
        return {
            **moments(group["betas"]),
            "step_size": group["lr"] / (1 - beta1**step),
            "inv_sqrt_correction2": (1 - beta2**step) ** -0.5,
            "eps": group["eps"],
            **decay(group, decoupled=True),
        }

    def stored_like(self, p: Tensor, group: Group) -> Tensor:
        if not is_low_rank(p, group):
            return p
        rows, columns = p.shape
        like = p.new_empty((rows, group["rank"]) if rows >= columns else (group["rank"], columns))
        if hasattr(p, STATE_BITS_ATTRIBUTE):
            setattr(like, STATE_BITS_ATTRIBUTE, getattr(p, STATE_BITS_ATTRIBUTE))
        return like

    def update(self, key: Any, group: Group, params: Sequence[Tensor]) -> None:
        plain = [p for p in params if not is_low_rank(p, group)]
        if plain:
            super().update(key, group, plain)
        for p in params:
            if is_low_rank(p, group):
                self._step_matrix(p, group)

    def _step_matrix(self, p: Tensor, group: Group) -> None:
        if is_sharded(p):
            raise TypeError(f"{self._name}: a DTensor has no whole matrix here; use AdamW for it, or rank=None")
        assert p.grad is not None
        state = self.state_of(p, group)
        gradient = -p.grad.float() if group["maximize"] else p.grad.float()
        good = torch.isfinite(gradient)
        state["step"] += 1
        direction = self.direction(p, group, state, torch.where(good, gradient, 0.0))
        lr = float(scalar(group["lr"]))
        new = p.float() * (1 - lr * group["weight_decay"]) - lr * direction
        p.copy_(torch.where(good & new.isfinite(), new, p.float()))

    def normalized(self, p: Tensor, group: Group, state: StateDict, low: Tensor) -> Tensor:
        """Adam's direction N of the projected gradient, whose states move on."""
        layout = layout_for(self.stored_like(p, group), group)
        numbers = {name: scalar(value) for name, value in group.items() if name != "params"}
        numbers |= {"lr": 1.0, "weight_decay": 0.0, "betas": tuple(scalar(beta) for beta in group["betas"])}
        step = float(state["step"])
        values = {**self.scalars(numbers, (step,)), "grad_scale": 1.0}
        spec = SPECS[Rule.ADAM]
        seeds = None
        if layout.logarithmic:
            seeds = state_seed(int(step), self.number_of(p))
        moved = torch.zeros_like(low)
        optimizer_step(
            int(Rule.ADAM),
            [moved],
            [low],
            [state[s.name] for s in spec.states],
            [state.get(f"{s.name}_absmax", low.new_empty(0)) for s in spec.states],
            torch.tensor([[float(values[name]) for name in spec.scalars]]),
            [layout.bits],
            [layout.block_size],
            [layout.row_length],
            [],
            None,
            seeds,
        )
        return -moved


def is_low_rank(p: Tensor, group: Group) -> bool:
    """Whether `p` is a matrix whose smaller side is to be projected."""
    return group["rank"] is not None and p.ndim == 2 and min(p.shape) > group["rank"]


def project(basis: Tensor, gradient: Tensor) -> Tensor:
    """R, contiguous; basis: B [rank, smaller side]."""
    rows, columns = gradient.shape
    return (gradient @ basis.T if rows >= columns else basis @ gradient).contiguous()


def project_back(basis: Tensor, low: Tensor, shape: Sequence[int]) -> Tensor:
    """The matrix of this shape that B takes to `low`, where B's rows are orthonormal."""
    return low @ basis if shape[0] >= shape[1] else basis.T @ low
