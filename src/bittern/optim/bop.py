# SPDX-License-Identifier: Apache-2.0
"""Bop (arXiv 1906.02107): no latent weights, but signs that flip where a running mean of gradients asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from bittern.ops.optimizer_step import State
from bittern.optim._layout import layout_for, local_tensor
from bittern.optim._optimizer import LowBitOptimizer, ParamsT
from bittern.optim._options import Group, Number, Options, check_not_negative, scalar
from bittern.optim._running_mean import moved_mean
from bittern.optim._state import StateDict

_MEAN = State("exp_avg", True)
_TIES = ("paper", "released")


class Bop(LowBitOptimizer):
    """Bop, for parameters that are -1 or +1; its state `exp_avg`, the mean m, in 32 or 8 bits.

    m <- (1 - lr) m + lr g; w <- -w where |m| > threshold and m and w have one sign, that is w m > threshold.
    lr: the paper's gamma, at most 1; every schedule of a learning rate moves it. On CIFAR-10 the authors have 1e-4, a
    tenth of it every 100 of 500 epochs. threshold: tau, in units of the gradient.
    tie: where w m is the threshold itself, "paper" keeps w (algorithm 2; the paper's equation 6 would flip it), and
    "released" puts +1, as the code's sign(-sign(w m - tau) w) with sign(0) = +1 does.
    state_bits: 32 unless it is said. 8 bits, to nearest, suit lr from 1e-3 on: of noisy gradients the codes' mean
    correlates with m by 0.997 at lr = 1e-2, 0.97 at 1e-3 and 0.67 at 1e-4, where a step moves m by less than a code.
    weight_decay: 0; a sign has nothing to decay.
    Further keyword arguments: see `LowBitOptimizer`.
    Errors: ValueError for parameters that are not -1 or +1, lr above 1, weight_decay, 4 bits, rounding and offload.
    Source: arXiv 1906.02107; plumerai/rethinking-bnn-optimization bnn_optimization/optimizers.py.
    """

    counters = ()

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-4,
        threshold: float = 1e-8,
        *,
        tie: Literal["paper", "released"] = "paper",
        weight_decay: float = 0.0,
        maximize: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "threshold": threshold,
            "tie": tie,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        floats: Options = {"state_bits": 32}
        super().__init__(params, defaults, floats | options)

    def check_group(self, group: Group) -> None:
        check_not_negative("Bop", group, "lr", "threshold")
        if group["tie"] not in _TIES:
            raise ValueError(f"Bop: tie must be one of {_TIES}; got {group['tie']!r}")
        if group["weight_decay"] != 0:
            raise ValueError(f"Bop: weight_decay must be 0, a sign has no size; got {group['weight_decay']}")
        if group["state_bits"] == 4 or any(layout_for(p, group).bits == 4 for p in group["params"]):
            raise ValueError("Bop: state_bits must be 32 or 8, a step moves m by less than a code of 4 bits; got 4")
        for name, only in (("rounding", "nearest"), ("offload", None)):
            if group[name] != only:
                raise ValueError(f"Bop: {name} must be {only!r}; got {group[name]!r}")
        for p in group["params"]:
            check_signs("Bop", p)

    def states(self, group: Group) -> tuple[State, ...]:
        return (_MEAN,)

    def update(self, key: Any, group: Group, params: Sequence[Tensor]) -> None:
        rate = float(scalar(group["lr"]))
        if rate > 1.0:
            raise ValueError(f"Bop: lr is the share of the gradient in its mean and must be at most 1; got {rate}")
        for p in params:
            state = self.state_of(p, group)
            if p.numel():
                self._flip(p, group, state, rate)

    def _flip(self, p: Tensor, group: Group, state: StateDict, rate: float) -> None:
        assert p.grad is not None
        gradient = local_tensor(p.grad).float()
        gradient = -gradient if group["maximize"] else gradient
        good = torch.isfinite(gradient)
        gradient = torch.where(good, gradient, 0.0)
        number = self.number_of(p)
        mean = moved_mean(p, state, _MEAN, group, number=number, toward=gradient, keep=1.0 - rate, good=good)
        local = local_tensor(p.detach())
        local.copy_(torch.where(good, flipped(local, mean, group["threshold"], group["tie"]), local))
        torch.autograd.graph.increment_version(p)


def flipped(w: Tensor, mean: Tensor, threshold: float, tie: str) -> Tensor:
    """Signs w after a step whose running mean is `mean`."""
    urge = w.float() * mean - threshold
    new = torch.where(urge > 0.0, -w, w)
    return torch.where(urge == 0.0, 1.0, new).to(w.dtype) if tie == "released" else new


def check_signs(owner: str, p: Tensor) -> None:
    """ValueError unless all of a parameter is -1 or +1; one on the meta device has no values to look at."""
    values = local_tensor(p.detach())
    if values.is_meta or bool((values.abs() == 1.0).all()):
        return
    found = float(values[values.abs() != 1.0].flatten()[0])
    raise ValueError(
        f"{owner}: parameters must be -1 or +1; got {found:g} in one of {list(p.shape)}; give it weights of "
        "binary.SignWeights, and start from signs (nn.start_latent_weights, nn.sign_latent_weights)"
    )
