# SPDX-License-Identifier: Apache-2.0
"""What a module does that the graph traced from it would not show.

A traced graph holds the calls of layers and functions, and each layer is packed by its type. A hook, a method replaced
on one object, a wrapper that computes before it calls, a layer that stays in training mode: none of them is in the
graph, and a packed network would go on without them. They are refused by name, all at once, before anything is copied.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from bittern.deploy.kinds import PackError
from bittern.quantizer import Quantizer

HOOKS = {"_forward_hooks": "forward hook", "_forward_pre_hooks": "forward pre-hook"}
"""Attribute of a module by which torch keeps hooks that change an answer, and what to call them."""

GLOBAL_HOOKS = {"_global_forward_hooks": "forward hook", "_global_forward_pre_hooks": "forward pre-hook"}

REMOVERS = {
    "WeightNorm": "torch.nn.utils.remove_weight_norm({layer})",
    "SpectralNorm": "torch.nn.utils.remove_spectral_norm({layer})",
    "BasePruningMethod": "torch.nn.utils.prune.remove({layer}, 'weight')",
}
"""How to make a weight a plain parameter again, by the class, or its base, of the hook that computes it."""

WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "FullyShardedDataParallel": "module",
}
"""Classes that hold the model inside them, and under which name."""


def check_seen(model: Any) -> nn.Module:
    """The model, if a graph can show what it does. Raises: PackError naming everything that it could not show."""
    if not isinstance(model, nn.Module):
        raise PackError(f"pack: model must be a torch.nn.Module; got {type(model).__name__}; pass the network itself")
    wrapper = WRAPPERS.get(type(model).__name__)
    if wrapper is not None:
        raise PackError(f"pack: the model is wrapped in {type(model).__name__}; pack what is inside, model.{wrapper}")
    refuse(_problems(model), "would be lost")
    return model


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


def _problems(model: nn.Module) -> list[str]:
    problems = [
        f"torch has a global {what}, which runs at every call of a layer; remove it before packing"
        for attribute, what in GLOBAL_HOOKS.items()
        if getattr(torch_module, attribute, None)
    ]
    for name, module in model.named_modules():
        problems += _problems_of(_label(name, module), module)
    if "forward" in vars(model) or type(model).__call__ is not nn.Module.__call__:
        problems.append("the model's forward or __call__ was replaced; write what it does in the class's own forward")
    return problems


def _problems_of(label: str, module: nn.Module) -> Iterator[str]:
    lazy = [name for name, parameter in module.named_parameters(recurse=False) if is_lazy(parameter)]
    if lazy:
        yield f"{label} has a parameter {lazy[0]!r} without a size; run the model once on the example first"
    if parametrize.is_parametrized(module):
        names = ", ".join(map(repr, module.parametrizations))  # type: ignore[arg-type]
        yield (
            f"{label} computes its {names} by a parametrization; call torch.nn.utils.parametrize."
            "remove_parametrizations(layer, name) on it first"
        )
    for attribute, what in HOOKS.items():
        for hook in getattr(module, attribute).values():
            yield f"{label} has a {what} ({_name(hook)}), which no packed form runs; {_remover(hook)}"
    if is_leaf(module) and "forward" in vars(module):
        yield f"{label} had its forward replaced on this one object; make it a module of its own class"


def _label(name: str, module: nn.Module) -> str:
    return f"layer {name!r} ({type(module).__name__})" if name else f"the model ({type(module).__name__})"


def _name(hook: Any) -> str:
    return getattr(hook, "__qualname__", type(hook).__name__)


def _remover(hook: Any) -> str:
    for cls in type(hook).__mro__:
        if cls.__name__ in REMOVERS:
            return f"call {REMOVERS[cls.__name__].format(layer='layer')} first"
    return "remove it by the handle that registering it gave"


def cpu_copy(model: nn.Module) -> nn.Module:
    """A copy in eval mode on the CPU, its weights laid out as torch makes them."""
    frozen = copy.deepcopy(model).cpu().eval()
    for parameter in frozen.parameters():
        parameter.data = parameter.data.contiguous()
    return frozen


def describe_failure(error: BaseException) -> str:
    """The first line of an exception, for a message that has to be one sentence."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
