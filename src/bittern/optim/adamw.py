# SPDX-License-Identifier: Apache-2.0
"""AdamW (arXiv 1711.05101): Adam with decoupled weight decay."""

from __future__ import annotations

from typing import Unpack

from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options
from bittern.optim.adam import Adam


class AdamW(Adam):
    """AdamW as torch.optim.AdamW: p shrinks by 1 - lr weight_decay before Adam's update.

    States and further keyword arguments as `Adam`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
            **options,
        )

    def adjust_loaded(self, group: Group) -> None:
        group["decoupled_weight_decay"] = True  # files of torch.optim before 2.7 do not say so
