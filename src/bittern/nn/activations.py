# SPDX-License-Identifier: Apache-2.0
"""Swap the activations of a model that is being converted: a ReLU leaves nothing for a sign to tell apart.

relu(x) is never negative, and sign(0) = +1, so a low-bit layer behind a ReLU sees +1 everywhere and answers the same
for every image.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

SWAPPED: tuple[type[nn.Module], ...] = (nn.ReLU, nn.ReLU6, nn.Threshold)
"""Activations that a class takes the place of: those that pass values on but never a negative one.

A sigmoid is not negative either, but it stands in gates, where another function would be another network.
"""

ELEMENTWISE: tuple[type[nn.Module], ...] = (
    *SWAPPED,
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardshrink,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.LogSigmoid,
    nn.Mish,
    nn.PReLU,
    nn.RReLU,
    nn.SELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softshrink,
    nn.Softsign,
    nn.Tanh,
    nn.Tanhshrink,
)
"""Activations that a function (name, module) -> module is asked about."""

Activation = type[nn.Module] | Callable[[], nn.Module] | Callable[[str, nn.Module], nn.Module]
"""A class or a partial of one, which makes a module for each ReLU; or a function of an activation's name and module."""

_COMPUTE_IT_THEMSELVES: tuple[type[nn.Module], ...] = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
"""Modules whose fast path computes the activation that they were made with, whatever module they hold."""


class Swap(NamedTuple):
    """What becomes of one activation."""

    name: str
    """Its first name, as in `named_modules`."""
    old: nn.Module
    new: nn.Module | None
    """None: it stays, and `reason` says why."""
    reason: str = ""


def plan_swaps(owner: str, model: nn.Module, activation: Activation) -> tuple[Swap, ...]:
    """One row per activation that `activation` replaces or that cannot be replaced; what a function leaves has none.

    Raises: TypeError when `activation` makes no module; ValueError when nothing is swapped.
    """
    make = _maker(owner, activation)
    swaps = []
    for name, module in model.named_modules():
        if not isinstance(module, SWAPPED if _is_class(activation) else ELEMENTWISE):
            continue
        reason = _why_not(module, model.get_submodule(name.rpartition(".")[0]) if name else None)
        new = None if reason else make(name, module)
        if reason or new is not module:
            swaps.append(Swap(name, module, new, reason))
    if not any(swap.new is not None for swap in swaps):
        stay = "; ".join(f"{swap.name!r}: {swap.reason}" for swap in swaps)
        raise ValueError(
            f"{owner}: activation swaps modules such as nn.ReLU, and the model has none that it would swap"
            f"{f' ({stay})' if stay else ''}; write F.relu(x) in a forward as an nn.ReLU of its own, or drop activation"
        )
    return tuple(swaps)


def _maker(owner: str, activation: Activation) -> Callable[[str, nn.Module], nn.Module]:
    """`activation` as a function (name, module) -> module whose errors say which activation it was asked for."""
    if not callable(activation):
        raise TypeError(
            f"{owner}: activation must be a class of modules or a function (name, module) -> module; "
            f"got {activation!r}; pass e.g. activation=nn.Hardtanh"
        )

    def make(name: str, module: nn.Module) -> nn.Module:
        try:
            made = activation() if _is_class(activation) else activation(name, module)  # type: ignore[call-arg]
        except TypeError as error:
            raise TypeError(
                f"{owner}: activation {name!r}: {activation!r} could not be called: {error}; pass a class that needs "
                "no arguments, a partial of one, or a function (name, module) -> module"
            ) from error
        if not isinstance(made, nn.Module):
            raise TypeError(
                f"{owner}: activation {name!r}: {activation!r} must make a module; it made a {type(made).__name__}; "
                "return the module that comes in to leave it as it is"
            )
        return made

    return make


def _is_class(activation: Activation) -> bool:
    return isinstance(activation.func if isinstance(activation, partial) else activation, type)


def _why_not(module: nn.Module, parent: nn.Module | None) -> str:
    """Why an activation stays although it is asked for; "" when it can go."""
    if module._forward_hooks or module._forward_pre_hooks:
        return "its forward hooks would be lost; remove them first"
    if isinstance(parent, _COMPUTE_IT_THEMSELVES):
        return f"{type(parent).__name__} computes its activation itself; make it with another one"
    if type(module) not in ELEMENTWISE:
        return f"class {type(module).__name__} may compute something else than its base"
    return ""
