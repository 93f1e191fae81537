# SPDX-License-Identifier: Apache-2.0
"""The C code against the packed model, node by node: each node of the packed model gets what the C code gave the node.

So a rounding in a real layer cannot hide, nor excuse, an error behind it: bits, accumulators and everything that is
computed without a sum must be equal, sums stay within the class *reduction*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _c_program import Trace, run
from _tolerance import assert_elementwise, assert_reduction
from bittern import ops
from bittern.deploy.form import Form
from bittern.deploy.interpreter import Interpreter, step_of
from bittern.deploy.kinds.binary import BinaryStep
from bittern.deploy.kinds.bits import half_open_threshold
from bittern.deploy.kinds.node_codes import halvings
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.packed import Packed
from bittern.deploy.program import Node
from bittern.deploy.shapes import forms_of

FUNCTIONS = ("gelu", "silu", "sigmoid", "tanh")
"""Kinds that the C library computes, each within a few units in the last place."""

FUNCTION_ROUNDINGS = 16


def check_every_node(
    packed: Packed, batch: Tensor, program: Path, emulator: tuple[str, ...] = (), order: str = "<"
) -> int:
    """Run a program on a batch and compare. Returns the number of accumulators compared."""
    traces = run(program, batch, emulator, order)
    assert len(traces) == len(batch)
    return sum(assert_agrees(packed, batch[i : i + 1], trace) for i, trace in enumerate(traces))


def assert_agrees(packed: Packed, x: Tensor, trace: Trace) -> int:
    """Compare one sample x [1, *input_shape] with its trace. Returns the number of accumulators compared."""
    forms = forms_of(packed.program, packed.tensors)
    values: dict[int, Any] = {0: x}
    slack: dict[int, Tensor] = {}
    compared = 0
    steps = Interpreter(packed.program, packed.tensors, packed.device).steps
    for node, step in zip(packed.program.nodes, steps, strict=True):
        inputs = [values[v] for v in node.inputs]
        if isinstance(step, BinaryStep):
            compared += _compare_accumulators(packed, node, step, inputs[0], trace)
        with torch.no_grad():
            expected = step(*inputs)
        if node.kind in ("flatten", "reshape") or forms[node.output].type == "acc":
            values[node.output] = expected
            continue
        form = forms[node.output]
        if form.type == "real" and node.output not in trace.reals:  # a convolution that goes on to a sign at once
            values[node.output] = expected
            slack[node.output] = _slack(packed, node, inputs, expected, slack)
            continue
        values[node.output] = _bits(trace, node, form) if form.type == "bits" else _reals(trace, node, form)
        if node.inputs[0] in slack:
            _compare_near(packed, node, inputs[0], slack[node.inputs[0]], expected, values[node.output])
        else:
            _compare(packed, node, inputs, expected, values[node.output])
    result = values[packed.program.output]
    assert torch.equal(trace.output, result.flatten())
    return compared


def _reals(trace: Trace, node: Node, form: Form) -> Tensor:
    return torch.tensor(trace.reals[node.output]).reshape(form.shape)


def _bits(trace: Trace, node: Node, form: Form) -> tuple[Tensor, ...]:
    """Words of 32 bits -> the int64 words of `ops.pack_signs`, by plane."""
    words = torch.tensor(trace.bits[node.output].astype("int64"))
    words = words.reshape(form.planes, -1, -(-form.channels // 32))
    words = torch.nn.functional.pad(words, (0, words.shape[-1] % 2))
    wide = words[..., ::2] | words[..., 1::2] << 32
    space = form.shape[1:-1] if form.last else ((1, *form.shape[2:]) if len(form.shape) == 3 else form.shape[2:])
    return tuple(plane.reshape(1, *space, -1) for plane in wide)


def _compare_accumulators(packed: Packed, node: Node, step: BinaryStep, planes: Any, trace: Trace) -> int:
    reader = packed.program.single_consumer(node.output) if node.attrs["result"] == "acc" else None
    found = torch.tensor(trace.accumulators[node.output if reader is None else reader.output])
    expected = step.accumulator(planes)
    # the C code counts padding and the level 0 as -1, and adds an offset later; halvings are in the scale
    offset = step.epilogue[0].to(torch.int32)
    found = (found.reshape(len(offset), -1) + offset.view(-1, 1)) >> halvings(node)
    if node.attrs["dims"] == 0:
        expected = expected.reshape(-1, expected.shape[-1]).T
    assert torch.equal(found.flatten(), expected.flatten()), f"accumulators of {node.name}"
    return expected.numel()


def _slack(packed: Packed, node: Node, inputs: list[Tensor], result: Tensor, slack: Mapping[int, Tensor]) -> Tensor:
    """How far a result that the C code does not keep may lie from that of torch: class *reduction*, carried on."""
    named = {role: packed.tensors[name] for role, name in node.tensors.items()}
    epsilon = torch.finfo(torch.float32).eps
    if node.kind == "conv":
        terms = _terms(node, named, inputs)
        assert terms is not None
        return torch.full((1, 1), 64 * math.sqrt(terms[0]) * epsilon * terms[1])
    assert node.kind in ("affine", "hardtanh")
    before = slack[node.inputs[0]]
    if node.kind == "hardtanh":
        return before
    return before * named["affine"][0].abs().view(1, -1) + epsilon * result.abs().max()


def _compare_near(packed: Packed, node: Node, x: Tensor, slack: Tensor, expected: Any, found: Any) -> None:
    """Class *boundary*: equal bits, except where the number lies so near the threshold that its rounding decides."""
    assert node.kind == "encode"
    channels = x.shape[1]
    threshold = packed.tensors[node.tensors["threshold"]] if "threshold" in node.tensors else torch.zeros(channels)
    if node.attrs["code"] == "levels":
        threshold = torch.full((channels,), half_open_threshold())
    view = (1, -1, *(1,) * (x.ndim - 2))
    near = (x - threshold.view(view)).abs() <= slack.expand(1, channels).reshape(view)
    wrong = [ops.unpack_signs(words[0], channels).reshape(-1, channels).T for words in (expected, found)]
    differ = (wrong[0] != wrong[1]).reshape(x.shape)
    assert not (differ & ~near).any(), f"bits of {node.name}"
    if differ.any():
        assert near.float().mean() < 0.1, f"{node.name}: too much lies near its threshold to say anything"


def _compare(packed: Packed, node: Node, inputs: list[Any], expected: Any, found: Any) -> None:
    named = {role: packed.tensors[name] for role, name in node.tensors.items()}
    if isinstance(expected, tuple):
        for one, other in zip(expected, found, strict=True):
            assert torch.equal(one.reshape(other.shape), other), f"bits of {node.name}"
    elif node.kind in FUNCTIONS:
        exact = _exact(node, named, inputs)
        assert_elementwise(found, exact, FUNCTION_ROUNDINGS, inputs[0].abs().clamp(min=1).double())
    elif (terms := _terms(node, named, inputs)) is not None:
        assert_reduction(found, _exact(node, named, inputs), *terms)
    elif node.kind == "binary" and len(inputs) == 2:
        _compare_scaled(packed, node, inputs, found)
    else:
        assert torch.equal(found, expected), f"{node.kind} {node.name}: {(found - expected).abs().max()}"


def _exact(node: Node, tensors: Mapping[str, Tensor], inputs: list[Tensor]) -> Tensor:
    """The node in float64."""
    wide = {role: tensor.double() for role, tensor in tensors.items()}
    result: Tensor = KINDS[node.kind].build(node, wide, torch.device("cpu"))(*(x.double() for x in inputs))
    return result


def _terms(node: Node, tensors: Mapping[str, Tensor], inputs: list[Any]) -> tuple[int, float] | None:
    """Number and largest of the terms that a sum has, or None for a node without one."""
    x = inputs[0]
    if node.kind in ("conv", "linear"):
        weight = tensors["weight"]
        return weight[0].numel() + 1, float(x.abs().max() * weight.abs().max() + _largest(tensors, "bias"))
    if node.kind in ("adaptive_pool", "mean") or (node.kind == "pool" and node.attrs["mode"] == "average"):
        return x.numel(), float(x.abs().max())
    if node.kind == "softmax":
        return x.numel(), float(2 * x.abs().max() + 1)
    if node.kind == "layer_norm":
        deviation = float(x.var(-1, correction=0).min()) + float(node.attrs["eps"])  # type: ignore[arg-type]
        gain = _largest(tensors, "weight") if "weight" in tensors else 1.0
        return x.shape[-1], gain * float(x.abs().max()) / math.sqrt(deviation) + _largest(tensors, "bias")
    return None


def _largest(tensors: Mapping[str, Tensor], role: str) -> float:
    return float(tensors[role].abs().max()) if role in tensors else 0.0


def _compare_scaled(packed: Packed, node: Node, inputs: list[Any], found: Tensor) -> None:
    """A low-bit layer times the scale of its input: exact up to that scale, a mean of means."""
    step = step_of(node, packed.tensors, packed.device)
    assert isinstance(step, BinaryStep)
    assert step.input_scale is not None
    product, x = step._product(inputs[0]).double(), inputs[1].double()
    largest = float(product.abs().max() * x.abs().max())
    assert_reduction(found, product * step.input_scale(x), x.numel(), largest)
