# SPDX-License-Identifier: Apache-2.0
"""Lion (arXiv 2302.06675): the sign of a running mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_betas, check_not_negative
from bittern.optim._rule_optimizer import RuleOptimizer
from bittern.optim.adam import decay, moments


class Lion(RuleOptimizer):
    """Lion; its state `exp_avg` takes state_bits.

    p <- p (1 - lr weight_decay) - lr sgn(beta1 m + (1 - beta1) g), sgn(0) = 0; then m <- beta2 m + (1 - beta2) g.
    Further keyword arguments and errors: see `LowBitOptimizer`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("Lion", group, "lr", "weight_decay")
        check_betas("Lion", group["betas"], 2)

    def rule(self, group: Group) -> Rule:
        return Rule.LION

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        return {"lr": group["lr"], **moments(group["betas"]), **decay(group, decoupled=True)}
