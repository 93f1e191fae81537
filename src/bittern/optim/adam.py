# SPDX-License-Identifier: Apache-2.0
"""Adam (arXiv 1412.6980), with AMSGrad (arXiv 1904.09237) as an option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_betas, check_not_negative
from bittern.optim._rule_optimizer import RuleOptimizer


def moments(betas: tuple[float, ...]) -> dict[str, float]:
    """The decay rates of two running means and what is left for the gradient."""
    return {"beta1": betas[0], "beta1_rest": 1 - betas[0], "beta2": betas[1], "beta2_rest": 1 - betas[1]}


def decay(group: Group, *, decoupled: bool) -> dict[str, Any]:
    """Weight decay added to the gradient (coupled) or multiplied into the parameter before the update."""
    rate = group["weight_decay"]
    if decoupled:
        return {"weight_decay": 0.0, "keep": 1 - group["lr"] * rate}
    return {"weight_decay": rate, "keep": 1.0}


class Adam(RuleOptimizer):
    """Adam as torch.optim.Adam; states `exp_avg`, `exp_avg_sq` (and `max_exp_avg_sq` with amsgrad) in state_bits.

    m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g^2;
    p <- p - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps). amsgrad divides by the largest v so far.
    weight_decay is added to the gradient, with decoupled_weight_decay it shrinks p by 1 - lr weight_decay instead.
    Further keyword arguments and errors: see `LowBitOptimizer`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative(type(self).__name__, group, "lr", "eps", "weight_decay")
        check_betas(type(self).__name__, group["betas"], 2)

    def rule(self, group: Group) -> Rule:
        return Rule.AMSGRAD if group["amsgrad"] else Rule.ADAM

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        step, (beta1, beta2) = counts[0], group["betas"]
        return {
            **moments(group["betas"]),
            "step_size": group["lr"] / (1 - beta1**step),
            "inv_sqrt_correction2": (1 - beta2**step) ** -0.5,
            "eps": group["eps"],
            **decay(group, decoupled=group["decoupled_weight_decay"]),
        }
