# SPDX-License-Identifier: Apache-2.0
"""A packed model: a program and its tensors, ready to run on one device."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bittern._files import write_atomically
from bittern.deploy.budget import MEMORY_LIMIT
from bittern.deploy.engine.engine import Engine
from bittern.deploy.errors import FormatError
from bittern.deploy.format import Content, decode, encode
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.parameters import KEYWORD, ONE, bound
from bittern.deploy.plain import modes_are_set, plain_cpu, plain_torch
from bittern.deploy.program import VALUE_TYPES, Input, Program
from bittern.deploy.structure import mapped

CONSTANT_LAYERS = "constant_layers"
"""In `info`: a list, as JSON, of low-bit layers whose answer never changes, so that packing computed it."""


ADVICE = {"float32": ".float()", "int64": ".long()", "int32": ".int()", "bool": ".bool()"}
"""How to make a tensor of a type; of any other `.to`."""


class Packed:
    """A network that runs bit-packed; made by `pack` or `load`, called like a function.

    Call it as the model was called, with x [batch, *input_shape] or with the arguments of the example, by position or
    by name, for a batch of any size -> what the model returns: float32 logits [batch, ...], a tuple, or a dict by name.
    Arguments that were no tensors in the example are part of the program and may be left out. Calls do not track
    gradients, leave what they are given as it was, and give tensors of their own memory; autocast, inference mode and
    torch's defaults change no answer. A model can be copied, pickled and sent to other processes, where it is read as
    a file is.

    Raises: TypeError / ValueError for arguments that do not fit, or of another dtype, shape or device.
    """

    def __init__(
        self,
        program: Program,
        tensors: Mapping[str, Tensor],
        info: Mapping[str, str],
        device: torch.device,
        real: torch.dtype = torch.float32,
    ) -> None:
        self.program = program
        self.tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        self._memory = {tensor.untyped_storage().data_ptr() for tensor in self.tensors.values()}
        self._plain = program.parameters == ONE
        self.info = dict(info)
        """What `pack` noted about the origin: free text by key."""
        self.device = device
        self.real = real
        """Type in which real convolutions and linear layers compute."""
        self._fitting: tuple[Any, ...] | None = None
        """Shape, type, layout and device of the last input, which were found right, of a model that takes one."""
        on_cpu = device.type == "cpu"
        if real not in (torch.float32, torch.bfloat16) or (real != torch.float32 and not on_cpu):
            raise ValueError(
                f"packed model: real layers compute in float32, or on the CPU in bfloat16; got {real} on {device}"
            )
        with plain_cpu():
            self._engine = Engine(program, self.tensors, real) if on_cpu else Interpreter(program, self.tensors, device)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The tensors that it takes, in the order in which a call gives them."""
        return self.program.inputs

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample of a model that takes one tensor. Raises: ValueError for others (`inputs`)."""
        if not self.takes_one_tensor:
            names = ", ".join(given.name for given in self.inputs)
            raise ValueError(f"packed model: it is called with {names}, so its input has no one shape; use .inputs")
        return self.inputs[0].shape

    @property
    def takes_one_tensor(self) -> bool:
        """Whether it is called as packed(x), x [batch, ...], as most are."""
        first = self.program.parameters[0]
        return len(self.inputs) == 1 and self.inputs[0].batch == 0 and first.tree == 0 and first.how != KEYWORD

    @property
    def engine(self) -> Engine:
        """What runs the program on the CPU. Raises: ValueError on another device, where nodes run one by one."""
        if not isinstance(self._engine, Engine):
            raise ValueError(
                f"packed model: fused programs run on the CPU, this one is on {self.device}; use .to('cpu')"
            )
        return self._engine

    @property
    def constant_layers(self) -> tuple[str, ...]:
        """Low-bit layers of the model that packing computed, since nothing of the input reaches them."""
        try:
            names = json.loads(self.info.get(CONSTANT_LAYERS, "[]"))
        except ValueError:
            return ()
        return tuple(map(str, names)) if isinstance(names, list) else ()

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, as stored in the file (without its header)."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inputs = self._checked(args, kwargs)
        if modes_are_set(self.device.type):
            with plain_torch(self.device.type):
                return self._answer(inputs)
        if not torch.is_grad_enabled():
            return self._answer(inputs)
        torch.set_grad_enabled(False)  # half the time of torch.no_grad
        try:
            return self._answer(inputs)
        finally:
            torch.set_grad_enabled(True)

    def _answer(self, inputs: Sequence[Tensor]) -> Any:
        given = {x.untyped_storage().data_ptr() for x in inputs}

        def own(result: Tensor) -> Tensor:
            place = result.untyped_storage().data_ptr()
            return result.clone() if place in given or place in self._memory else result

        return mapped(self._engine(*[x.resolve_neg() for x in inputs]), own)

    def accumulators(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Integer accumulators of every low-bit layer, by name: int32 [batch, out_channels, *space]."""
        inputs = self._checked(args, kwargs)
        with plain_torch(self.device.type):
            return self._engine.accumulators(*[x.resolve_neg() for x in inputs])

    def _checked(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Tensor]:
        """The inputs of a call, in the order of the program. Raises: TypeError, ValueError."""
        if not self._plain or len(args) != 1 or kwargs:
            return self.checked(bound(self.program.parameters, args, kwargs))
        x = args[0]
        signature = (x.shape, x.dtype, x.layout, x.device) if isinstance(x, Tensor) else None
        if signature is None or signature != self._fitting:
            self.checked(args)
            self._fitting = signature
        return args

    def checked(self, inputs: Sequence[Any]) -> Sequence[Tensor]:
        """Inputs in the order of the program, unchanged. Raises: TypeError, ValueError for others."""
        samples = None
        for given, x in zip(self.inputs, inputs, strict=True):
            _check_input("the input" if self._plain else f"input {given.name!r}", given, x, self.device)
            if given.batch is not None:
                count = x.shape[given.batch]
                if samples not in (None, count):
                    first = self.inputs[self.program.batch_input].name
                    raise ValueError(
                        f"packed model: all inputs must have as many samples; {first!r} has {samples}, "
                        f"{given.name!r} {count}"
                    )
                samples = count
        return inputs

    def to(self, device: torch.device | str) -> Packed:
        """The same model on another device, its real layers in the same type.

        Raises: ValueError when they compute in bfloat16, which only the CPU does.
        """
        return Packed(self.program, self.tensors, self.info, torch.device(device), self.real)

    def with_real(self, dtype: torch.dtype) -> Packed:
        """The same model whose real convolutions and linear layers compute in float32 or bfloat16.

        bfloat16 is faster where the CPU multiplies it (AMX, AVX512-BF16), and not exact: rounded inputs may turn signs.
        `verify` reports by how much. Raises: ValueError for another type, or for bfloat16 on another device.
        """
        return Packed(self.program, self.tensors, self.info, self.device, dtype)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file (docs/packed_format.md), all or nothing. Raises: OSError."""
        write_atomically(Path(path), self.to_bytes())

    def to_bytes(self) -> bytes:
        """The file of this model."""
        return encode(Content(self.program, self.tensors, self.info))

    def __reduce__(self) -> tuple[Callable[..., Packed], tuple[bytes, str, torch.dtype]]:
        """Copies and pickles hold the bytes of the file, which are checked as those of any file are."""
        return _restored, (self.to_bytes(), str(self.device), self.real)

    def _inputs_in_words(self) -> str:
        if self.takes_one_tensor:
            return f"input {list(self.input_shape)}"
        return f"inputs {', '.join(f'{given.name} {list(given.shape)}' for given in self.inputs)}"

    def __repr__(self) -> str:
        low_bit = sum(node.kind == "binary" for node in self.program.nodes)
        return (
            f"Packed({self._inputs_in_words()}, {len(self.program.nodes)} nodes, {low_bit} low-bit layers, "
            f"{self.nbytes} bytes, on {self.device})"
        )


def _check_input(what: str, given: Input, x: Any, device: torch.device) -> None:
    """Raises: TypeError, ValueError for what is not this input. what: how a message calls it."""
    if not isinstance(x, Tensor):
        raise TypeError(f"packed model: {what} must be a torch.Tensor; got {type_and_advice(x)}")
    if x.layout != torch.strided:
        raise TypeError(f"packed model: {what} must be dense; got {x.layout}; call .to_dense() first")
    if x.dtype != VALUE_TYPES[given.type]:
        advice = ADVICE.get(given.type, f".to({VALUE_TYPES[given.type]})")
        raise TypeError(f"packed model: {what} must be {given.type}; got {x.dtype}; call {advice} first")
    place = given.batch
    shape = x.shape if place is None or x.ndim <= place else (*x.shape[:place], *x.shape[place + 1 :])
    if tuple(shape) != given.shape or x.ndim != len(given.shape) + (place is not None):
        sizes = ["batch" if size < 0 else str(size) for size in given.shape_at(-1)]
        expected = f"an input [{', '.join(sizes)}]" if what == "the input" else f"{what} [{', '.join(sizes)}]"
        raise ValueError(f"packed model: expected {expected}; got {list(x.shape)}")
    if x.device.type != device.type:
        raise ValueError(f"packed model: is on {device}, {what} on {x.device}; move one with .to()")


def type_and_advice(value: object) -> str:
    """The type of what should be a tensor, and how to make one of it."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{name}; use torch.from_numpy(x)" if name == "numpy.ndarray" else f"{name}; use torch.as_tensor(x)"


def load(path: str | Path, device: torch.device | str = "cpu", memory_limit: int = MEMORY_LIMIT) -> Packed:
    """Read a packed model; needs neither the class nor the code of the original.

    memory_limit: bytes that loading it, or a call with one sample, may take (docs/packed_format.md says what counts).
    Raises: FileNotFoundError; FormatError for anything that is not a sound file of a version known here.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"load: no file {str(path)!r}; write one with bittern.pack(model, example).save(path)")
    try:
        return from_bytes(path.read_bytes(), device, memory_limit)
    except FormatError as error:
        raise FormatError(f"load: {str(path)!r} is not a usable packed model: {error}") from error


def from_bytes(data: bytes, device: torch.device | str = "cpu", memory_limit: int = MEMORY_LIMIT) -> Packed:
    """Read a packed model from the bytes of its file; memory_limit as for `load`. Raises: FormatError."""
    content = decode(data, memory_limit)
    return Packed(content.program, content.tensors, content.info, torch.device(device))


def _restored(data: bytes, device: str, real: torch.dtype) -> Packed:
    """A copied or pickled model."""
    packed = from_bytes(data, device)
    return packed if real == torch.float32 else packed.with_real(real)
