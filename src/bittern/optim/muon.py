# SPDX-License-Identifier: Apache-2.0
"""Muon (Jordan et al. 2024; arXiv 2502.16982): momentum whose matrices are orthogonalized before they are applied."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from bittern.ops.optimizer_step import State
from bittern.optim._layout import local_tensor
from bittern.optim._names import holds_codes
from bittern.optim._optimizer import LowBitOptimizer, ParamsT
from bittern.optim._options import Group, Number, Options, check_not_negative, scalar
from bittern.optim._owners import on_owners
from bittern.optim._running_mean import moved_mean
from bittern.optim._shards import RowShards, local_gradient, row_shards

_MOMENTUM = State("momentum_buffer", True)
_ADJUSTMENTS = (None, "original", "match_rms_adamw")


class Muon(LowBitOptimizer):
    """Muon as torch.optim.Muon, for matrices; its state `momentum_buffer` takes state_bits per parameter.

    m <- momentum m + (1 - momentum) g; u = nesterov ? momentum m + (1 - momentum) g : m; O = u after ns_steps
    Newton-Schulz iterations X <- a X + (b X X^T + c (X X^T)^2) X in bfloat16, from X = u / |u|;
    p <- p (1 - lr weight_decay) - lr s O, s = sqrt(max(1, rows / columns)) ("original", None) or
    0.2 sqrt(max(rows, columns)) ("match_rms_adamw"). Gradients that are not finite count as 0 in u, and their
    elements keep their values. One matrix at a time in torch operations, with temporaries of its size. DTensors that
    are sharded by rows are put together each on one process, which iterates for all (`_owners`): the step is that of
    the whole matrix to the bit, but that blocks of codes restart at rows.
    Errors: ValueError for a parameter that is no matrix; TypeError for a DTensor that is sharded otherwise; see
    `LowBitOptimizer`.
    """

    whole_tensors = True
    counters = ()

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: Literal["original", "match_rms_adamw"] | None = None,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("Muon", group, "lr", "weight_decay", "momentum", "eps", "ns_steps")
        if group["adjust_lr_fn"] not in _ADJUSTMENTS:
            raise ValueError(f"Muon: adjust_lr_fn must be one of {_ADJUSTMENTS}; got {group['adjust_lr_fn']!r}")
        if group["rounding"] != "nearest":
            raise ValueError(f'Muon: rounding must be "nearest"; got {group["rounding"]!r}')
        for p in group["params"]:
            if p.ndim != 2:
                raise ValueError(f"Muon: parameters must be matrices; got {list(p.shape)}; give it to AdamW")
            row_shards("Muon", p)

    def lost_in_torch(self, states: Mapping[Any, Any]) -> bool:
        return holds_codes(states)

    def states(self, group: Group) -> tuple[State, ...]:
        return (_MOMENTUM,)

    def update(self, key: Any, group: Group, params: Sequence[Tensor]) -> None:
        spread: dict[RowShards, list[Tensor]] = {}
        for p in params:
            self.state_of(p, group)
            shards = row_shards("Muon", p)
            if p.numel() == 0:
                continue
            if shards is None:
                self._apply(p, group, _orthogonal(self._direction(p, group), group))
            else:
                spread.setdefault(shards, []).append(p)
        for shards, matrices in spread.items():
            # a matrix that steps alone, in the backward pass, is not always the first process's
            first = next(i for i, p in enumerate(group["params"]) if p is matrices[0])
            orthogonal = on_owners(
                *(shards, matrices, first),
                rows_of=lambda p: self._direction(p, group),
                whole=lambda x: _orthogonal(x, group),
            )
            for p, rows in orthogonal:
                self._apply(p, group, rows.float())

    def _direction(self, p: Tensor, group: Group) -> Tensor:
        """u of what this process has of `p`, whose momentum moves on."""
        state = self.state[p]
        if "step" in state:
            state["step"] += 1
        gradient, rate = local_gradient("Muon", p).float(), float(group["momentum"])
        good = torch.isfinite(gradient)
        gradient = torch.where(good, gradient, 0.0)
        number = self.number_of(p)
        mean = moved_mean(p, state, _MOMENTUM, group, number=number, toward=gradient, keep=rate, good=good)
        return torch.lerp(gradient, mean, rate) if group["nesterov"] else mean

    def _apply(self, p: Tensor, group: Group, direction: Tensor) -> None:
        """Steps what this process has of `p` along its rows of O."""
        good = torch.isfinite(local_gradient("Muon", p).float())
        lr = float(scalar(group["lr"]))
        local = local_tensor(p.detach())
        weight = local.float()
        new = weight * (1 - lr * group["weight_decay"]) - lr * _scale(group, p) * direction
        local.copy_(torch.where(good, new, weight))
        torch.autograd.graph.increment_version(p)


def _orthogonal(x: Tensor, group: Group) -> Tensor:
    return orthogonalize(x, group["ns_coefficients"], group["ns_steps"], group["eps"])


def orthogonalize(x: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """A matrix with x's singular vectors and singular values near 1, by Newton-Schulz iterations in bfloat16."""
    a, b, c = coefficients
    tall = x.shape[0] > x.shape[1]
    y = x.bfloat16().T if tall else x.bfloat16()
    y = y / y.norm().clamp(min=eps)
    for _ in range(steps):
        gram = y @ y.T
        y = torch.addmm(y, torch.addmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return (y.T if tall else y).float()


def _scale(group: Group, p: Tensor) -> float:
    rows, columns = p.shape
    if group["adjust_lr_fn"] == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns))
