# SPDX-License-Identifier: Apache-2.0
"""What GaLore, APOLLO and SOAP share: AdamW whose states belong to a matrix's gradient seen in other coordinates.

Adam's running means are of the transformed gradient R, in few bits, stepped by the native rule of Adam on a matrix of
zeros, which leaves the direction N. Transformations are torch operations, one matrix at a time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.ops.optimizer_step import SPECS, Rule, optimizer_step
from bittern.optim._batch import Counts, state_seed
from bittern.optim._layout import STATE_BITS_ATTRIBUTE, at_random, is_sharded, layout_for
from bittern.optim._options import Group, check_betas, check_not_negative, scalar
from bittern.optim._rule_optimizer import RuleOptimizer
from bittern.optim._state import StateDict
from bittern.optim.adam import decay, moments


class TransformedAdamW(RuleOptimizer):
    """Parameters with a `transformed_shape` have states of that shape; others step as AdamW's."""

    whole_tensors = True

    @abstractmethod
    def transformed_shape(self, p: Tensor, group: Group) -> tuple[int, int] | None:
        """The shape of R; None where p steps as AdamW's."""

    @abstractmethod
    def direction(self, p: Tensor, group: Group, state: StateDict, gradient: Tensor) -> Tensor | None:
        """What is subtracted, but for the rate: float32 of p's shape; None where this step moves nothing yet.

        It calls `normalized` once, which counts the step, or returns None.
        """

    def check_adamw(self, group: Group, *counts: str) -> None:
        """ValueError for bad arguments of AdamW, any of `counts` that is no positive whole number, and options that
        belong to a native step alone."""
        check_not_negative(self._name, group, "lr", "eps", "weight_decay")
        check_betas(self._name, group["betas"], 2)
        for name in counts:
            value = group[name]
            if isinstance(value, bool) or not (isinstance(value, int) and value > 0):
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
        shape = self.transformed_shape(p, group)
        if shape is None:
            return p
        like = p.new_empty(shape)
        if hasattr(p, STATE_BITS_ATTRIBUTE):
            setattr(like, STATE_BITS_ATTRIBUTE, getattr(p, STATE_BITS_ATTRIBUTE))
        return like

    def update(self, key: Any, group: Group, params: Sequence[Tensor]) -> None:
        shapes = [self.transformed_shape(p, group) for p in params]
        plain = [p for p, shape in zip(params, shapes, strict=True) if shape is None]
        if plain:
            super().update(key, group, plain)
        for p, shape in zip(params, shapes, strict=True):
            if shape is not None:
                self._step_matrix(p, group)

    def _step_matrix(self, p: Tensor, group: Group) -> None:
        if is_sharded(p):
            raise TypeError(f"{self._name}: a DTensor has no whole matrix here; use AdamW for it{self.or_exempt}")
        assert p.grad is not None
        state = self.state_of(p, group)
        gradient = -p.grad.float() if group["maximize"] else p.grad.float()
        good = torch.isfinite(gradient)
        direction = self.direction(p, group, state, torch.where(good, gradient, 0.0))
        if direction is None:
            return
        lr = float(scalar(group["lr"]))
        new = p.float() * (1 - lr * group["weight_decay"]) - lr * direction
        p.copy_(torch.where(good & new.isfinite(), new, p.float()))

    or_exempt: str = ""
    """Words for an error: how a group is exempted from the transformation."""

    def normalized(self, p: Tensor, group: Group, state: StateDict, transformed: Tensor) -> Tensor:
        """Counts the step; Adam's direction N of the transformed gradient, whose states move on."""
        state["step"] += 1
        like = self.stored_like(p, group)
        layout = layout_for(like, group)
        numbers = {name: scalar(value) for name, value in group.items() if name != "params"}
        numbers |= {"lr": 1.0, "weight_decay": 0.0, "betas": tuple(scalar(beta) for beta in group["betas"])}
        step = float(state["step"])
        values = {**self.scalars(numbers, (step,)), "grad_scale": 1.0}
        spec = SPECS[Rule.ADAM]
        seeds = state_seed(int(step), self.number_of(p)) if at_random(like, group) else None
        moved = torch.zeros_like(transformed)
        optimizer_step(
            int(Rule.ADAM),
            [moved],
            [transformed],
            [state[s.name] for s in spec.states],
            [state.get(f"{s.name}_absmax", transformed.new_empty(0)) for s in spec.states],
            torch.tensor([[float(values[name]) for name in spec.scalars]]),
            [layout.bits],
            [layout.block_size],
            [layout.row_length],
            [],
            None,
            seeds,
            (4, 8),
        )
        return -moved
