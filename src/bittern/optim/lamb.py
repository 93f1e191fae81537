# SPDX-License-Identifier: Apache-2.0
"""LAMB (arXiv 1904.00962): Adam's direction scaled per tensor by a trust ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_betas, check_not_negative
from bittern.optim._rule_optimizer import RuleOptimizer
from bittern.optim.adam import moments


class LAMB(RuleOptimizer):
    """LAMB with its trust ratio in every number of state bits; states `exp_avg`, `exp_avg_sq`.

    u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay p;
    p <- p - lr r u, r = trust_coefficient |p| / |u| at most max_trust; norms are over the whole tensor, and |p| / |u|
    counts as 1 where either is 0.
    bias_correction=False leaves out the divisions by 1 - beta^t.
    Further keyword arguments and errors: see `LowBitOptimizer`.
    """

    whole_tensors = True

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        bias_correction: bool = True,
        trust_coefficient: float = 1.0,
        max_trust: float | None = None,
        maximize: bool = False,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "trust_coefficient": trust_coefficient,
            "max_trust": max_trust,
            "maximize": maximize,
            "capturable": capturable,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("LAMB", group, "lr", "eps", "weight_decay")
        check_betas("LAMB", group["betas"], 2)
        if not group["trust_coefficient"] > 0:
            raise ValueError(f"LAMB: trust_coefficient must be positive; got {group['trust_coefficient']}")
        check_max_trust("LAMB", group["max_trust"])

    def rule(self, group: Group) -> Rule:
        return Rule.LAMB

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        step, (beta1, beta2), coefficient = counts[0], group["betas"], group["trust_coefficient"]
        corrected = group["bias_correction"]
        return {
            **moments(group["betas"]),
            "inv_correction1": 1 / (1 - beta1**step) if corrected else 1.0,
            "inv_sqrt_correction2": (1 - beta2**step) ** -0.5 if corrected else 1.0,
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
            "lr": group["lr"] * coefficient,
            "max_trust": (group["max_trust"] or 0.0) / coefficient,
        }


def check_max_trust(owner: str, limit: float | None) -> None:
    """ValueError unless the limit of the trust ratio is positive or None (no limit)."""
    if limit is not None and not limit > 0:
        raise ValueError(f"{owner}: max_trust must be positive, or None for no limit; got {limit}")
