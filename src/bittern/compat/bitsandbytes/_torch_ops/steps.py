# SPDX-License-Identifier: Apache-2.0
"""The optimizer steps under their names in `torch.ops.bitsandbytes`: they change their tensors and return nothing."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bittern.compat.bitsandbytes._torch_ops._operator import Operator
from bittern.compat.bitsandbytes._update import optimizer_update_8bit_blockwise, optimizer_update_32bit


def _step_32bit(
    optimizer_name: str,
    g: Tensor,
    p: Tensor,
    state1: Tensor,
    state2: Tensor | None,
    unorm_vec: Tensor | None,
    max_unorm: float,
    param_norm: float,
    beta1: float,
    beta2: float,
    beta3: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    step: int,
    lr: float,
    gnorm_scale: float,
    skip_zeros: bool = False,
) -> None:
    """param_norm is what bitsandbytes measured of p already; the rules here measure it themselves."""
    optimizer_update_32bit(
        optimizer_name,
        g,
        p,
        state1,
        beta1,
        eps,
        step,
        lr,
        state2,
        beta2,
        beta3,
        alpha,
        weight_decay,
        gnorm_scale,
        unorm_vec,
        max_unorm,
        skip_zeros,
    )


def _nothing(*args: Any, **kwargs: Any) -> None:
    """The fake of an operator that only changes its arguments."""


OPERATORS = (
    Operator(
        "optimizer_update_32bit(str optimizer_name, Tensor(a0!) g, Tensor(a1!) p, Tensor(a2!) state1, "
        "Tensor(a3!)? state2, Tensor(a4!)? unorm_vec, float max_unorm, float param_norm, float beta1, float beta2, "
        "float beta3, float alpha, float eps, float weight_decay, int step, float lr, float gnorm_scale, "
        "bool skip_zeros=False) -> ()",
        _step_32bit,
        _nothing,
    ),
    Operator(
        "optimizer_update_8bit_blockwise(str optimizer_name, Tensor(a0!) g, Tensor(a1!) p, Tensor(a2!) state1, "
        "Tensor(a3!)? state2, float beta1, float beta2, float beta3, float alpha, float eps, int step, float lr, "
        "Tensor(a4!) qmap1, Tensor(a5!)? qmap2, Tensor(a6!) absmax1, Tensor(a7!)? absmax2, float weight_decay, "
        "float gnorm_scale, bool skip_zeros=False) -> ()",
        optimizer_update_8bit_blockwise,
        _nothing,
    ),
)
