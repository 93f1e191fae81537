"""Parameter groups for an optimizer, and the clipping of latent weights that some methods prescribe.

Only the sign of a latent weight reaches the network, so weight decay would not make the function smoother: it would
only pull every weight toward its next flip. It stays away from latent weights, and from thresholds, shifts, scales,
slopes, norms and biases, which are not matrices.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from bittern.nn._probe import check_materialized
from bittern.nn.binarize import LowBitLayer
from bittern.quantizer import LayerShape, Quantizer

GLOROT_SPREAD = 1.5
"""BinaryNet's W_LR = 1 / sqrt(1.5 / (n_in + n_out)), from the bound of Glorot's initialization (1602.02830)."""

_LATENT, _OTHER, _DECAY = "latent", "other", "decay"


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    *,
    latent_weight_decay: float = 0.0,
    glorot_lr: float | None = None,
) -> list[dict[str, Any]]:
    """Sort the trainable parameters of `model` into groups for a `torch.optim` optimizer.

    -> groups {"name", "params", "weight_decay"}, each parameter exactly once, empty groups left out:
        "latent"  weights of low-bit layers; weight_decay = latent_weight_decay
        "decay"   other parameters of 2 or more dimensions, outside methods, norms and PReLUs; weight_decay
        "other"   biases, norms, (R)PReLU, RSign and everything that belongs to a method; weight_decay = 0
    A parameter that several modules share belongs to the first of latent, other, decay that one of them puts it in.
    Frozen parameters (requires_grad=False) are left out.

    glorot_lr: a learning rate; then every latent weight gets a group of its own, "latent.<name>", with
        lr = glorot_lr * sqrt((n_in + n_out) / 1.5), n_in and n_out counting the kernel's taps: BNN's scaling of the
        step. Schedulers that multiply the rate keep the ratios.

    Raises: ValueError for a negative decay or rate, for parameters that have no size yet, and for a model without
    trainable parameters.
    """
    _check_rates(weight_decay=weight_decay, latent_weight_decay=latent_weight_decay, glorot_lr=glorot_lr)
    check_materialized("parameter_groups", model)
    kinds = _kinds(model)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not named:
        raise ValueError("parameter_groups: the model has no trainable parameter; check requires_grad")
    members = {kind: {n: p for n, p in named.items() if kinds[id(p)] == kind} for kind in (_LATENT, _DECAY, _OTHER)}
    decays = {_LATENT: latent_weight_decay, _DECAY: weight_decay, _OTHER: 0.0}
    groups: list[dict[str, Any]] = [
        {"name": kind, "params": list(found.values()), "weight_decay": decays[kind]}
        for kind, found in members.items()
        if found and not (kind == _LATENT and glorot_lr is not None)
    ]
    if glorot_lr is None:
        return groups
    shapes = {id(m.weight): m.method.shape for m in model.modules() if isinstance(m, LowBitLayer)}
    latent = [
        {
            "name": f"{_LATENT}.{name}",
            "params": [p],
            "weight_decay": latent_weight_decay,
            "lr": glorot_lr * glorot_factor(shapes[id(p)]),
        }
        for name, p in members[_LATENT].items()
    ]
    return latent + groups


def glorot_factor(shape: LayerShape) -> float:
    """sqrt((n_in + n_out) / 1.5), where n_in and n_out are in and out channels times the kernel's taps."""
    taps = math.prod(shape.weight[2:])
    return math.sqrt((shape.in_channels + shape.out_channels) * taps / GLOROT_SPREAD)


@torch.no_grad()
def clip_latent_weights(model: nn.Module) -> None:
    """Clamp the latent weights of each low-bit layer to +-clip_latent of its method, in place; None: never.

    Call it after each optimizer step.
    """
    for module in model.modules():
        if isinstance(module, LowBitLayer) and module.method.clip_latent is not None:
            module.weight.clamp_(-module.method.clip_latent, module.method.clip_latent)


def _kinds(model: nn.Module) -> dict[int, str]:
    """id of each parameter -> its group."""
    inside_methods = {id(m) for method in model.modules() if isinstance(method, Quantizer) for m in method.modules()}
    kinds: dict[int, str] = {}
    order = (_LATENT, _OTHER, _DECAY)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, LowBitLayer) and name == "weight":
                kind = _LATENT
            elif parameter.ndim < 2 or id(module) in inside_methods or _is_elementwise(module):
                kind = _OTHER
            else:
                kind = _DECAY
            kinds[id(parameter)] = min(kind, kinds.get(id(parameter), kind), key=order.index)
    return kinds


def _is_elementwise(module: nn.Module) -> bool:
    """Norms may hold parameters of several dimensions that still scale elements one by one."""
    return isinstance(module, (nn.LayerNorm, nn.RMSNorm, nn.PReLU))


def _check_rates(**rates: float | None) -> None:
    for name, rate in rates.items():
        if rate is not None and not rate >= 0.0:
            raise ValueError(f"parameter_groups: {name} must be at least 0; got {rate}")
