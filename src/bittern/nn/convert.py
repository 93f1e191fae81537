# SPDX-License-Identifier: Apache-2.0
"""Conversion of an existing model: its convolutions and linear layers become low-bit ones."""

from __future__ import annotations

import warnings
from typing import Literal, overload

from torch import Tensor, nn

from bittern.nn._noise import noise_batches
from bittern.nn._probe import Example, arguments
from bittern.nn._watch import Watched
from bittern.nn.activations import Activation, Swap
from bittern.nn.binarize import LowBitLayer
from bittern.nn.decide import Prepared, functional_relus, prepare, watch_layers
from bittern.nn.keep import Keep
from bittern.nn.plan import Action, Plan, check_called, check_possible
from bittern.nn.rule import Rule, as_rule, new_layer
from bittern.nn.sign_shares import SignShare, sign_shares, warn_of_constant_inputs
from bittern.nn.substitutes import put_in_place
from bittern.quantizer import Method


@overload
def convert(
    model: nn.Module,
    method: Method | Rule,
    *,
    keep: Keep | None = None,
    example: Example | None = None,
    activation: Activation | None = None,
    pad_value: int = 0,
    dry_run: Literal[False] = False,
) -> nn.Module: ...


@overload
def convert(
    model: nn.Module,
    method: Method | Rule,
    *,
    keep: Keep | None = None,
    example: Example | None = None,
    activation: Activation | None = None,
    pad_value: int = 0,
    dry_run: Literal[True],
) -> Plan: ...


def convert(
    model: nn.Module,
    method: Method | Rule,
    *,
    keep: Keep | None = None,
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

    Converted as an nn.Conv1d, Conv2d or Linear are also the four projections of nn.MultiheadAttention (and so the
    encoder and decoder layers of torch), the products of nn.LSTM, nn.GRU and their cells (ih_l0 of inputs, hh_l0 of
    states; the gates stay real, and `bittern.nn.LSTM` takes no packed sequences), the Conv1D of GPT-2, convolutions
    that standardise their weight (once, here) and subclasses that compute as their base; the plan names each, and no
    other subclass is replaced.

    method: a Quantizer class, e.g. bittern.binary.ReActNet, or a partial of one; or a rule (name, layer) -> a method, a
        layer class with `from_float` (Linear4bit, LinearGroups, partial(BinaryConv2d, method=..., pad_value=1)), or
        None for a layer that stays real. A rule is asked once about each layer, and sees it as an nn.Conv1d, Conv2d
        or Linear under the name that the plan shows.
    keep: which layers stay as they are: a predicate on a `Candidate`, or a collection of names, fnmatch patterns and
        predicates, e.g. [first_and_last, "*.downsample.*"]. It takes the place of the default: for a method the first
        and the last layer, 1x1 shortcuts and depthwise convolutions, (first_and_last, shortcuts, depthwise); for a rule
        (), since it decides alone. A rule is not asked about what `keep` names.
    example: input for one forward in eval mode. With it, "first" and "last" follow the forward pass instead of the
        order of registration; layers that the forward never calls, or whose weight it reads elsewhere, are kept; and
        parameters that need the output size (XNOR-Net++) get it, which without it they get at the first forward.
        The share of +1 behind every sign is measured on it and on noise like it, and a warning names the layers whose
        input never changes.
    activation: what takes the place of activations. A class that needs no arguments, or a partial of one (nn.Hardtanh,
        nn.PReLU, nn.Identity): of every nn.ReLU, nn.ReLU6 and nn.Threshold. A function (name, module) -> module: of
        every elementwise activation, unless it returns the module that came in. A module that is called at several
        places is swapped for one. Functions (F.relu) cannot be swapped; with an example a warning names them.
    pad_value: what constant padding of the convolutions that become low-bit holds on the grid: 0, -1 or +1.
    dry_run: print the plan and return it instead of a model; see `plan_conversion`.

    Raises: ValueError for layers that cannot be converted (all of them listed), for a name that matches no layer,
    when no layer is left to convert and when `activation` swaps nothing; TypeError when `method` is no class, partial
    or rule, when a rule answers with anything else, and when `activation` makes no module.
    """
    rule = as_rule("convert", method)
    args = None if example is None else arguments("convert", example)
    prepared = prepare(model, method, keep, args, activation)
    if dry_run:
        print(prepared.plan)
        return prepared.plan
    _check_plan(prepared.plan, asks=rule is not None)
    converted = _carry_out(prepared, pad_value)
    if args is not None and prepared.watched is not None:
        check_called("convert", converted, watch_layers(converted, args), prepared.plan.names(Action.CONVERT))
        shares = _measure(converted, args)
        warn_of_constant_inputs("convert", shares)
        if prepared.swaps or any(share.constant for share in shares.values()):
            _warn_of_functions(prepared.watched)
    return converted


def _carry_out(prepared: Prepared, pad_value: int) -> nn.Module:
    """Put new layers and activations into the model, or make the model itself one."""
    model, new = prepared.model, {}
    for name, answer in prepared.answers.items():
        assert answer is not None
        old = model.get_submodule(name)
        new[id(old)] = new_layer("convert", name, old, answer, pad_value)
    _check_pad_value(pad_value, new)
    returned = {id(s.new): s.old for s in prepared.given.found.values() if not _converts(s.new, new)}
    return put_in_place(model, {**new, **returned, **_new_activations(model, prepared.swaps)})


def _converts(substitute: nn.Module, new: dict[int, nn.Module]) -> bool:
    """Whether a layer that was put in for another one, or any part of it, becomes a new layer."""
    return any(id(module) in new for module in (substitute, *substitute.children()))


def _new_activations(model: nn.Module, swaps: tuple[Swap, ...]) -> dict[int, nn.Module]:
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


def _check_plan(plan: Plan, *, asks: bool) -> None:
    check_possible("convert", "convert", plan)
    if not plan.names(Action.CONVERT):
        kept = "; ".join(f"{row.name!r}: {row.reason}" for row in plan.rows) or "it has no Conv1d, Conv2d or Linear"
        advice = "let the rule answer with a method for one" if asks else "pass another keep, e.g. keep=()"
        raise ValueError(f"convert: no layer is left to convert ({kept}); {advice}")


def _check_pad_value(pad_value: int, layers: dict[int, nn.Module]) -> None:
    low_bit = [layer for layer in layers.values() if isinstance(layer, LowBitLayer)]
    if pad_value != 0 and not any(layer.geometry.pad_value for layer in low_bit):
        raise ValueError(f"convert: pad_value={pad_value} has no effect: no converted layer has padding; drop it")
