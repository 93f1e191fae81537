# SPDX-License-Identifier: Apache-2.0
"""AdEMAMix in plain torch, under the private name that bitsandbytes' own tests compare with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bittern.compat.bitsandbytes.optim._base import ParamsT


class _ReferenceAdEMAMix(torch.optim.Optimizer):
    """AdEMAMix (arXiv:2409.03137) with states `m1_m2`, the fast mean over the slow one, and `nu`.

    m1 <- beta1 m1 + (1 - beta1) g; m2 <- beta3 m2 + (1 - beta3) g; nu <- beta2 nu + (1 - beta2) g^2;
    p <- p - lr ((m1 / (1 - beta1^t) + alpha m2) / (sqrt(nu / (1 - beta2^t)) + eps) + weight_decay p).
    t_alpha: steps over which alpha grows linearly; t_beta3: steps over which beta3 grows from beta1, its half-life
    linearly.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 5.0,
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        t_beta3: int | None = None,
        t_alpha: int | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "t_beta3": t_beta3,
            "t_alpha": t_alpha,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
            for p in group["params"]:
                if p.grad is not None:
                    self._update(group, p, p.grad)
        return loss

    def _update(self, group: dict[str, Any], p: Tensor, grad: Tensor) -> None:
        state, step = self.state[p], group["step"]
        if not state:
            state["m1_m2"] = p.new_zeros((2, *p.shape))
            state["nu"] = torch.zeros_like(p)
        beta1, beta2, _ = group["betas"]
        means, nu = state["m1_m2"], state["nu"]
        for mean, beta in zip(means, (beta1, _beta3(group)), strict=True):
            mean.mul_(beta).add_(grad, alpha=1 - beta)
        nu.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        warmth = 1.0 if group["t_alpha"] is None else min(step / group["t_alpha"], 1.0)
        spread = (nu / (1 - beta2**step)).sqrt() + group["eps"]
        direction = (means[0] / (1 - beta1**step) + warmth * group["alpha"] * means[1]) / spread
        p.sub_(group["lr"] * (direction + group["weight_decay"] * p))


def _beta3(group: dict[str, Any]) -> float:
    """1 / log(beta) goes linearly from beta1's to beta3's over t_beta3 steps."""
    start, end = math.log(group["betas"][0]), math.log(group["betas"][2])
    share = 1.0 if group["t_beta3"] is None else min(group["step"] / group["t_beta3"], 1.0)
    return math.exp(1 / ((1 - share) / start + share / end))
