"""Conversion of an existing model: its convolutions and linear layers become low-bit ones."""

from __future__ import annotations

import copy
from typing import Literal, overload

from torch import Tensor, nn

from bittern.nn._probe import Example, arguments
from bittern.nn.binarize import LowBitLayer, check_method
from bittern.nn.conv import BinaryConv1d, BinaryConv2d
from bittern.nn.linear import BinaryLinear
from bittern.nn.plan import (
    Action,
    Keep,
    Plan,
    conv_padding,
    first_and_last,
    keep_rules,
    make_plan,
    reach,
)
from bittern.quantizer import Method


@overload
def convert(
    model: nn.Module,
    method: Method,
    *,
    keep: Keep = first_and_last,
    example: Example | None = None,
    pad_value: int = 0,
    dry_run: Literal[False] = False,
) -> nn.Module: ...


@overload
def convert(
    model: nn.Module,
    method: Method,
    *,
    keep: Keep = first_and_last,
    example: Example | None = None,
    pad_value: int = 0,
    dry_run: Literal[True],
) -> Plan: ...


def convert(
    model: nn.Module,
    method: Method,
    *,
    keep: Keep = first_and_last,
    example: Example | None = None,
    pad_value: int = 0,
    dry_run: bool = False,
) -> nn.Module | Plan:
    """Copy `model` with its Conv1d, Conv2d and Linear layers made low-bit; their weights and biases are taken over.

    The model that comes in is not touched. Parameters and modules that were shared stay shared. The forward pass
    is the model's own: activations, norms and shortcuts stay where they are.

    method: a Quantizer class, e.g. bittern.binary.ReActNet, or a partial of one.
    keep: which layers stay as they are: a predicate on a `Candidate` (default: the first and the last layer), or a
        collection of names, fnmatch patterns and predicates, e.g. [first_and_last, "*.downsample.*"].
    example: input for one forward in eval mode. With it, "first" and "last" follow the forward pass instead of the
        order of registration, layers that the forward never calls are kept, and parameters that need the output
        size (XNOR-Net++) get it; without it, those get it at the first forward.
    pad_value: what the padding of the converted convolutions holds on the grid: 0, -1 or +1.
    dry_run: print the plan and return it instead of a model; see `plan_conversion`.

    Raises: ValueError for layers that cannot be converted (all of them listed), for a name that matches no layer and
    when no layer is left to convert; TypeError when `method` is not a class or partial.
    """
    check_method("convert", method)
    rules = keep_rules(keep)
    model = copy.deepcopy(model)
    args = None if example is None else arguments("convert", example)
    plan = make_plan(model, rules, None if args is None else reach(model, args))
    if dry_run:
        print(plan)
        return plan
    _check_plan(plan)
    replacements = {}
    for name in plan.names(Action.CONVERT):
        old = model.get_submodule(name)
        replacements[id(old)] = _low_bit(name, old, method, pad_value)
    _check_pad_value(pad_value, replacements)
    model = _replace(model, replacements)
    if args is not None:
        _check_reached(model, args, plan)
    return model


def _low_bit(name: str, old: nn.Module, method: Method, pad_value: int) -> LowBitLayer:
    """The low-bit layer that takes the place, and the parameters, of `old`."""
    try:
        new = _build(old, method, pad_value)
    except ValueError as error:
        raise ValueError(f"convert: layer {name!r}: {error}") from error
    weight = old.weight
    assert isinstance(weight, nn.Parameter)
    new.to(device=weight.device, dtype=weight.dtype)
    # the parameter itself, not a copy of its values: layers that share it go on sharing it
    new.weight = weight
    new.bias = old.bias  # type: ignore[assignment]
    return new.train(old.training)


def _build(old: nn.Module, method: Method, pad_value: int) -> LowBitLayer:
    has_bias = old.bias is not None
    if isinstance(old, nn.Linear):
        return BinaryLinear(old.in_features, old.out_features, has_bias, method=method)
    assert isinstance(old, (nn.Conv1d, nn.Conv2d))
    padding = conv_padding(old)
    assert padding is not None
    cls = BinaryConv1d if isinstance(old, nn.Conv1d) else BinaryConv2d
    return cls(
        old.in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        old.groups,
        has_bias,
        method=method,
        pad_value=pad_value if any(padding) else 0,
    )


def _replace(model: nn.Module, replacements: dict[int, LowBitLayer]) -> nn.Module:
    """Put each new layer under every name that the old one had."""
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if id(child) in replacements:
                parent._modules[key] = replacements[id(child)]
    return replacements.get(id(model), model)


def _check_plan(plan: Plan) -> None:
    refused = [row for row in plan.rows if row.action is Action.REFUSE]
    if refused:
        listed = "; ".join(f"{row.name!r} ({row.kind}): {row.reason}" for row in refused)
        raise ValueError(f"convert: cannot convert {listed}. Change them, or name them in keep")
    if not plan.names(Action.CONVERT):
        kept = "; ".join(f"{row.name!r}: {row.reason}" for row in plan.rows) or "it has no Conv1d, Conv2d or Linear"
        raise ValueError(f"convert: no layer is left to convert ({kept}); pass another keep, e.g. keep=()")


def _check_pad_value(pad_value: int, layers: dict[int, LowBitLayer]) -> None:
    if pad_value != 0 and not any(layer.geometry.pad_value for layer in layers.values()):
        raise ValueError(f"convert: pad_value={pad_value} has no effect: no converted layer has padding; drop it")


def _check_reached(model: nn.Module, args: tuple[Tensor, ...], plan: Plan) -> None:
    """Run the converted model once and refuse one whose forward goes on using the old layers."""
    reached = {id(module) for module in reach(model, args)}
    for name in plan.names(Action.CONVERT):
        if id(model.get_submodule(name)) not in reached:
            raise ValueError(
                f"convert: the forward pass does not call the new layer {name!r}, because it holds the old one outside "
                "its modules, e.g. in a list; keep it in an nn.ModuleList, or name it in keep"
            )
