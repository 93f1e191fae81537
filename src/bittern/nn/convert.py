# SPDX-License-Identifier: Apache-2.0
"""Conversion of an existing model: its convolutions and linear layers become low-bit ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, overload

from torch import Tensor, nn

from bittern.nn._copy import copied
from bittern.nn._noise import noise_batches
from bittern.nn._probe import Example, arguments
from bittern.nn._watch import Watched
from bittern.nn.activations import Activation, Swap, plan_swaps
from bittern.nn.binarize import LowBitLayer, check_method
from bittern.nn.conv import BinaryConv1d, BinaryConv2d
from bittern.nn.keep import DEFAULT_KEEP, Keep, keep_rules
from bittern.nn.linear import BinaryLinear
from bittern.nn.plan import (
    Action,
    Plan,
    check_called,
    check_possible,
    conv_padding,
    functional_relus,
    make_plan,
    watch_layers,
)
from bittern.nn.sign_shares import SignShare, sign_shares, warn_of_constant_inputs
from bittern.quantizer import Method


@overload
def convert(
    model: nn.Module,
    method: Method,
    *,
    keep: Keep = DEFAULT_KEEP,
    example: Example | None = None,
    activation: Activation | None = None,
    pad_value: int = 0,
    dry_run: Literal[False] = False,
) -> nn.Module: ...


@overload
def convert(
    model: nn.Module,
    method: Method,
    *,
    keep: Keep = DEFAULT_KEEP,
    example: Example | None = None,
    activation: Activation | None = None,
    pad_value: int = 0,
    dry_run: Literal[True],
) -> Plan: ...


def convert(
    model: nn.Module,
    method: Method,
    *,
    keep: Keep = DEFAULT_KEEP,
    example: Example | None = None,
    activation: Activation | None = None,
    pad_value: int = 0,
    dry_run: bool = False,
) -> nn.Module | Plan:
    """Copy `model` with its Conv1d, Conv2d and Linear layers made low-bit; their weights and biases are taken over.

    The model that comes in is not touched. Parameters and modules that were shared stay shared. The forward pass
    is the model's own: norms, shortcuts and, without `activation`, activations stay as they are and where they are.
    Weights that were never trained should start as the method's paper has them: `nn.start_latent_weights(model)`.
    A layer behind a ReLU sees no sign but +1 (docs/make_it_binary.md says what to change).

    method: a Quantizer class, e.g. bittern.binary.ReActNet, or a partial of one.
    keep: which layers stay as they are: a predicate on a `Candidate`, or a collection of names, fnmatch patterns and
        predicates, e.g. [first_and_last, "*.downsample.*"]. It takes the place of the default, which keeps the first
        and the last layer, 1x1 shortcuts and depthwise convolutions: (first_and_last, shortcuts, depthwise).
    example: input for one forward in eval mode. With it, "first" and "last" follow the forward pass instead of the
        order of registration; layers that the forward never calls, or whose weight it reads elsewhere, are kept; and
        parameters that need the output size (XNOR-Net++) get it, which without it they get at the first forward.
        The share of +1 behind every sign is measured on it and on noise like it, and a warning names the layers whose
        input never changes.
    activation: what takes the place of activations. A class that needs no arguments, or a partial of one (nn.Hardtanh,
        nn.PReLU, nn.Identity): of every nn.ReLU, nn.ReLU6 and nn.Threshold. A function (name, module) -> module: of
        every elementwise activation, unless it returns the module that came in. A module that is called at several
        places is swapped for one. Functions (F.relu) cannot be swapped; with an example a warning names them.
    pad_value: what the padding of the converted convolutions holds on the grid: 0, -1 or +1.
    dry_run: print the plan and return it instead of a model; see `plan_conversion`.

    Raises: ValueError for layers that cannot be converted (all of them listed), for a name that matches no layer,
    when no layer is left to convert and when `activation` swaps nothing; TypeError when `method` is not a class or
    partial, or `activation` makes no module.
    """
    check_method("convert", method)
    rules = keep_rules("convert", keep)
    model = copied(model)
    _call_all_layers(model)
    args = None if example is None else arguments("convert", example)
    watched = None if args is None else watch_layers(model, args)
    swaps = () if activation is None else plan_swaps("convert", model, activation)
    plan = make_plan(model, rules, watched, swaps)
    if dry_run:
        print(plan)
        return plan
    _check_plan(plan)
    model = _carry_out(model, plan, swaps, method, pad_value)
    if args is not None and watched is not None:
        check_called("convert", model, watch_layers(model, args), plan.names(Action.CONVERT))
        shares = _measure(model, args)
        warn_of_constant_inputs("convert", shares)
        if swaps or any(share.constant for share in shares.values()):
            _warn_of_functions(watched)
    return model


def _call_all_layers(model: nn.Module) -> None:
    """Let encoder layers of torch call their linear layers in eval mode too.

    There they may hand all their weights to one function instead, which would multiply by latent weights. The number
    asks for that function alone.
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0


def _carry_out(model: nn.Module, plan: Plan, swaps: Sequence[Swap], method: Method, pad_value: int) -> nn.Module:
    """Put new layers and activations into `model`, or make the model itself one."""
    layers = [(name, model.get_submodule(name)) for name in plan.names(Action.CONVERT)]
    low_bit = {id(old): _low_bit(name, old, method, pad_value) for name, old in layers}
    _check_pad_value(pad_value, low_bit)
    return put_in_place(model, {**low_bit, **_new_activations(model, swaps)})


def _new_activations(model: nn.Module, swaps: Sequence[Swap]) -> dict[int, nn.Module]:
    """id of the old activation -> the new one, on the device and of the type of the model's first real parameter."""
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    found = {}
    for swap in swaps:
        if swap.new is not None:
            found[id(swap.old)] = swap.new.train(swap.old.training)
            if like is not None:
                swap.new.to(device=like.device, dtype=like.dtype)
    return found


def _measure(model: nn.Module, args: tuple[Tensor, ...]) -> dict[str, SignShare]:
    """What reaches the low-bit layers on the example and on noise like it; on the example alone where noise fails."""
    try:
        return sign_shares(model, [args, *noise_batches(args)])
    except Exception as error:
        warnings.warn(
            f"convert: the model does not run on noise of the example's shape ({type(error).__name__}: {error}), so "
            "whether the inputs of low-bit layers vary was measured on the example alone",
            stacklevel=3,
        )
        return sign_shares(model, [args])


def _warn_of_functions(watched: Watched) -> None:
    for sentence in functional_relus(watched):
        warnings.warn(f"convert: {sentence}", stacklevel=3)


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


def put_in_place(model: nn.Module, replacements: dict[int, nn.Module]) -> nn.Module:
    """Put each new module under every name that the old one had."""
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if id(child) in replacements:
                parent._modules[key] = replacements[id(child)]
    return replacements.get(id(model), model)


def _check_plan(plan: Plan) -> None:
    check_possible("convert", "convert", plan)
    if not plan.names(Action.CONVERT):
        kept = "; ".join(f"{row.name!r}: {row.reason}" for row in plan.rows) or "it has no Conv1d, Conv2d or Linear"
        raise ValueError(f"convert: no layer is left to convert ({kept}); pass another keep, e.g. keep=()")


def _check_pad_value(pad_value: int, layers: dict[int, LowBitLayer]) -> None:
    if pad_value != 0 and not any(layer.geometry.pad_value for layer in layers.values()):
        raise ValueError(f"convert: pad_value={pad_value} has no effect: no converted layer has padding; drop it")
