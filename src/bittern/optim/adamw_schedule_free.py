# SPDX-License-Identifier: Apache-2.0
"""Schedule-free AdamW (arXiv 2405.15682)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_betas
from bittern.optim._schedule_free import ScheduleFree


class AdamWScheduleFree(ScheduleFree):
    """Schedule-free AdamW as its authors' package; state `exp_avg_sq` in state_bits, `z` in float32.

    v <- beta2 v + (1 - beta2) g^2; u = g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay y; z <- z - lr u;
    x <- (1 - c) x + c z, c = w / sum w, w = t^r lr_max^weight_lr_power; y = (1 - beta1) z + beta1 x.
    lr grows linearly over warmup_steps, and lr_max is its largest so far. No schedule of lr is needed. Gradients are
    those at y. `eval()` puts x into the parameters, `train()` y; made in train mode. Running statistics of batch norms
    are those at y: refresh them at x by some forward passes in train mode of the model.
    Errors: RuntimeError for a step in eval mode; see `LowBitOptimizer`; ValueError for offload.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 0.0025,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
            "foreach": foreach,
            "maximize": maximize,
            "train_mode": True,
        }
        super().__init__(params, defaults, options)

    def beta(self, group: Group) -> float:
        return float(group["betas"][0])

    def check_group(self, group: Group) -> None:
        check_betas("AdamWScheduleFree", group["betas"], 2)
        self.check_sequences(group, "eps")

    def rule(self, group: Group) -> Rule:
        return Rule.SCHEDULE_FREE_ADAMW

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        beta2 = group["betas"][1]
        return {
            "beta2": beta2,
            "beta2_rest": 1 - beta2,
            "inv_sqrt_correction2": (1 - beta2 ** counts[0]) ** -0.5,
            "eps": group["eps"],
            **self.sequences(group, counts),
        }
