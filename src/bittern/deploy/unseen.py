# SPDX-License-Identifier: Apache-2.0
"""What a model does that torch.export would not show, or would show otherwise than it runs.

A layer that Bittern packs is read from its own parameters, so a forward replaced on one object or a weight that a hook
computes would be lost; a layer that stays in training mode is no inference. They are refused by name, all at once,
before anything is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.parameter import is_lazy

from bittern.deploy.errors import PackError
from bittern.nn._copy import copied, frozen_copy
from bittern.nn.binarize import LowBitLayer
from bittern.quantizer import Quantizer

GLOBAL_HOOKS = {"_global_forward_hooks": "forward hook", "_global_forward_pre_hooks": "forward pre-hook"}
"""Attribute of torch by which it keeps hooks on all modules, and what to call them."""

SHARDED = "FullyShardedDataParallel"

REMOVERS = {
    "WeightNorm": "torch.nn.utils.remove_weight_norm(layer)",
    "SpectralNorm": "torch.nn.utils.remove_spectral_norm(layer)",
    "BasePruningMethod": "torch.nn.utils.prune.remove(layer, 'weight')",
}
"""How to make a weight a plain parameter again, by the class, or its base, of the hook that computes it."""


def check_seen(model: Any) -> None:
    """Raises: PackError naming everything that torch.export would not show of this model."""
    refuse(_problems(model), "would be lost")


def check_eval(model: nn.Module) -> None:
    """Refuse layers that stay in training mode after `model.eval()`. Raises: PackError naming them."""
    stuck = (f"{_label(name, module)} stays in training mode after eval()" for name, module in model.named_modules())
    training = [module.training and is_leaf(module) for module in model.modules()]
    refuse([text for text, refused in zip(stuck, training, strict=True) if refused], "is no inference; set it to eval")


def refuse(problems: list[str], rule: str) -> None:
    """Raises: PackError with all problems in one message, when there are any."""
    if len(problems) == 1:
        raise PackError(f"pack: {problems[0]}")
    if problems:
        raise PackError(f"pack: {len(problems)} things {rule}: " + "; ".join(problems))


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is one call of the graph: a layer of torch.nn or bittern.nn, or a method inside such a layer."""
    if isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        return False
    home = type(module).__module__
    return isinstance(module, Quantizer) or any(
        home == p or home.startswith(f"{p}.") for p in ("torch.nn", "bittern.nn")
    )


def _problems(model: Any) -> list[str]:
    if not isinstance(model, nn.Module):
        return [f"model must be a torch.nn.Module; got {type(model).__name__}; pass the network itself"]
    if type(model).__name__ == SHARDED:
        return [f"the model is wrapped in {SHARDED}, which holds pieces; load its full state dict into a plain model"]
    problems = [
        f"torch has a global {what}, which runs at every call of a layer; remove it before packing"
        for attribute, what in GLOBAL_HOOKS.items()
        if getattr(torch_module, attribute)
    ]
    problems += [text for name, module in model.named_modules() for text in _problems_of(_label(name, module), module)]
    if "forward" in vars(model) or type(model).__call__ is not nn.Module.__call__:
        problems.append("the model's forward or __call__ was replaced; write what it does in the class's own forward")
    return problems


def _problems_of(label: str, module: nn.Module) -> Iterator[str]:
    lazy = [name for name, parameter in module.named_parameters(recurse=False) if is_lazy(parameter)]
    if lazy:
        yield f"{label} has a parameter {lazy[0]!r} without a size; run the model once on the example first"
    if is_leaf(module) and "forward" in vars(module):
        yield f"{label} had its forward replaced on this one object; make it a module of its own class"
    for own, parameter in module.named_parameters(recurse=False):
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            yield f"{own!r} of {label} must be float32; got {parameter.dtype}; call model.float()"
    if isinstance(module, LowBitLayer) and "weight" in vars(module):
        hooks = module._forward_pre_hooks.values()
        yield f"{label} computes its weight in a hook, which no packed layer runs; {_remover(hooks)}"


def _label(name: str, module: nn.Module) -> str:
    return f"layer {name!r} ({type(module).__name__})" if name else f"the model ({type(module).__name__})"


def _remover(hooks: Iterable[Any]) -> str:
    names = [cls.__name__ for hook in hooks for cls in type(hook).__mro__ if cls.__name__ in REMOVERS]
    return f"call {REMOVERS[names[0]]} first" if names else "make it a parameter"


def cpu_copy(model: nn.Module, *, frozen: bool = False) -> nn.Module:
    """A copy in eval mode on the CPU, its weights laid out as torch makes them.

    frozen: its parameters lie in the memory of the model's where they can, for forwards that write into none of them.
    """
    copy = (frozen_copy if frozen else copied)(model).cpu().eval()
    for parameter in copy.parameters():
        parameter.data = parameter.data.contiguous()
    return copy


def describe_failure(error: BaseException) -> str:
    """The first line of an exception, for a message that has to be one sentence."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
