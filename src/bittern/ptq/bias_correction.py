# SPDX-License-Identifier: Apache-2.0
"""Bias correction: quantized weights shift the mean of a layer's output; its bias takes the shift back.

    empirical    b + E[y_float] - E[y_quantized], the means of each channel over calibration data, layer after layer, so
                 that the y_quantized of a layer already has the corrections before it
    analytic     b - E[eps x] = b - eps E[x], eps = W_q - W summed over its kernel; E[x] follows from the batch norm
                 before: a normal variable of its bias beta and weight gamma, cut at low and high by the activation
    cut normal   E = gamma (phi(a) - phi(b)) + beta (Phi(b) - Phi(a)) + low Phi(a) + high (1 - Phi(b)),
                 a = (low - beta) / gamma, b = (high - beta) / gamma, phi and Phi of the standard normal distribution

The analytic rule takes E[x] for a padded zero too.
Source: Nagel et al., arXiv:1906.04721.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def empirical_correction(wanted: Tensor, found: Tensor, *, axis: int = 1) -> Tensor:
    """What the bias of each channel along `axis` lacks: mean wanted - mean found, [channels].

    wanted, found: the float and the quantized layer's output for the same inputs, before the activation.
    Raises: ValueError for shapes that differ, no numbers, and NaN or infinity.
    """
    if wanted.shape != found.shape or wanted.numel() == 0:
        shapes = f"{list(wanted.shape)} and {list(found.shape)}"
        raise ValueError(f"empirical_correction: both outputs must have one shape and numbers; got {shapes}")
    difference = (wanted.detach().double() - found.detach().double()).movedim(axis, 0).flatten(1).mean(1)
    return _finite("empirical_correction", difference).to(wanted.dtype)


def analytic_correction(weight: Tensor, quantized: Tensor, input_means: Tensor, *, groups: int = 1) -> Tensor:
    """-(W_q - W) E[x], [out]; weight, quantized: [out, in / groups, *kernel]; input_means: [in].

    Raises: ValueError for shapes that do not fit, and NaN or infinity.
    """
    if weight.shape != quantized.shape or weight.ndim < 2:
        shapes = f"{list(weight.shape)} and {list(quantized.shape)}"
        raise ValueError(f"analytic_correction: both weights must be [out, in / groups, *kernel]; got {shapes}")
    if input_means.shape != (weight.shape[1] * groups,) or weight.shape[0] % groups:
        wanted = weight.shape[1] * groups
        raise ValueError(f"analytic_correction: input_means must be [{wanted}]; got {list(input_means.shape)}")
    errors = (quantized.detach().double() - weight.detach().double()).reshape(*weight.shape[:2], -1).sum(2)
    by_group = errors.view(groups, weight.shape[0] // groups, weight.shape[1])
    means = input_means.detach().double().view(groups, weight.shape[1], 1)
    return _finite("analytic_correction", -(by_group @ means).flatten()).to(weight.dtype)


def cut_normal_mean(mean: Tensor, deviation: Tensor, *, low: float = 0.0, high: float = math.inf) -> Tensor:
    """The mean of clamp(x, low, high) of normal x; low 0: ReLU; 0 and 6: ReLU6. A deviation of 0 is a constant.

    Raises: ValueError for low > high, a negative deviation, and NaN or infinity in either tensor.
    """
    if not low <= high:
        raise ValueError(f"cut_normal_mean: low must be at most high; got {low!r} and {high!r}")
    beta, gamma = mean.detach().double(), deviation.detach().double()
    if not bool((gamma >= 0).all() and gamma.isfinite().all() and beta.isfinite().all()):
        raise ValueError("cut_normal_mean: means must be finite, deviations finite and at least 0; got others")
    safe = gamma.clamp(min=torch.finfo(torch.float64).tiny)
    a, b = (low - beta) / safe, (high - beta) / safe
    found = gamma * (_density(a) - _density(b)) + beta * (_below(b) - _below(a))
    for end, share in ((low, _below(a)), (high, _below(-b))):
        if math.isfinite(end):
            found = found + end * share
    return torch.where(gamma > 0, found, beta.clamp(low, high)).to(mean.dtype)


def _density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def _below(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-x / math.sqrt(2.0))


def _finite(owner: str, x: Tensor) -> Tensor:
    if not bool(x.isfinite().all()):
        raise ValueError(f"{owner}: the tensors must be finite; {int((~x.isfinite()).sum())} corrections are not")
    return x
