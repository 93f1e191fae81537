# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers as ONNX has them: LSTM, GRU and RNN, over any number of steps.

torch.export would write out every step of the example. ONNX orders the gates of a layer otherwise than torch does, and
stacks the weights of both directions: W [directions, gates * hidden, inputs], R the same over hidden, B both biases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.kinds.aten_call import bound
from bittern.deploy.kinds.kind import Step
from bittern.deploy.onnx.low_bit import CPU
from bittern.deploy.program import Node

PARAMETERS = 2
"""Place of the weights among the arguments."""
VERSION = 18
"""Of ONNX's operators."""


class Operator(NamedTuple):
    """What ONNX has of one of torch's recurrent operators."""

    name: str
    gates: tuple[int, ...]
    """Torch's number of each gate, in the order of ONNX."""
    attrs: Mapping[str, Any] = {}
    activation: str = ""


OPERATORS = {
    "lstm.input": Operator("LSTM", (0, 3, 1, 2)),
    "gru.input": Operator("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    "rnn_tanh.input": Operator("RNN", (0,), activation="Tanh"),
    "rnn_relu.input": Operator("RNN", (0,), activation="Relu"),
}


def is_recurrent(node: Node) -> bool:
    """Whether a node is a recurrent layer whose weights are tensors of the file, as those of torch's layers are."""
    return node.kind == "aten" and node.attrs["operator"] in OPERATORS and len(_roles(node)) == _count(node)


def _arguments(node: Node) -> list[Any]:
    given = node.attrs["arguments"]
    assert isinstance(given, list)
    return given


def _roles(node: Node) -> list[str]:
    """The roles of its weights: for each layer and direction W, R and, with biases, those of both."""
    return [entry["tensor"] for entry in _arguments(node)[PARAMETERS] if isinstance(entry, dict) and "tensor" in entry]


def _shape(node: Node) -> tuple[int, int, int]:
    """(layers, directions, weights of a direction)."""
    _, _, _, has_biases, layers, _, _, bidirectional, _ = _arguments(node)
    return layers, 2 if bidirectional else 1, 4 if has_biases else 2


def _count(node: Node) -> int:
    layers, directions, each = _shape(node)
    return layers * directions * each


def constants(node: Node, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of every layer as ONNX wants them, "weight0", "recurrent0", "bias0", ..., and all other tensors."""
    roles, (_, directions, each) = _roles(node), _shape(node)
    gates = OPERATORS[str(node.attrs["operator"])].gates
    found = {role: tensor for role, tensor in tensors.items() if role not in roles}
    own = [_reordered(tensors[role], gates) for role in roles]
    cells = [own[place : place + each] for place in range(0, len(own), each)]
    for layer in range(len(cells) // directions):
        group = cells[layer * directions : (layer + 1) * directions]
        found[f"weight{layer}"] = torch.stack([weights[0] for weights in group])
        found[f"recurrent{layer}"] = torch.stack([weights[1] for weights in group])
        if each > 2:
            found[f"bias{layer}"] = torch.stack([torch.cat(weights[2:]) for weights in group])
    return found


def _reordered(weight: Tensor, gates: Sequence[int]) -> Tensor:
    parts = weight.chunk(len(gates))
    return torch.cat([parts[gate] for gate in gates])


def step(node: Node, constants: Mapping[str, Tensor]) -> Step:
    """Inputs of the node -> (results of all steps, states), from `constants`."""
    without = [*_arguments(node)]
    without[PARAMETERS] = []
    read = bound(node.with_attrs(arguments=without), constants, CPU)
    operator, (layers, directions, _) = OPERATORS[str(node.attrs["operator"])], _shape(node)
    attrs = {"direction": "bidirectional" if directions > 1 else "forward", **operator.attrs}
    if operator.activation:
        attrs["activations"] = [operator.activation] * directions

    def call(*inputs: Any) -> tuple[Tensor, ...]:
        given = read(*inputs)
        states = given["hx"] if isinstance(given["hx"], list) else [given["hx"]]
        x = given["input"].transpose(0, 1) if given["batch_first"] else given["input"]
        ends: list[Sequence[Tensor]] = []
        for layer in range(layers):
            first = [state.narrow(0, layer * directions, directions) for state in states]
            weights = [constants.get(f"{role}{layer}") for role in ("weight", "recurrent", "bias")]
            y, *last = _layer(operator.name, x, weights, first, attrs)
            x = y.permute(0, 2, 1, 3).flatten(2)
            ends.append(last)
        results = x.transpose(0, 1) if given["batch_first"] else x
        return (results, *(torch.cat(own) for own in zip(*ends, strict=True)))

    return call


def _layer(
    name: str, x: Tensor, weights: Sequence[Tensor | None], states: Sequence[Tensor], attrs: Mapping[str, Any]
) -> Sequence[Tensor]:
    """One layer over x [steps, batch, inputs] -> ([steps, directions, batch, hidden], states)."""
    directions, batch, hidden = states[0].shape
    inputs = (x, *weights, None, *states)
    shapes = [[x.shape[0], directions, batch, hidden], *(list(state.shape) for state in states)]
    dtypes = [x.dtype] * len(shapes)
    made: Sequence[Tensor] = torch.onnx.ops.symbolic_multi_out(
        f"::{name}", inputs, {**attrs, "hidden_size": int(hidden)}, dtypes=dtypes, shapes=shapes, version=VERSION
    )
    return made
