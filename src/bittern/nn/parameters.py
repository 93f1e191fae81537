# SPDX-License-Identifier: Apache-2.0
"""Parameter groups for an optimizer, and the clipping of latent weights that some methods prescribe.

Weight decay reaches latent weights only when asked to. Of BNN's and XNOR-Net++'s only the sign reaches the network, of
ReCU's the sign of what it centers and clamps, so decay would not make the function smoother. Of the others' the size
does, as a scale of the filter or the layer (XNOR-Net, Bi-Real Net, ReActNet, DoReFa, FDA, IR-Net's power of two; with
several bits entirely), but what decay does first is pull every weight toward its next flip. ReCU and IR-Net want that:
they standardize weights, whose size then only says how much a step counts, and decay it (`latent_weight_decay`).
Thresholds, shifts, scales, slopes, norms and biases are no matrices, and decay only with `elementwise_weight_decay`;
some authors decay everything.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from bittern import ops
from bittern.codes import Reals
from bittern.nn._probe import check_materialized
from bittern.nn.binarize import LowBitLayer, start_weight
from bittern.quantizer import LayerShape, Quantizer

GLOROT_SPREAD = 1.5
"""BinaryNet's W_LR = 1 / sqrt(1.5 / (n_in + n_out)), from the bound of Glorot's initialization (1602.02830)."""

_LATENT, _REAL, _OTHER, _DECAY = "latent", "real", "other", "decay"
_LOW_BIT = (_LATENT, _REAL)
"""Groups of the weights of low-bit layers."""


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    *,
    latent_weight_decay: float = 0.0,
    elementwise_weight_decay: float = 0.0,
    glorot_lr: float | None = None,
) -> list[dict[str, Any]]:
    """Sort the trainable parameters of `model` into groups for a `torch.optim` optimizer.

    -> groups {"name", "params", "weight_decay"}, each parameter exactly once, empty groups left out:
        "latent"  weights of low-bit layers; weight_decay = latent_weight_decay
        "real"    weights of low-bit layers whose method leaves them real (the first of two stages); weight_decay
        "decay"   other parameters of 2 or more dimensions, outside methods, norms and PReLUs; weight_decay
        "other"   biases, norms, (R)PReLU, RSign and everything that belongs to a method; elementwise_weight_decay
    A parameter that several modules share belongs to the first of latent, real, other, decay that one of them puts it
    in. Frozen parameters (requires_grad=False) are left out.

    glorot_lr: a learning rate; then every weight of a low-bit layer gets a group of its own, "latent.<name>", with
        lr = glorot_lr * sqrt((n_in + n_out) / 1.5), n_in and n_out counting the kernel's taps: BNN's scaling of the
        step. Schedulers that multiply the rate keep the ratios.

    Raises: ValueError for a negative decay or rate, for parameters that have no size yet, and for a model without
    trainable parameters.
    """
    decays = {
        _LATENT: latent_weight_decay,
        _REAL: weight_decay,
        _DECAY: weight_decay,
        _OTHER: elementwise_weight_decay,
    }
    _check_rates(
        weight_decay=weight_decay,
        latent_weight_decay=latent_weight_decay,
        elementwise_weight_decay=elementwise_weight_decay,
        glorot_lr=glorot_lr,
    )
    check_materialized("parameter_groups", model)
    kinds = _kinds(model)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not named:
        raise ValueError("parameter_groups: the model has no trainable parameter; check requires_grad")
    members = {kind: {n: p for n, p in named.items() if kinds[id(p)] == kind} for kind in decays}
    groups: list[dict[str, Any]] = [
        {"name": kind, "params": list(found.values()), "weight_decay": decays[kind]}
        for kind, found in members.items()
        if found and not (kind in _LOW_BIT and glorot_lr is not None)
    ]
    if glorot_lr is None:
        return groups
    shapes = {id(m.weight): m.method.shape for m in model.modules() if isinstance(m, LowBitLayer)}
    latent = [
        {
            "name": f"{kind}.{name}",
            "params": [p],
            "weight_decay": decays[kind],
            "lr": glorot_lr * glorot_factor(shapes[id(p)]),
        }
        for kind in _LOW_BIT
        for name, p in members[kind].items()
    ]
    return latent + groups


def glorot_factor(shape: LayerShape) -> float:
    """sqrt((n_in + n_out) / 1.5), where n_in and n_out are in and out channels times the kernel's taps."""
    taps = math.prod(shape.weight[2:])
    return math.sqrt((shape.in_channels + shape.out_channels) * taps / GLOROT_SPREAD)


@torch.no_grad()
def clip_latent_weights(model: nn.Module) -> None:
    """Clamp the latent weights of each low-bit layer to +-clip_latent of its method, in place; None: never.

    Methods whose authors do more after a step do it here (`Quantizer.settle`). Call it after each optimizer step.

    Raises: ValueError, with the layer's name, for weights that a method cannot have after a step.
    """
    for name, module in model.named_modules():
        if isinstance(module, LowBitLayer):
            try:
                module.method.settle(module.weight)
            except ValueError as error:
                raise ValueError(f"layer {name!r}: {error}") from None


def start_latent_weights(model: nn.Module) -> None:
    """Draw the weight of each low-bit layer anew, in place, as its method starts: for a network that was converted
    from one whose weights are worth nothing. Biases and parameters of methods stay.

    Raises: ValueError for a model without low-bit layers.
    """
    layers = [module for module in model.modules() if isinstance(module, LowBitLayer)]
    if not layers:
        raise ValueError("start_latent_weights: the model has no low-bit layer; convert it first")
    for layer in layers:
        start_weight(layer)


@torch.no_grad()
def sign_latent_weights(model: nn.Module) -> None:
    """Put -1 or +1, the signs of what stands there, into the layers whose weights are signs themselves, in place.

    For a network that was converted to such a method (`binary.SignWeights`) and shall keep the signs that it had.
    Raises: ValueError for a model without such layers.
    """
    layers = [m for m in model.modules() if isinstance(m, LowBitLayer) and m.method.latent_free]
    if not layers:
        raise ValueError(
            "sign_latent_weights: no layer has a method whose weights are signs themselves; convert the model with "
            "bittern.binary.SignWeights"
        )
    for layer in layers:
        layer.weight.copy_(ops.sign(layer.weight))


def is_latent_weight(name: str, module: nn.Module, p: Tensor) -> bool:
    """Whether p is the weight of a low-bit layer: a claim for `optim.Case`."""
    return isinstance(module, LowBitLayer) and p is module.weight


def is_latent_free(name: str, module: nn.Module, p: Tensor) -> bool:
    """Whether p is a weight that is a sign itself, which only Bop or BayesBiNN moves: a claim for `optim.Case`."""
    return isinstance(module, LowBitLayer) and p is module.weight and module.method.latent_free


def _kinds(model: nn.Module) -> dict[int, str]:
    """id of each parameter -> its group."""
    inside_methods = {id(m) for method in model.modules() if isinstance(method, Quantizer) for m in method.modules()}
    kinds: dict[int, str] = {}
    order = (_LATENT, _REAL, _OTHER, _DECAY)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, LowBitLayer) and name == "weight":
                kind = _REAL if isinstance(module.method.weight_code(), Reals) else _LATENT
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
