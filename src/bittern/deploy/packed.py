# SPDX-License-Identifier: Apache-2.0
"""A packed model: a program and its tensors, ready to run on one device."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bittern._files import write_atomically
from bittern.deploy.budget import MEMORY_LIMIT
from bittern.deploy.engine.engine import Engine
from bittern.deploy.engine.idle import IdleSchedules
from bittern.deploy.errors import FormatError
from bittern.deploy.few_bits import stored_bytes
from bittern.deploy.fixed_models import FixedModels
from bittern.deploy.format import Content, decode, encode
from bittern.deploy.input_check import check_input, in_words
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.named_sizes import Sizes, check_sizes, example_of, fixed, in_short, sizes_of
from bittern.deploy.parameters import KEYWORD, ONE, bound
from bittern.deploy.part_names import whole_calls
from bittern.deploy.plain import modes_are_set, plain_cpu, plain_torch, untracked
from bittern.deploy.program import Input, NamedSize, Program
from bittern.deploy.real_type import check_real, warn_if_slow
from bittern.deploy.structure import mapped
from bittern.deploy.validate import check_program

CONSTANT_LAYERS = "constant_layers"
"""In `info`: a list, as JSON, of low-bit layers whose answer never changes, so that packing computed it."""


class Packed:
    """A network that runs bit-packed; made by `pack` or `load`, called like a function.

    Call it as the model was called, with x [batch, *input_shape] or with the arguments of the example, by position or
    by name, for a batch of any size -> what the model returns: float32 logits [batch, ...], a tuple, or a dict by name.
    Arguments that were no tensors in the example are part of the program and may be left out. Sizes that have a name
    (`sizes`) are those of the inputs of each call; the first call with new ones prepares the program for them. Calls do
    not track gradients, leave what they are given as it was, and give tensors of their own memory; autocast, inference
    mode and torch's defaults change no answer. A model can be copied, pickled and sent to other processes, where it is
    read as a file is.

    Raises: TypeError / ValueError for arguments that do not fit, or of another dtype, shape or device.
    """

    def __init__(
        self,
        program: Program,
        tensors: Mapping[str, Tensor],
        info: Mapping[str, str],
        device: torch.device,
        real: torch.dtype = torch.float32,
        memory_limit: float = math.inf,
        idle: IdleSchedules | None = None,
    ) -> None:
        self.program = program
        self.tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        self._memory = {tensor.untyped_storage().data_ptr() for tensor in self.tensors.values()}
        last = program.producer(program.output)
        self._may_share = last is None or KINDS[last.kind].view
        """Whether a result may lie in the memory of an input or of a tensor."""
        self._plain = program.parameters == ONE
        self.info = dict(info)
        """What `pack` noted about the origin: free text by key."""
        self.device = device
        self._device_type = device.type  # a call asks for it, and torch makes the text anew each time
        self.real = real
        """Type in which real convolutions and linear layers compute."""
        self._fitting: tuple[Any, ...] | None = None
        """Shape, type, layout and device of the last input, which were found right, of a model that takes one."""
        on_cpu = device.type == "cpu"
        check_real(real, device)
        self._memory_limit = memory_limit
        """Bytes that a call with one sample may take, where a call chooses sizes."""
        self._idle = idle or IdleSchedules()
        self._fixed = FixedModels()
        if program.sizes:
            self._engine: Engine | Interpreter | None = None  # each choice of sizes has its own
            return
        with plain_cpu():
            if on_cpu:
                self._engine = Engine(program, self.tensors, real, self._idle)
            else:
                self._engine = Interpreter(program, self.tensors, device)

    def at(self, **sizes: int) -> Packed:
        """The same model for these named sizes alone, one of each in `sizes`: at(length=128). It shares all tensors.

        What exports take, and what a call with such inputs runs: the last `MOST_KEPT` are kept.
        Raises: TypeError, ValueError for sizes that it does not take.
        """
        wanted = [size.name for size in self.sizes]
        if set(sizes) != set(wanted):
            own, got = (", ".join(names) or "none" for names in (wanted, sizes))
            raise TypeError(f"packed model: at takes a number for each of its sizes, {own}; got {got}")
        wrong = [name for name, size in sizes.items() if type(size) is not int]
        if wrong:
            raise TypeError(f"packed model: size {wrong[0]!r} must be a whole number; got {sizes[wrong[0]]!r}")
        return self._fixed.at({name: sizes[name] for name in wanted}, self._made_at) if wanted else self

    def _made_at(self, sizes: Sizes) -> Packed:
        try:
            check_sizes(self.program, sizes)
            program = fixed(self.program, sizes)
            with plain_cpu():
                check_program(program, self.tensors, self._memory_limit)
        except ValueError as error:
            raise ValueError(f"packed model: {error}") from error
        return Packed(program, self.tensors, self.info, self.device, self.real, self._memory_limit, self._idle)

    @property
    def sizes(self) -> tuple[NamedSize, ...]:
        """Sizes of the inputs that each call chooses, by name and with their limits; the batch is not among them."""
        return self.program.sizes

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
        if self.sizes:
            raise ValueError(f"packed model: its input has sizes that a call chooses; use .inputs, or {self._advice()}")
        return self.inputs[0].shape

    def _advice(self) -> str:
        return f".at({in_short(example_of(self.program))})"

    @property
    def takes_one_tensor(self) -> bool:
        """Whether it is called as packed(x), x [batch, ...], as most are."""
        first = self.program.parameters[0]
        return len(self.inputs) == 1 and self.inputs[0].batch == 0 and first.tree == 0 and first.how != KEYWORD

    @property
    def engine(self) -> Engine:
        """What runs the program on the CPU.

        Raises: ValueError on another device, where nodes run one by one, and where a call chooses sizes.
        """
        if self.sizes:
            raise ValueError(
                f"packed model: each choice of sizes has an engine of its own; use {self._advice()}.engine"
            )
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
        return sum(stored_bytes(self.program, self.tensors).values())

    def release(self) -> None:
        """Give back the memory that no call is using."""
        self._fixed.clear()
        if isinstance(self._engine, Engine):
            self._engine.release()
        self._idle.clear()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.program.sizes:
            return self._at_those_of(bound(self.program.parameters, args, kwargs))(*args, **kwargs)
        inputs = self._checked(args, kwargs)
        if modes_are_set(self._device_type):
            with plain_torch(self._device_type):
                return self._answer(inputs)
        return self._answer(inputs)

    def _answer(self, inputs: Sequence[Tensor]) -> Any:
        assert self._engine is not None
        plain = [x.resolve_neg() if x.is_neg() else x for x in inputs]  # asking takes less time than resolving
        return untracked(self._own_answer, plain) if self._may_share else self._engine(*plain)

    def _own_answer(self, inputs: Sequence[Tensor]) -> Any:
        """An answer that shares no memory with inputs and tensors."""
        assert self._engine is not None
        given = {x.untyped_storage().data_ptr() for x in inputs}

        def own(result: Tensor) -> Tensor:
            place = result.untyped_storage().data_ptr()
            return result.clone() if place in given or place in self._memory else result

        return mapped(self._engine(*inputs), own)

    def accumulators(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Integer accumulators of every low-bit layer, by name: int32 [batch, out_channels, *space]."""
        if self.sizes:
            return self._at_those_of(bound(self.program.parameters, args, kwargs)).accumulators(*args, **kwargs)
        inputs = self._checked(args, kwargs)
        assert self._engine is not None
        with plain_torch(self.device.type):
            return whole_calls(self._engine.accumulators(*[x.resolve_neg() for x in inputs]))

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
        if self.sizes:
            return self._at_those_of(inputs).checked(inputs)
        samples = None
        for given, x in zip(self.inputs, inputs, strict=True):
            self._check_input(given, x)
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

    def _at_those_of(self, inputs: Sequence[Any]) -> Packed:
        """The model for the sizes of these inputs. Raises: TypeError, ValueError."""
        for given, x in zip(self.inputs, inputs, strict=True):
            self._check_input(given, x)
        try:
            sizes = sizes_of(self.program, inputs)
        except ValueError as error:
            raise ValueError(f"packed model: {error}") from error
        return self._fixed.at(sizes, self._made_at)

    def _check_input(self, given: Input, x: Any) -> None:
        check_input("the input" if self._plain else f"input {given.name!r}", given, x, self.device)

    def to(self, device: torch.device | str) -> Packed:
        """The same model on another device, its real layers in the same type.

        Raises: ValueError when they compute in bfloat16, which only the CPU does.
        """
        return Packed(self.program, self.tensors, self.info, torch.device(device), self.real, self._memory_limit)

    def with_real(self, dtype: torch.dtype) -> Packed:
        """The same model whose real convolutions and linear layers compute in float32 or bfloat16.

        bfloat16 is not exact: rounded inputs may turn signs, and `verify` reports by how much. A CPU that does not
        multiply it takes several times as long, of which a warning tells, here and where a pickle arrives; one with
        AVX512-BF16 was measured, and took longer as well (docs/results/speed.md), one with AMX was not.

        Raises: ValueError for another type, or for bfloat16 on another device.
        """
        warn_if_slow(dtype)
        return Packed(self.program, self.tensors, self.info, self.device, dtype, self._memory_limit)

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
            return f"input {in_words(self.inputs[0].sizes)}"
        return f"inputs {', '.join(f'{given.name} {in_words(given.sizes)}' for given in self.inputs)}"

    def __repr__(self) -> str:
        low_bit = sum(node.kind in ("binary", "decoded", "multibit_linear") for node in self.program.nodes)
        return (
            f"Packed({self._inputs_in_words()}, {len(self.program.nodes)} nodes, {low_bit} low-bit layers, "
            f"{self.nbytes} bytes, on {self.device})"
        )


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
    place = torch.device(device)
    return Packed(content.program, content.tensors, content.info, place, memory_limit=memory_limit)


def _restored(data: bytes, device: str, real: torch.dtype) -> Packed:
    """A copied or pickled model."""
    packed = from_bytes(data, device)
    return packed if real == torch.float32 else packed.with_real(real)
