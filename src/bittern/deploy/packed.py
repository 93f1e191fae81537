"""A packed model: a program and its tensors, ready to run on one device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.binary_kinds import BINARY_KINDS, BinaryStep
from bittern.deploy.forms import RULES, Form
from bittern.deploy.kinds import FormatError, Kind, Step, check_node
from bittern.deploy.program import Node, Program
from bittern.deploy.real_kinds import REAL_KINDS

KINDS: dict[str, Kind] = {kind.name: kind for kind in (*BINARY_KINDS, *REAL_KINDS)}
"""Every kind of node, by the name that a file uses."""

MAX_ELEMENTS = 2**31
"""A program whose values grow beyond this for one sample is refused."""


class Packed:
    """A network that runs bit-packed; made by `pack` or `load`, called like a function.

    Call with x float32 [batch, *input_shape] -> float32 logits [batch, ...]. Calls do not track gradients.

    Raises: TypeError / ValueError for an input of another dtype, shape or device.
    """

    def __init__(
        self, program: Program, tensors: Mapping[str, Tensor], info: Mapping[str, str], device: torch.device
    ) -> None:
        self.program = program
        self.tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        self.info = dict(info)
        """What `pack` noted about the origin: free text by key."""
        self.device = device
        self._steps = [self._build(node) for node in program.nodes]
        self._released = _released_after(program)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.program.input_shape

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, as stored in the file (without its header)."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def __call__(self, x: Tensor) -> Tensor:
        self._check_input(x)
        with torch.no_grad():
            return self._run(x, None)

    def accumulators(self, x: Tensor) -> dict[str, Tensor]:
        """Integer accumulators of every low-bit layer, by name: int32 [batch, out_channels, *space]."""
        self._check_input(x)
        found: dict[str, Tensor] = {}
        with torch.no_grad():
            self._run(x, found)
        return found

    def to(self, device: torch.device | str) -> Packed:
        """The same model on another device."""
        return Packed(self.program, self.tensors, self.info, torch.device(device))

    def save(self, path: str | Path) -> None:
        """Write one safetensors file (docs/packed_format.md), all or nothing. Raises: OSError."""
        from bittern.deploy.format import save

        save(self, Path(path))

    def __repr__(self) -> str:
        low_bit = sum(node.kind == "binary" for node in self.program.nodes)
        return (
            f"Packed(input {list(self.input_shape)}, {len(self.program.nodes)} nodes, {low_bit} low-bit layers, "
            f"{self.nbytes} bytes, on {self.device})"
        )

    def _build(self, node: Node) -> Step:
        kind = KINDS[node.kind]
        return kind.build(node, {role: self.tensors[name] for role, name in node.tensors.items()}, self.device)

    def _check_input(self, x: Tensor) -> None:
        if x.dtype != torch.float32:
            raise TypeError(f"packed model: the input must be float32; got {x.dtype}; call .float() first")
        if tuple(x.shape[1:]) != self.input_shape or x.ndim != len(self.input_shape) + 1:
            sizes = ", ".join(str(size) for size in self.input_shape)
            raise ValueError(f"packed model: expected an input [batch, {sizes}]; got {list(x.shape)}")
        if x.device.type != self.device.type:
            raise ValueError(f"packed model: is on {self.device}, the input on {x.device}; move one with .to()")

    def _run(self, x: Tensor, accumulators: dict[str, Tensor] | None) -> Tensor:
        values: dict[int, Any] = {0: x}
        for node, step, released in zip(self.program.nodes, self._steps, self._released, strict=True):
            inputs = [values[v] for v in node.inputs]
            if accumulators is not None and isinstance(step, BinaryStep):
                accumulators[node.name] = step.accumulator(inputs[0])
            values[node.output] = step(*inputs)
            for v in released:
                del values[v]
        result: Tensor = values[self.program.output]
        return result


def _released_after(program: Program) -> list[tuple[int, ...]]:
    """For each node, the values that nothing reads any more after it."""
    last: dict[int, int] = {0: -1}
    for index, node in enumerate(program.nodes):
        last[node.output] = index
        for v in node.inputs:
            last[v] = index
    released: list[list[int]] = [[] for _ in program.nodes]
    for v, index in last.items():
        if v != program.output and index >= 0:
            released[index].append(v)
    return [tuple(values) for values in released]


def check_program(program: Program, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a program that is not well formed or whose values do not fit together, without computing anything.

    Raises: FormatError.
    """
    known = {0}
    for node in program.nodes:
        kind = KINDS.get(node.kind)
        if kind is None:
            raise FormatError(f"node {node.name!r}: unknown kind {node.kind!r}; the file needs a newer bittern")
        if not node.inputs or any(v not in known for v in node.inputs) or node.output in known:
            raise FormatError(f"node {node.name!r} ({node.kind}): reads or writes values out of order")
        check_node(kind, node, tensors)
        known.add(node.output)
    if program.output not in known:
        raise FormatError(f"the result, value {program.output}, is computed by no node")
    result = forms_of(program, tensors)[program.output]
    if result.type != "real":
        raise FormatError(f"the result must be a real tensor; it is {result.type}")


def forms_of(program: Program, tensors: Mapping[str, Tensor]) -> dict[int, Form]:
    """What every value is, for one sample. Raises: FormatError naming the node that does not fit its input."""
    forms = {0: Form((1, *program.input_shape))}
    for node in program.nodes:
        named = {role: tensors[name] for role, name in node.tensors.items()}
        form = RULES[node.kind](node, named, *(forms[v] for v in node.inputs))
        elements = 1
        for size in form.shape:
            elements *= size
        if elements > MAX_ELEMENTS:
            raise FormatError(f"node {node.name!r} ({node.kind}): its result {list(form.shape)} is too large")
        forms[node.output] = form
    return forms
