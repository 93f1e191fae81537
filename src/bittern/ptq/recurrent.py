# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers as `integer_lstm` and `integer_gru`: int8 between layers and steps, int16 gates and states.

The two products of a layer have a scale for each row; their sums become gates of 3 to 6 integer bits, as many as the
calibration data need, and the state a power of two. An LSTM's initial output has the scale of its outputs, states are
int16.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.kinds.integer.recurrent import (
    LEAST_EXPONENT,
    LEAST_INTEGER_BITS,
    MOST_EXPONENT,
)
from bittern.deploy.program import Node
from bittern.ops.fixed_point import factor_of
from bittern.ops.fixed_point_16 import MOST, MOST_INTEGER_BITS, ONE_BITS
from bittern.ops.integer_recurrent.arguments import LSTM
from bittern.ptq.grid import Grid
from bittern.ptq.products import Product, check_sums, factor_tensors
from bittern.ptq.rule import Rule
from bittern.ptq.sequences import STATE
from bittern.ptq.writer import Writer

KIND = "recurrent"
PARTS = {"input": "", "recurrent": "recurrent_"}
"""How its two products are called -> what the roles of their tensors begin with."""


class State(NamedTuple):
    """Of a layer in one direction: how its integers count."""

    outputs: int
    """The value of its outputs."""
    returned: bool
    """Whether the network reads the state behind the last step."""
    integer_bits: int
    """Of gates."""
    exponent: int
    """An integer of the state counts 2^exponent."""

    @property
    def scale(self) -> float:
        return 2.0**self.exponent


# -- numbers -----------------------------------------------------------------------------------------------


def is_recurrent(node: Node) -> bool:
    return node.kind == KIND


def layer_name(node: Node) -> str:
    """Of outputs and state alike."""
    return node.name.removesuffix(STATE)


def products_of(node: Node, tensors: Mapping[str, Tensor]) -> dict[str, Product]:
    """The two products of outputs, by name; those of a state are the same."""
    if node.attrs["state"]:
        return {}
    named, found = node.named(tensors), {}
    for part, prefix in PARTS.items():
        weight = named[f"{prefix}weight"]
        found[f"{node.name}.{part}"] = Product(weight, named.get(f"{prefix}bias", weight.new_zeros(len(weight))))
    return found


def with_products(
    node: Node, tensors: Mapping[str, Tensor], products: Mapping[str, Product]
) -> tuple[Node, Mapping[str, Tensor]]:
    """A node with other numbers."""
    own: dict[str, Tensor] = {}
    for part, prefix in PARTS.items():
        product = products[f"{layer_name(node)}.{part}"]
        own |= {f"{prefix}weight": product.weight, f"{prefix}bias": product.bias}
    return node.with_tensors(**{role: f"{node.name}.{role}" for role in own}), {
        f"{node.name}.{role}": tensor for role, tensor in own.items()
    }


def reads(node: Node, name: str) -> int:
    """The value that a product of outputs reads, by its name: the input, or the outputs of the step before."""
    return node.output if name.endswith(".recurrent") else node.inputs[0]


# -- calibration -------------------------------------------------------------------------------------------


class _Reach:
    """The largest magnitudes of gates and states."""

    def __init__(self) -> None:
        self.gate = self.state = 0.0

    def see(self, node: Node, tensors: Mapping[str, Tensor], x: Tensor, *initial: Tensor) -> None:
        with torch.no_grad():
            self._walk(node, tensors, x.double(), [part.double() for part in initial])

    def _walk(self, node: Node, tensors: Mapping[str, Tensor], x: Tensor, initial: Sequence[Tensor]) -> None:
        products = [Product(*map(Tensor.double, product)) for product in products_of(node, tensors).values()]
        given = x @ products[0].weight.t() + products[0].bias
        rows = products[1].weight.shape[1]
        h = initial[0] if initial else x.new_zeros(len(x), rows)
        c = initial[-1] if initial else torch.zeros_like(h)
        self._gate(given)
        self._state(c)
        steps = range(x.shape[1])
        for step in reversed(steps) if node.attrs["reverse"] else steps:
            own = h @ products[1].weight.t() + products[1].bias
            if node.attrs["cell"] == LSTM:
                gates = given[:, step] + own
                into, forget, new, out = gates.chunk(4, 1)
                c = forget.sigmoid() * c + into.sigmoid() * new.tanh()
                h = out.sigmoid() * c.tanh()
                self._gate(gates)
            else:
                reset, update = (given[:, step, : 2 * rows] + own[:, : 2 * rows]).chunk(2, 1)
                new = given[:, step, 2 * rows :] + reset.sigmoid() * own[:, 2 * rows :]
                for gate in (reset, update, new, own[:, 2 * rows :]):
                    self._gate(gate)
                h = c = update.sigmoid() * h + (1 - update.sigmoid()) * new.tanh()
            self._state(c)

    def _gate(self, x: Tensor) -> None:
        self.gate = max(self.gate, float(x.abs().max()))

    def _state(self, x: Tensor) -> None:
        self.state = max(self.state, float(x.abs().max()))

    @property
    def integer_bits(self) -> int:
        """The fewest that hold every gate."""
        return min(max(_bits(self.gate), LEAST_INTEGER_BITS), MOST_INTEGER_BITS)

    @property
    def exponent(self) -> int:
        """The least at which every state is an int16; a state of 1 may lose 2^-15."""
        return min(max(_bits(self.state * MOST / (MOST + 1)) - ONE_BITS, LEAST_EXPONENT), MOST_EXPONENT)


def _bits(size: float) -> int:
    """The least b with size <= 2^b."""
    return math.ceil(math.log2(size)) if size > 0 else LEAST_EXPONENT


class StateObserver:
    """Looks at the inputs of recurrent layers; call with each value in the order of the network."""

    def __init__(self, nodes: Iterable[Node], tensors: Mapping[str, Tensor]) -> None:
        """nodes: those that run in integers."""
        all_nodes = [node for node in nodes if is_recurrent(node)]
        self._outputs = {node.output: node for node in all_nodes if not node.attrs["state"]}
        self._returned = {layer_name(node) for node in all_nodes if node.attrs["state"]}
        self._reach = {node.name: _Reach() for node in self._outputs.values()}
        self._wanted = {value for node in self._outputs.values() for value in node.inputs}
        self._tensors = tensors
        self._seen: dict[int, Tensor] = {}

    def __call__(self, value: int, x: Any) -> None:
        if value in self._wanted:
            self._seen[value] = x
        node = self._outputs.get(value)
        if node is not None:
            self._reach[node.name].see(node, self._tensors, *(self._seen[v] for v in node.inputs))

    def states(self) -> dict[str, State]:
        """By the name of a layer."""
        return {
            node.name: State(
                node.output,
                node.name in self._returned,
                self._reach[node.name].integer_bits,
                self._reach[node.name].exponent,
            )
            for node in self._outputs.values()
        }


# -- writing -----------------------------------------------------------------------------------------------


def _write(writer: Writer, node: Node, value: int, out: Grid) -> int:
    if node.attrs["state"]:
        state = writer.states[layer_name(node)]
        last = writer.add("part", node, (writer.several[state.outputs],), index=1)
        return writer.builder.add("dequantize_16", f"{node.name}.dequantize", (last,), {}, scale=state.scale)
    state, x = writer.states[node.name], writer.grids[node.inputs[0]]
    lstm = node.attrs["cell"] == LSTM
    gate = Grid(2.0 ** (state.integer_bits - ONE_BITS), 0, -MOST - 1, MOST)
    tensors: dict[str, Tensor | None] = {}
    for (part, prefix), grid in zip(PARTS.items(), (x, out), strict=True):
        weights = writer.weights[f"{node.name}.{part}"]
        check_sums(node.name, weights, grid)
        tensors |= {f"{prefix}{role}": tensor for role, tensor in factor_tensors(weights, grid, gate).items()}
    factor = factor_of((2.0 ** (-2 * ONE_BITS) if lstm else state.scale) / out.scale)
    clip = {"clip": 0} if lstm else {}
    found = writer.add(
        "integer_lstm" if lstm else "integer_gru",
        node,
        (writer.integer(node.inputs[0]), *_initial(writer, node, state, out)),
        tensors,
        zero=x.zero,
        hidden_zero=out.zero,
        integer_bits=state.integer_bits,
        exponent=state.exponent,
        hidden_multiplier=factor.multiplier,
        hidden_shift=factor.shift,
        low=out.low,
        high=out.high,
        reverse=node.attrs["reverse"],
        state=state.returned,
        **clip,
    )
    if not state.returned:
        return found
    writer.several[value] = found
    return writer.builder.add("part", f"{node.name}.outputs", (found,), {}, index=0)


def _initial(writer: Writer, node: Node, state: State, out: Grid) -> list[int]:
    """The initial states: outputs in their grid, a state as int16."""
    if len(node.inputs) == 1:
        return []
    *hidden, last = node.inputs[1:]
    name = f"{node.name}.initial.quantize"
    wide = writer.builder.add("quantize_16", name, (writer.real(last),), {}, scale=state.scale)
    return [*(writer.rescaled(node, value, out) for value in hidden), wide]


def joined_with_outputs(node: Node) -> tuple[int, ...]:
    """Inputs that have the grid of the outputs: the initial output of an LSTM."""
    return node.inputs[1:2] if node.attrs["cell"] == LSTM and not node.attrs["state"] else ()


RECURRENT_RULES = {KIND: Rule(write=_write, leads=True, real=lambda node: bool(node.attrs["state"]))}
