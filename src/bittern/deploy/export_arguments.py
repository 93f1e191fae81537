# SPDX-License-Identifier: Apache-2.0
"""What exports ask of the model and of their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.decoding import decoded
from bittern.deploy.errors import ExportError
from bittern.deploy.kinds.decoded import DECODED
from bittern.deploy.named_sizes import at_example, example_of, in_short
from bittern.deploy.packed import Packed
from bittern.deploy.parameters import arguments_of, bound
from bittern.deploy.program import VALUE_TYPES, Program

SEED = 0
EXAMPLES = 4
"""Samples of noise that are compared where the caller has no real ones."""


def samples_for(program: Program, batch: int) -> tuple[Tensor, ...]:
    """Inputs of zeros, of so many samples and of the example's sizes, for an export to look at."""
    inputs = at_example(program).inputs
    return tuple(torch.zeros(given.shape_at(batch), dtype=VALUE_TYPES[given.type]) for given in inputs)


def compared_inputs(owner: str, packed: Packed, example: Any) -> tuple[Tensor, ...]:
    """The inputs on which a program is compared: those of the example, as `pack` takes it, else noise.

    Raises: TypeError, ValueError for inputs that the model does not take, or for none where noise would not do.
    """
    if example is not None:
        return _given(owner, packed, example)
    other = [given for given in packed.inputs if given.type != "float32"]
    if other:
        raise ValueError(
            f"{owner}: a model that takes {VALUE_TYPES[other[0].type]} is compared on real inputs; give example="
        )
    generator = torch.Generator().manual_seed(SEED)
    shapes = (given.shape_at(EXAMPLES) for given in at_example(packed.program).inputs)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float32) for shape in shapes)


def check_real_rows(owner: str, what: str, packed: Packed) -> None:
    """Refuse inputs that are not float32 [batch, ...]; what: the export that takes no others. Raises: ExportError."""
    check_rows(owner, what, packed, ("float32",))


def check_rows(owner: str, what: str, packed: Packed, types: Sequence[str]) -> None:
    """The same for inputs of these types. Raises: ExportError."""
    for given in packed.inputs:
        if given.batch != 0 or given.type not in types:
            where = "no batch" if given.batch is None else f"its batch in dimension {given.batch}"
            raise ExportError(f"{owner}: {what}; input {given.name!r} is {given.type} and has {where}")


def decoded_model(packed: Packed) -> Packed:
    """A packed model whose weights behind real inputs are numbers, for exports that write products of real numbers."""
    if not any(node.kind == DECODED.name for node in packed.program.nodes):
        return packed
    program, tensors = decoded(packed.program, packed.tensors)
    return Packed(program, tensors, packed.info, packed.device, packed.real)


def check_fixed(owner: str, packed: Packed) -> None:
    """Refuse a model whose sizes a call chooses. Raises: ExportError."""
    if packed.sizes:
        names = ", ".join(size.name for size in packed.sizes)
        raise ExportError(
            f"{owner}: what is written has fixed sizes, and this model leaves {names} to each call; write it for some, "
            f"as in {advice(packed.program)}"
        )


def advice(program: Program) -> str:
    """How to choose sizes: "packed.at(height=9, width=8)"."""
    return f"packed.at({in_short(example_of(program))})"


def check_place(owner: str, packed: Packed, path: Path) -> None:
    """Refuse a model on another device, and a missing folder. Raises: ValueError, FileNotFoundError."""
    if packed.device.type != "cpu":
        raise ValueError(f"{owner}: the packed model is on {packed.device}; move it with .to('cpu')")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{owner}: no folder {str(path.parent)!r}; make it first")


def _given(owner: str, packed: Packed, example: Any) -> tuple[Tensor, ...]:
    """The tensors of an example, in the order of the program. Raises: TypeError, ValueError."""
    try:
        inputs = packed.checked(bound(packed.program.parameters, *arguments_of(example)))
    except (TypeError, ValueError) as error:
        said = str(error).removeprefix("packed model: ")
        raise type(error)(f"{owner}: the example does not fit the model: {said}") from error
    if packed.program.batch_of(inputs) == 0:
        raise ValueError(f"{owner}: the example has no sample; give at least one")
    return tuple(inputs)
