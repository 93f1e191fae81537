# SPDX-License-Identifier: Apache-2.0
"""Adadelta (arXiv 1212.5701)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_not_negative
from bittern.optim._rule_optimizer import RuleOptimizer


class Adadelta(RuleOptimizer):
    """Adadelta as torch.optim.Adadelta; states `square_avg`, `acc_delta` in state_bits.

    v <- rho v + (1 - rho) g^2; d = sqrt(a + eps) / sqrt(v + eps) g; a <- rho a + (1 - rho) d^2; p <- p - lr d.
    weight_decay is added to the gradient. Steps scale the next ones: 4 bits, rounded without bias for 1 / sqrt(v), are
    too large for them on average, so that they grow for ever.
    Further keyword arguments and errors: see `LowBitOptimizer`; ValueError for state_bits=4.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
            "foreach": foreach,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("Adadelta", group, "lr", "eps", "weight_decay")
        if not 0.0 <= group["rho"] <= 1.0:
            raise ValueError(f"Adadelta: rho must be in [0, 1]; got {group['rho']}")
        if group["state_bits"] == 4:
            raise ValueError("Adadelta: state_bits must be 32 or 8, for steps that 4 bits round grow for ever; got 4")

    def rule(self, group: Group) -> Rule:
        return Rule.ADADELTA

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        return {
            "lr": group["lr"],
            "rho": group["rho"],
            "rho_rest": 1 - group["rho"],
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
        }
