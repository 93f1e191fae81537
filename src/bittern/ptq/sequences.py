# SPDX-License-Identifier: Apache-2.0
"""LSTM and GRU layers and cells of torch as nodes `recurrent`, one a layer and direction, samples first.

What a network reads of their results follows: all steps, single steps, and the states behind the last step, which are
those of the outputs at that step, or a node of their own (an LSTM's cell state, and all states that leave the network
stacked). A cell is a layer over one step. Initial states of zeros go. Projections stay operators of torch, and so do
layers that `keep` names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from bittern.deploy.program import Attr, Node, Program
from bittern.deploy.shapes import forms_of
from bittern.ops.integer_recurrent.arguments import GRU, LSTM

Attrs = dict[str, Attr]

OPERATORS = {"lstm.input": LSTM, "gru.input": GRU}
CELLS = {"lstm_cell.default": LSTM, "gru_cell.default": GRU}
ZEROS = ("zeros.default", "zeros_like.default", "new_zeros.default")
STATE = ".state"
"""What the name of a node ends in that gives a state."""
OUTPUTS, HIDDEN = 0, 1
"""Which result of torch's operator is what; the third is the cell state."""


@dataclass
class _Layers:
    """A layer of torch that is taken apart."""

    cell: str
    outputs: int
    """Of the last layer, all directions side by side, [batch, steps, ...]."""
    batch_first: bool
    ends: list[tuple[int, int]] = field(default_factory=list)
    """By layer and direction: the value of all its steps, and the index of the last one."""
    states: list[int] = field(default_factory=list)
    """By layer and direction: the value of its state."""


def with_recurrent(
    program: Program, tensors: Mapping[str, Tensor], kept: Callable[[str], str | None]
) -> tuple[Program, dict[str, str]]:
    """The program with such layers taken apart, and why others stay as they are, by the names of their nodes.

    kept: of the name of a layer, why it is to stay; None: it is not.
    """
    if not any(_is_layer(node) or _is_cell(node) for node in program.nodes):
        return program, {}
    taker = _Taker(program, tensors, kept)
    for node in program.nodes:
        taker.add(node)
    return taker.result(), taker.reasons


def _is_layer(node: Node) -> bool:
    return node.kind == "aten" and node.attrs["operator"] in OPERATORS


def _is_cell(node: Node) -> bool:
    return node.kind == "aten" and node.attrs["operator"] in CELLS


def _plain(name: str) -> str:
    """Of a layer: what its first node is called, which may be another operator of the same call."""
    return name.split("#")[0]


def _arguments(node: Node) -> list[Any]:
    arguments = node.attrs["arguments"]
    assert isinstance(arguments, list)
    return arguments


class _Taker:
    def __init__(self, program: Program, tensors: Mapping[str, Tensor], kept: Callable[[str], str | None]) -> None:
        self.program, self.kept = program, kept
        self.reasons: dict[str, str] = {}
        self._forms = forms_of(program, tensors)
        self._next = max(node.output for node in program.nodes) + 1
        self._nodes: list[Node] = []
        self._names = {node.name for node in program.nodes}
        self._layers: dict[int, _Layers] = {}
        """By the value of torch's operator."""
        self._outputs: dict[int, int] = {}
        """Value of a state -> that of the outputs beside it."""
        self._parts: dict[int, tuple[_Layers, int]] = {}
        """Value of a result of it -> (its layer, which result)."""
        self._renamed: dict[int, int] = {}
        self._cells: dict[int, tuple[int, int]] = {}
        """Value of an LSTM's cell of torch -> the values of all its steps, of which there is one, and of its state."""
        self._hidden: dict[int, int] = {}
        """Value of a GRU's cell of torch -> that of its state, for the cell and the caller who go on from it."""
        self._dims = {value: len(form.at(0).shape) for value, form in self._forms.items() if form.type == "real"}

    def result(self) -> Program:
        output = self._renamed.get(self.program.output, self.program.output)
        read = {output}
        nodes = []
        for node in reversed(self._nodes):  # what nothing reads any more goes, such as initial states of zeros
            if node.output in read:
                nodes.append(node)
                read.update((*node.inputs, self._outputs.get(node.output, node.output)))
        return replace(self.program, nodes=tuple(reversed(nodes)), output=output)

    def add(self, node: Node) -> None:
        if _is_layer(node):
            reason = self._reason(node)
            if reason is None:
                self._layers[node.output] = self._taken(node)
                return
            self.reasons[node.name] = reason
        if _is_cell(node):
            reason = self._reason_of_cell(node)
            if reason is None:
                self._take_cell(node)
                return
            self.reasons[node.name] = reason
        if node.kind == "part" and node.inputs[0] in self._cells:
            outputs, state = self._cells[node.inputs[0]]
            if node.attrs["index"] == OUTPUTS:
                self._last(node.name, outputs, -1, node.output)
            else:
                self._renamed[node.output] = state
        elif node.kind == "part" and node.inputs[0] in self._layers:
            index = node.attrs["index"]
            assert isinstance(index, int)
            self._part(node, self._layers[node.inputs[0]], index)
        elif node.inputs and node.inputs[0] in self._parts and len(node.inputs) == 1 and self._read(node):
            return
        else:
            self._nodes.append(self._following(node))

    def _reason(self, node: Node) -> str | None:
        """Why a layer stays an operator."""
        kept = self.kept(_plain(node.name))
        if kept is not None:
            return kept
        _, hx, params, has_biases, layers, _, _, both, _ = _arguments(node)
        given = all(isinstance(entry, dict) and "tensor" in entry for entry in params)
        if not given:
            return "its weights are computed"
        if len(params) != layers * (2 if both else 1) * (4 if has_biases else 2):
            return "an LSTM with projections has no integer kind"
        states = hx if isinstance(hx, list) else [hx]
        if not all(isinstance(state, dict) and "input" in state for state in states):
            return "its initial states are numbers of the file"
        return None

    def _reason_of_cell(self, node: Node) -> str | None:
        """Why a cell stays an operator."""
        kept = self.kept(_plain(node.name))
        if kept is not None:
            return kept
        _, hx, *params = _arguments(node)
        if not all(entry is None or (isinstance(entry, dict) and "tensor" in entry) for entry in params):
            return "its weights are computed"
        states = hx if isinstance(hx, list) else [hx]
        if not all(isinstance(state, dict) and "input" in state for state in states):
            return "its initial states are numbers of the file"
        return None

    # -- writing ---------------------------------------------------------------------------------------------

    def _value(self, dims: int) -> int:
        self._next += 1
        self._dims[self._next - 1] = dims
        return self._next - 1

    def _name(self, name: str) -> str:
        found, count = name, 1
        while found in self._names:
            count += 1
            found = f"{name}#{count}"
        self._names.add(found)
        return found

    def _aten(
        self, name: str, operator: str, source: int, *arguments: Any, dims: int, output: int | None = None
    ) -> int:
        """An operator of torch that moves the numbers of a value; dims: of its result."""
        value = self._value(dims) if output is None else output
        first = {"input": 0, "order": list(range(self._dims[source]))}
        attrs: Attrs = {"operator": operator, "arguments": [first, *arguments]}
        self._nodes.append(Node("aten", self._name(name), (source,), value, attrs, {}))
        return value

    def _taken(self, node: Node) -> _Layers:
        """Nodes of one layer after another."""
        first, hx, params, has_biases, layers, _, _, both, batch_first = _arguments(node)
        name, directions, each = _plain(node.name), 2 if both else 1, 4 if has_biases else 2
        cell = OPERATORS[str(node.attrs["operator"])]
        x = node.inputs[first["input"]]
        x = self._renamed.get(x, x)
        if not batch_first:
            x = self._turned(name, x)
        states = [node.inputs[state["input"]] for state in (hx if isinstance(hx, list) else [hx])]
        zero = all(self._is_zero(value) for value in states)
        found = _Layers(cell, x, batch_first)
        for layer in range(layers):
            outputs = []
            for direction in range(directions):
                place = layer * directions + direction
                roles = ("weight", "recurrent_weight", "bias", "recurrent_bias")[:each]
                entries = params[place * each : (place + 1) * each]
                own = {role: node.tensors[entry["tensor"]] for role, entry in zip(roles, entries, strict=True)}
                label = f"{name}.l{layer}{'_reverse' if direction else ''}"
                initial = [] if zero else [self._initial(f"{label}.initial", value, place) for value in states]
                attrs: Attrs = {"cell": cell, "reverse": bool(direction), "state": False}
                y = self._value(3)
                whole = Node("recurrent", self._name(label), (x, *initial), y, attrs, own)
                self._nodes.append(whole)
                found.ends.append((y, 0 if direction else -1))
                found.states.append(self._value(2))
                self._nodes.append(
                    replace(whole.with_attrs(state=True), name=self._name(label + STATE), output=found.states[-1])
                )
                self._outputs[found.states[-1]] = y
                outputs.append(y)
            x = outputs[0]
            if both:
                x = self._value(3)
                self._nodes.append(
                    Node("concatenate", self._name(f"{name}.l{layer}.directions"), tuple(outputs), x, {"dim": 2}, {})
                )
        found.outputs = x
        return found

    def _take_cell(self, node: Node) -> None:
        """A layer over the one step that a cell takes."""
        first, hx, *params = _arguments(node)
        name, cell = _plain(node.name), CELLS[str(node.attrs["operator"])]
        x = node.inputs[first["input"]]
        step = self._aten(f"{name}.step", "unsqueeze.default", self._renamed.get(x, x), 1, dims=3)
        states = [node.inputs[state["input"]] for state in (hx if isinstance(hx, list) else [hx])]
        zero = all(self._is_zero(value) for value in states)
        initial = [] if zero else [self._hidden.get(v, self._renamed.get(v, v)) for v in states]
        roles = ("weight", "recurrent_weight", "bias", "recurrent_bias")
        own = {
            role: node.tensors[entry["tensor"]] for role, entry in zip(roles, params, strict=False) if entry is not None
        }
        attrs: Attrs = {"cell": cell, "reverse": False, "state": False}
        outputs, state = self._value(3), self._value(2)
        label = self._name(f"{name}.l0")
        whole = Node("recurrent", label, (step, *initial), outputs, attrs, own)
        self._nodes.append(whole)
        self._nodes.append(replace(whole.with_attrs(state=True), name=self._name(label + STATE), output=state))
        self._outputs[state] = outputs
        if cell == LSTM:
            self._cells[node.output] = outputs, state
            return
        self._hidden[node.output] = state
        self._last(node.name, outputs, -1, node.output)

    def _is_zero(self, value: int) -> bool:
        producer = self.program.producer(value)
        return producer is not None and producer.kind == "aten" and producer.attrs["operator"] in ZEROS

    def _initial(self, name: str, value: int, place: int) -> int:
        """[layers, batch, hidden] -> [batch, hidden] of one of them."""
        return self._aten(name, "select.int", self._renamed.get(value, value), 0, place, dims=2)

    def _turned(self, name: str, x: int) -> int:
        """[steps, batch, ...] with the batch first."""
        producer = next((node for node in self._nodes if node.output == x), None)
        if producer is not None and self._swaps(producer):
            return producer.inputs[0]
        return self._aten(f"{name}.samples_first", "permute.default", x, [1, 0, 2], dims=3)

    def _swaps(self, node: Node) -> bool:
        """Whether a node exchanges the first two of three dimensions."""
        if self._dims.get(node.inputs[0] if node.inputs else -1) != 3:
            return False
        if node.kind == "permute":
            return node.attrs["order"] == [1, 0, 2]
        if node.kind != "aten":
            return False
        operator, arguments = node.attrs["operator"], _arguments(node)[1:]
        if operator in ("transpose.int", "swapaxes.default"):
            return {dim % 3 for dim in arguments} == {0, 1}
        return operator == "permute.default" and [dim % 3 for dim in arguments[0]] == [1, 0, 2]

    # -- reading ---------------------------------------------------------------------------------------------

    def _part(self, node: Node, layers: _Layers, index: int) -> None:
        """One result of the layer: what reads it directly is read elsewhere; for all else it is made."""
        if index == OUTPUTS and layers.batch_first:
            self._renamed[node.output] = layers.outputs
            return
        self._parts[node.output] = layers, index
        others = [reader for reader in self.program.consumers(node.output) if not self._can_read(reader, layers, index)]
        if not others and node.output != self.program.output:
            return
        if index == OUTPUTS:
            self._aten(node.name, "permute.default", layers.outputs, [1, 0, 2], dims=3, output=node.output)
            return
        ends = layers.states
        if index == HIDDEN and layers.cell == LSTM:
            ends = [self._last(node.name, *end) for end in layers.ends]
        parts: list[Any] = [{"input": place, "order": [0, 1]} for place in range(len(ends))]
        attrs: Attrs = {"operator": "stack.default", "arguments": [parts, 0]}
        self._nodes.append(Node("aten", self._name(node.name), tuple(ends), node.output, attrs, {}))

    def _can_read(self, reader: Node, layers: _Layers, index: int) -> bool:
        if index == OUTPUTS and self._swaps(reader):
            return True
        if reader.kind != "aten" or len(reader.inputs) != 1:
            return False
        operator, arguments = reader.attrs["operator"], _arguments(reader)
        if operator == "select.int" and arguments[1] in (0, -3):
            return isinstance(arguments[2], int)
        dropped = operator == "squeeze.dim" and arguments[1] in (0, -3)
        dropped = dropped or (operator == "squeeze.dims" and arguments[1] == [0])
        return index != OUTPUTS and len(layers.ends) == 1 and dropped

    def _read(self, node: Node) -> bool:
        """What reads one step, or one state, of the results; returns whether it was that."""
        layers, index = self._parts[node.inputs[0]]
        if not self._can_read(node, layers, index):
            return False
        if index == OUTPUTS and self._swaps(node):
            self._renamed[node.output] = layers.outputs
            return True
        place = _arguments(node)[2] if node.attrs["operator"] == "select.int" else 0
        if index == OUTPUTS:
            self._last(node.name, layers.outputs, place, node.output)
        elif index == HIDDEN:
            self._last(node.name, *layers.ends[place], node.output)
        else:
            self._renamed[node.output] = layers.states[place]
        return True

    def _last(self, name: str, outputs: int, step: int, output: int | None = None) -> int:
        """One step of all."""
        return self._aten(name, "select.int", outputs, 1, step, dims=2, output=output)

    def _following(self, node: Node) -> Node:
        """A node that reads what has another number now."""
        if node.kind == "results":
            return replace(node, inputs=tuple(self._hidden.get(v, self._renamed.get(v, v)) for v in node.inputs))
        changed = [value in self._renamed for value in node.inputs]
        inputs = tuple(self._renamed.get(value, value) for value in node.inputs)
        if node.kind == "aten" and any(changed):
            dims = [self._dims[value] if fresh else 0 for value, fresh in zip(inputs, changed, strict=True)]
            node = node.with_attrs(arguments=[_in_order(entry, dims, changed) for entry in _arguments(node)])
        return replace(node, inputs=inputs)


def _in_order(argument: Any, dims: Sequence[int], fresh: Sequence[bool]) -> Any:
    """An argument that reads a value which an operator of torch wrote before, and does not now."""
    if isinstance(argument, list):
        return [_in_order(entry, dims, fresh) for entry in argument]
    if isinstance(argument, dict) and "input" in argument and "order" not in argument and fresh[argument["input"]]:
        return {**argument, "order": list(range(dims[argument["input"]]))}
    return argument
