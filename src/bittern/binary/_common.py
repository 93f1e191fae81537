# SPDX-License-Identifier: Apache-2.0
"""What several methods share: checks of their options, and the statistics of a weight."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bittern._options import check_bits as check_bits
from bittern._options import check_choice as check_choice
from bittern.quantizer import LayerShape


def check_progress(owner: str, t: float) -> None:
    """Raises: ValueError when the progress t lies outside [0, 1] (or is NaN)."""
    if not 0.0 <= t <= 1.0:
        raise ValueError(f"{owner}.set_progress: t must lie in [0, 1]; got {t}; pass step / (total_steps - 1)")


def check_limit(owner: str, option: str, value: object, *, optional: bool = False) -> None:
    """Raises: ValueError unless `value` is a positive finite number (or None where it is optional)."""
    if optional and value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.0 < float(value) < math.inf:  # type: ignore[arg-type]
        none = ", or None for no limit" if optional else ""
        raise ValueError(f"{owner}: {option} must be a positive number{none}; got {value!r}")


def check_spread_of_filter(owner: str, shape: LayerShape) -> None:
    """Raises: ValueError when filters have one weight only, whose distance from their own mean is always 0."""
    if shape.fan_in < 2:
        raise ValueError(
            f"{owner}: centers each filter, so a filter needs at least 2 weights; got weight {list(shape.weight)}; "
            "keep this layer in full precision"
        )


def filter_mean(w: Tensor) -> Tensor:
    """[out, in, *kernel] -> [out, 1, ...]: the mean of each filter."""
    return w.mean(dim=tuple(range(1, w.ndim)), keepdim=True)


def filter_variance(centered: Tensor) -> Tensor:
    """[out, in, *kernel] whose filters have mean 0 -> [out, 1, ...]: the unbiased variance of each.

    Squares of centered numbers are as exact as torch.var, which takes ten times as long for some hundred numbers.
    """
    over = tuple(range(1, centered.ndim))
    return centered.square().sum(over, keepdim=True).div_(max(1, centered[0].numel() - 1))


def standard_gradient(d: Tensor, y: Tensor, factor: Tensor, spread: float = 1.0) -> Tensor:
    """Of filters w, where d is that of y = (w - mean) * factor, whose unbiased deviation is `spread`; writes into d, y.

    factor (d - mean(d) - y sum(d y) / (spread^2 (n - 1))): mean and deviation are differentiated. Where a factor has an
    epsilon beside the variance v, factor^2 = spread^2 / (v + epsilon), this is still its gradient.
    """
    over, n = tuple(range(1, d.ndim)), d[0].numel()
    along = (d * y).sum(over, keepdim=True).div_(spread * spread * (n - 1))
    return d.sub_(filter_mean(d)).sub_(y.mul_(along)).mul_(factor)


def standardized(w: Tensor, constant: Tensor | None = None) -> Tensor:
    """(W - mean) / std of each filter, 0 where all its weights are equal, in operations that autograd follows.

    constant: [out, 1, ...], which filters those are; None: found here.
    """
    if constant is None:
        constant = is_constant(w.detach())
    centered = w - filter_mean(w)
    # equal weights need not be 0 when they are centered: subtracting them from themselves keeps the gradient
    centered = centered - torch.where(constant, centered.detach(), 0.0)
    return centered / torch.where(constant, 1.0, w.std(dim=tuple(range(1, w.ndim)), keepdim=True))


def is_constant(w: Tensor) -> Tensor:
    """[out, 1, ...]: whether all weights of a filter are equal. Compared: their std may round to more than 0."""
    over = tuple(range(1, w.ndim))
    return w.amax(dim=over, keepdim=True) == w.amin(dim=over, keepdim=True)


def filter_mean_abs(w: Tensor) -> Tensor:
    """[out, in, *kernel] -> [out, 1, ...]: mean |w| of each filter, XNOR-Net's alpha; carries no gradient."""
    return filter_mean(w.detach().abs())
