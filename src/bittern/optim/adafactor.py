# SPDX-License-Identifier: Apache-2.0
"""Adafactor (arXiv 1804.04235): the second moment as an outer product of row and column means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from bittern.ops.optimizer_step import State
from bittern.optim._layout import encode, is_sharded, layout_for, stored_layout
from bittern.optim._optimizer import LowBitOptimizer, ParamsT
from bittern.optim._options import Group, Number, Options, check_not_negative, scalar
from bittern.optim._state import StateDict, Stored, floats_of, store

_MOMENTUM = State("exp_avg", True)


class Adafactor(LowBitOptimizer):
    """Adafactor as torch.optim.Adafactor, and with momentum > 0 a running mean of the updates in state_bits.

    r, c: row and column means of g^2, new ones weighing t^beta2_decay; v = r c^T / mean(r) (vectors: v of its own);
    u = g / sqrt(v), divided by max(1, rms(u) / d);
    p <- p (1 - lr weight_decay) - max(eps2, rms(p)) min(lr, 1 / sqrt(t)) u.
    An element whose g^2 is not finite is left as it is and counts as 0 in the means.
    momentum (float): u <- m <- momentum m + (1 - momentum) u before it is applied.
    States: `row_var`, `col_var` (float32, one line each) or `variance`, and `exp_avg`. One tensor at a time in torch
    operations, with temporaries of the tensor's size. Errors: see `LowBitOptimizer`; TypeError for DTensors,
    ValueError for rounding other than "nearest".
    """

    whole_tensors = True

    state_roundings = ("nearest",)

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        momentum: float = 0.0,
        foreach: bool | None = None,
        maximize: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "foreach": foreach,
            "maximize": maximize,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("Adafactor", group, "lr", "weight_decay", "momentum")
        if not (group["eps"][0] is None or group["eps"][0] >= 0) or not group["eps"][1] >= 0:
            raise ValueError(f"Adafactor: eps must be (None or at least 0, at least 0); got {group['eps']}")
        if not (group["beta2_decay"] <= 0 and group["d"] >= 1 and group["momentum"] < 1):
            raise ValueError(
                "Adafactor: needs beta2_decay <= 0, d >= 1 and momentum < 1; "
                f"got {group['beta2_decay']}, {group['d']}, {group['momentum']}"
            )
        if group["rounding"] != "nearest":
            raise ValueError(f'Adafactor: rounding must be "nearest"; got {group["rounding"]!r}')

    def states(self, group: Group) -> tuple[State, ...]:
        return (_MOMENTUM,) if group["momentum"] > 0 else ()

    def further_states(self, p: Tensor) -> dict[str, tuple[int, ...]]:
        if p.ndim < 2:
            return {"variance": tuple(p.shape)}
        return {"row_var": (*p.shape[:-1], 1), "col_var": (*p.shape[:-2], 1, p.shape[-1])}

    def lost_in_torch(self, states: Mapping[Any, Any]) -> bool:
        """torch.optim.Adafactor has no momentum, in whatever storage."""
        return any(str(key).startswith("exp_avg") for state in states.values() for key in state)

    def update(self, key: Any, group: Group, params: Sequence[Tensor]) -> None:
        for p in params:
            if is_sharded(p):
                raise TypeError("Adafactor: a DTensor has no local row and column means; use AdamW with 8-bit states")
            state = self.state_of(p, group)
            if p.numel() > 0:
                self._update_one(p, state, group)

    def _update_one(self, p: Tensor, state: StateDict, group: Group) -> None:
        assert p.grad is not None
        gradient = -p.grad.float() if group["maximize"] else p.grad.float()
        good = torch.isfinite(gradient * gradient)
        gradient = torch.where(good, gradient, 0.0)
        state["step"] += 1
        step, lr = float(state["step"]), float(scalar(group["lr"]))
        eps1 = torch.finfo(p.dtype).eps if group["eps"][0] is None else group["eps"][0]
        weight = p.float()
        size = max(group["eps"][1], _rms(weight)) * min(lr, step**-0.5)
        update = gradient * _second_moment(state, gradient, step ** group["beta2_decay"], eps1).rsqrt()
        update = update / max(1.0, _rms(update) / group["d"])
        if group["momentum"] > 0:
            update = self._smooth(p, state, group, update, good)
        new = weight * (1 - lr * group["weight_decay"]) - size * update
        p.copy_(torch.where(good, new, weight))

    def _smooth(self, p: Tensor, state: StateDict, group: Group, update: Tensor, good: Tensor) -> Tensor:
        values, absmax = state["exp_avg"], state.get("exp_avg_absmax")
        parts = {_MOMENTUM.name: Stored(values, absmax, stored_layout(p, values, absmax))}
        old = floats_of(p, parts, (_MOMENTUM,))[_MOMENTUM.name]
        new = torch.where(good, torch.lerp(update, old, group["momentum"]), old)
        store(state, "exp_avg", encode(p, new, _MOMENTUM, layout_for(p, group)))
        return new


def _rms(x: Tensor) -> float:
    norm = float(torch.linalg.vector_norm(x, dtype=torch.float64))
    return norm / math.sqrt(x.numel())


def _second_moment(state: StateDict, gradient: Tensor, rest: float, eps: float) -> Tensor:
    """The estimate of g^2, at least eps^2, after its means moved towards the new gradient by `rest`.

    Sums are float64 and the quotient comes before the product, so that squares up to the largest float32 fit.
    """
    if gradient.ndim < 2:
        variance: Tensor = state.setdefault("variance", torch.zeros_like(gradient))
        variance.lerp_(gradient * gradient, rest)
        return variance.clamp(min=eps * eps)
    means: dict[str, Tensor] = {}
    for name, dim in (("row_var", -1), ("col_var", -2)):
        norm = torch.linalg.vector_norm(gradient, dim=dim, keepdim=True, dtype=torch.float64)
        mean = (norm * norm / gradient.shape[dim]).float()
        means[name] = state.setdefault(name, torch.zeros_like(mean)).lerp_(mean, rest)
    row, column = means["row_var"], means["col_var"]
    share = row / row.mean(dim=-2, keepdim=True, dtype=torch.float64).float().clamp(min=eps)
    return (share @ column).clamp(min=eps * eps)
