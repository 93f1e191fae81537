# SPDX-License-Identifier: Apache-2.0
"""Adafactor (arXiv 1804.04235): the second moment as an outer product of row and column means."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from bittern.ops.optimizer_step import State
from bittern.optim._layout import is_sharded, local_tensor, means_like
from bittern.optim._optimizer import LowBitOptimizer, ParamsT
from bittern.optim._options import Group, Number, Options, check_not_negative, scalar
from bittern.optim._running_mean import moved_mean
from bittern.optim._shards import local_gradient, row_shards, run_together
from bittern.optim._state import StateDict

_MOMENTUM = State("exp_avg", True)
_TOGETHER = 2**22
"""Elements of several DTensors whose sums travel in one message."""


class Adafactor(LowBitOptimizer):
    """Adafactor as torch.optim.Adafactor, and with momentum > 0 a running mean of the updates in state_bits.

    r, c: row and column means of g^2, new ones weighing t^beta2_decay; v = r c^T / mean(r) (vectors: v of its own);
    u = g / sqrt(v), divided by max(1, rms(u) / d);
    p <- p (1 - lr weight_decay) - max(eps2, rms(p)) min(lr, 1 / sqrt(t)) u.
    An element whose g^2 is not finite is left as it is and counts as 0 in the means.
    momentum (float): u <- m <- momentum m + (1 - momentum) u before it is applied.
    States: `row_var`, `col_var` (float32, one line each) or `variance`, and `exp_avg`. One tensor at a time in torch
    operations, with temporaries of the tensor's size. Of a DTensor that is sharded by rows, `row_var` is sharded alike
    and a matrix's `col_var` is on every process; sums are added up over shards, so that the step is that of the whole
    tensor. Errors: see `LowBitOptimizer`; TypeError for a DTensor that is sharded otherwise, ValueError for rounding
    other than "nearest".
    """

    whole_tensors = True

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
        for p in group["params"]:
            row_shards("Adafactor", p)

    def states(self, group: Group) -> tuple[State, ...]:
        return (_MOMENTUM,) if group["momentum"] > 0 else ()

    def further_states(self, p: Tensor) -> dict[str, int | None]:
        return {"variance": None} if p.ndim < 2 else {"row_var": -1, "col_var": -2}

    def lost_in_torch(self, states: Mapping[Any, Any]) -> bool:
        """torch.optim.Adafactor has no momentum, in whatever storage."""
        return any(str(key).startswith("exp_avg") for state in states.values() for key in state)

    def update(self, key: Any, group: Group, params: Sequence[Tensor]) -> None:
        for p in params:
            row_shards("Adafactor", p)
            self.state_of(p, group)
        for some in _bunches([p for p in params if p.numel() > 0]):
            run_together(some, [_step(p, self.state[p], group, self.number_of(p)) for p in some])


def _bunches(params: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """`params` one by one, as temporaries are of their size; but small DTensors together, as messages take time."""
    some: list[Tensor] = []
    for p in params:
        if some and not (is_sharded(p) and is_sharded(some[0]) and sum(q.numel() for q in (*some, p)) <= _TOGETHER):
            yield some
            some = []
        some.append(p)
    if some:
        yield some


def _step(p: Tensor, state: StateDict, group: Group, number: int) -> Generator[Tensor, Tensor, None]:
    """One step of what this process has of `p`; yields its part of sums over `p`, and is sent those over all shards.

    number: of `p` among the optimizer's.
    """
    gradient = local_gradient("Adafactor", p).float()
    gradient = -gradient if group["maximize"] else gradient
    good = torch.isfinite(gradient * gradient)
    gradient = torch.where(good, gradient, 0.0)
    state["step"] += 1
    step, lr = float(state["step"]), float(scalar(group["lr"]))
    rest = step ** group["beta2_decay"]
    local = local_tensor(p.detach())
    weight = local.float()
    lines = [] if p.ndim < 2 else _sums_of_lines(p, state, gradient, rest)
    parts = [_squares(weight), *(lines if p.ndim == 2 else ())]  # of more dimensions every matrix is whole here
    sums = yield torch.cat([part.flatten() for part in parts])
    square, *added = (x.view_as(y) for x, y in zip(torch.split(sums, [y.numel() for y in parts]), parts, strict=True))
    size = max(group["eps"][1], _root_mean(square, p)) * min(lr, step**-0.5)
    eps1 = torch.finfo(p.dtype).eps if group["eps"][0] is None else group["eps"][0]
    update = gradient * _second_moment(p, state, gradient, added or lines, rest, eps1).rsqrt()
    square = yield _squares(update).view(1)
    update = update / max(1.0, _root_mean(square, p) / group["d"])
    if group["momentum"] > 0:
        keep = float(group["momentum"])
        update = moved_mean(p, state, _MOMENTUM, group, number=number, toward=update, keep=keep, good=good)
    new = weight * (1 - lr * group["weight_decay"]) - size * update
    local.copy_(torch.where(good, new, weight))
    torch.autograd.graph.increment_version(p)


def _sums_of_lines(p: Tensor, state: StateDict, gradient: Tensor, rest: float) -> list[Tensor]:
    """Moves the means of rows by `rest`; the sum of these means, and of the squares in each column, here."""
    rows = _means(p, state, "row_var", -1)
    rows.lerp_((_squares(gradient, -1) / p.shape[-1]).float(), rest)
    return [rows.sum(dim=-2, keepdim=True, dtype=torch.float64), _squares(gradient, -2)]


def _second_moment(
    p: Tensor, state: StateDict, gradient: Tensor, lines: Sequence[Tensor], rest: float, eps: float
) -> Tensor:
    """The estimate of g^2 here, at least eps^2, after its other means moved towards the new gradient by `rest`.

    lines: as of `_sums_of_lines`, over all shards. Sums are float64 and the quotient comes before the product, so that
    squares up to the largest float32 fit.
    """
    if p.ndim < 2:
        variance = _means(p, state, "variance", None)
        return variance.lerp_(gradient * gradient, rest).clamp(min=eps * eps)
    rows, columns = _means(p, state, "row_var", -1), _means(p, state, "col_var", -2)
    sum_of_rows, squares = lines
    columns.lerp_((squares / p.shape[-2]).float(), rest)
    share = rows / (sum_of_rows / p.shape[-2]).float().clamp(min=eps)
    return (share @ columns).clamp(min=eps * eps)


def _means(p: Tensor, state: StateDict, name: str, dim: int | None) -> Tensor:
    """What this process has of a state of means, which is there from here on."""
    if name not in state:
        state[name] = means_like(p, dim)
    return local_tensor(state[name])


def _squares(x: Tensor, dim: int | None = None) -> Tensor:
    """The sum of squares over a dimension, which stays with size 1, or over all; float64."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=dim is not None, dtype=torch.float64)
    return norm * norm


def _root_mean(square: Tensor, p: Tensor) -> float:
    """Of a sum over all elements of `p`."""
    return math.sqrt(float(square) / p.numel())
