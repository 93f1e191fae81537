# SPDX-License-Identifier: Apache-2.0
"""Rprop (Riedmiller and Braun 1993): steps by the sign of the gradient, for full batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from torch import Tensor

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_not_negative, scalar
from bittern.optim._rule_optimizer import RuleOptimizer


class Rprop(RuleOptimizer):
    """Rprop as torch.optim.Rprop; states `prev`, `step_size` in state_bits.

    s <- s etas[1] where g has the sign it had before, s etas[0] where it has the other, within step_sizes;
    p <- p - sign(g) s, but where the sign turned p stays and g counts as 0 next time. s starts at lr.
    `prev` keeps the sign of g alone (torch: g, of which it uses the sign), so that no storage loses it.
    Further keyword arguments and errors: see `LowBitOptimizer`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("Rprop", group, "lr")
        (minus, plus), (least, most) = group["etas"], group["step_sizes"]
        if not 0.0 < minus < 1.0 < plus:
            raise ValueError(f"Rprop: etas must be below and above 1, and positive; got {group['etas']}")
        if not 0.0 < least <= most:
            raise ValueError(f"Rprop: step_sizes must be positive, the smallest first; got {group['step_sizes']}")

    def initial(self, name: str, p: Tensor, group: Group) -> float:
        return float(scalar(group["lr"])) if name == "step_size" else 0.0

    def adjust_loaded_state(self, group: Group, found: dict[str, Any]) -> None:
        before = found.get("prev")
        if isinstance(before, Tensor) and before.is_floating_point():
            found["prev"] = before.sign()

    def rule(self, group: Group) -> Rule:
        return Rule.RPROP

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        (minus, plus), (least, most) = group["etas"], group["step_sizes"]
        return {"eta_minus": minus, "eta_plus": plus, "least": least, "most": most}
