# SPDX-License-Identifier: Apache-2.0
"""Penalties on the latent weights of low-bit layers, which need no teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bittern.nn.binarize import LowBitLayer
from bittern.train.added.added_loss import AddedLoss, Seen

BIMODAL = 1.8
"""BD-BNN's target of the kurtosis, its authors' default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignRegularizer(AddedLoss):
    """BNN+'s regularizers, which pull weights to -alpha and alpha.

    Sum over all latent weights of low-bit layers, each once, of

        power=1  R1 = | alpha - |w| |        power=2  R2 = (alpha - |w|)^2

    Differences: in the paper alpha can be learned, which is not here. The text of the paper was not read; the formulas
    are those of code that others wrote after it.
    Errors: ValueError for another power, or an alpha that is not above 0 and finite.
    Source: arXiv 1812.11800.
    """

    name: str = "near_signs"
    power: int = 1
    alpha: float = 1.0

    def __post_init__(self) -> None:
        AddedLoss.__post_init__(self)
        if self.power not in (1, 2):
            raise ValueError(f"SignRegularizer: power must be 1 or 2; got {self.power!r}")
        if not 0.0 < self.alpha < math.inf:
            raise ValueError(f"SignRegularizer: alpha must be above 0 and finite; got {self.alpha}")

    def __call__(self, seen: Seen) -> Tensor:
        return torch.stack([self._of(w) for w in _latent("SignRegularizer", seen.model)]).sum()

    def _of(self, w: Tensor) -> Tensor:
        distance = self.alpha - w.abs()
        return (distance.abs() if self.power == 1 else distance.square()).sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class KurtosisRegularizer(AddedLoss):
    """BD-BNN's regularizer, which pulls the weights of a layer apart into two modes.

    Mean over low-bit layers of (K - target)^2, K the mean of ((w - mean) / std)^4 over the layer's latent weights,
    std with n - 1. Normal weights have K = 3, two equal peaks 1. A layer whose weights are all equal counts as K = 0.

    Errors: ValueError for a target that is not above 0 and finite, and for layers of one weight.
    Source: arXiv 2204.02004; BlueAnon/BD-BNN kurtosis.py, train.py.
    """

    name: str = "kurtosis"
    target: float = BIMODAL

    def __post_init__(self) -> None:
        AddedLoss.__post_init__(self)
        if not 0.0 < self.target < math.inf:
            raise ValueError(f"KurtosisRegularizer: target must be above 0 and finite; got {self.target}")

    def __call__(self, seen: Seen) -> Tensor:
        weights = _latent("KurtosisRegularizer", seen.model)
        return torch.stack([(_kurtosis(w) - self.target).square() for w in weights]).mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveRegularizer(AddedLoss):
    """BiPer's regularizer, which pulls latent weights to where sin(frequency w) is 0.

    Sum over low-bit layers of the mean of sin(frequency w)^2 over the layer's latent weights.

    Differences: frequency is an option here, the method's own there; both are 20 where nothing is said.
    Errors: ValueError for a frequency that is not above 0 and finite.
    Source: arXiv 2404.01278; edmav4/BiPer cifar10/main_stage2.py.
    """

    name: str = "waves"
    frequency: float = 20.0

    def __post_init__(self) -> None:
        AddedLoss.__post_init__(self)
        if not 0.0 < self.frequency < math.inf:
            raise ValueError(f"WaveRegularizer: frequency must be above 0 and finite; got {self.frequency}")

    def __call__(self, seen: Seen) -> Tensor:
        weights = _latent("WaveRegularizer", seen.model)
        return torch.stack([torch.sin(self.frequency * w).square().mean() for w in weights]).sum()


def _kurtosis(w: Tensor) -> Tensor:
    if w.numel() < 2:
        raise ValueError(f"KurtosisRegularizer: a layer of {w.numel()} weight has no kurtosis; leave it real")
    centered = w - w.mean()
    variance = centered.square().sum() / (w.numel() - 1)
    return centered.pow(4).mean() / torch.where(variance > 0, variance, 1.0).square()


def _latent(owner: str, model: nn.Module) -> list[Tensor]:
    """Latent weights, in float32 at least, one that layers share once. Raises: ValueError where there is none."""
    found = {id(m.weight): m.weight for m in model.modules() if isinstance(m, LowBitLayer)}
    if not found:
        raise ValueError(f"{owner}: the model has no low-bit layer, whose weights it is about; convert it first")
    return [w.to(torch.promote_types(w.dtype, torch.float32)) for w in found.values()]
