"""A packed model: a program and its tensors, ready to run on one device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bittern._files import write_atomically
from bittern.deploy.binary_kinds import BinaryStep
from bittern.deploy.check import KINDS
from bittern.deploy.format import Content, decode, encode
from bittern.deploy.kinds import FormatError, Step
from bittern.deploy.program import Node, Program


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
        write_atomically(Path(path), self.to_bytes())

    def to_bytes(self) -> bytes:
        """The file of this model."""
        return encode(Content(self.program, self.tensors, self.info))

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


def load(path: str | Path, device: torch.device | str = "cpu") -> Packed:
    """Read a packed model; needs neither the class nor the code of the original.

    Raises: FileNotFoundError; FormatError for anything that is not a sound file of a version known here.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"load: no file {str(path)!r}; write one with bittern.pack(model, example).save(path)")
    try:
        return from_bytes(path.read_bytes(), device)
    except FormatError as error:
        raise FormatError(f"load: {str(path)!r} is not a usable packed model: {error}") from error


def from_bytes(data: bytes, device: torch.device | str = "cpu") -> Packed:
    """Read a packed model from the bytes of its file. Raises: FormatError."""
    content = decode(data)
    return Packed(content.program, content.tensors, content.info, torch.device(device))


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
