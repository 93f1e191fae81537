# SPDX-License-Identifier: Apache-2.0
"""to_onnx: from a packed model to an ONNX file that gives the same answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bittern._files import write_atomically
from bittern.deploy.errors import ExportError
from bittern.deploy.export_arguments import advice, check_place, compared_inputs, decoded_model
from bittern.deploy.named_sizes import example_of, in_short, inputs_of_other_sizes, sizes_of
from bittern.deploy.onnx.check import check, steps_of
from bittern.deploy.onnx.dialect import ARITHMETIC, Dialect
from bittern.deploy.onnx.graph import exported, hide, input_names
from bittern.deploy.onnx.integers import IntegerReport, has_integers, integer_noise, write_integers
from bittern.deploy.onnx.low_bit import split
from bittern.deploy.onnx.module import Parts
from bittern.deploy.other_packages import require
from bittern.deploy.pack import pack
from bittern.deploy.packed import Packed
from bittern.deploy.part_by_part import RuntimeReport, watched
from bittern.deploy.plain import plain_cpu
from bittern.deploy.program import Program
from bittern.nn._noise import repeated

SAMPLES = 8
"""Of noise, on which a network of integers is compared."""


def to_onnx(
    model: Packed | nn.Module,
    path: str | Path,
    *,
    example: Any = None,
    low_bit: Dialect = ARITHMETIC,
    verify: bool = True,
) -> RuntimeReport | IntegerReport | None:
    """Write a packed model as ONNX (opset 18), for a batch of any size, all or nothing.

    A network of integers (`bittern.quantize`, `compat.tflite`) becomes QuantizeLinear and DequantizeLinear around
    ordinary operators, and the report (`IntegerReport`) counts the integers that ONNX Runtime has otherwise.

    model: a packed model; a module is packed first, for which it needs `example`. The input is named `input`, several
    are named as the parameters of the forward (parts of them "state.0", "state.1"); results `output`, or what the model
    calls them, or output_0, output_1, ..., with "_out" behind the name where an input has it. Sizes that a call
    chooses are named dimensions, as the batch is ("batch"); the description of the file says their limits. Where an
    operator of ONNX wants them as numbers, the model is written for one choice alone, `packed.at(height=64)`.
    example: what the model is called with, as `pack` takes it; None: noise.
    low_bit: `onnx.ARITHMETIC` (float32 convolutions of +-1 and comparisons, which every runtime has) or `onnx.QONNX`
    (nodes BipolarQuant and Quant, for FINN and the like). Weights of low bits are stored in int8.
    verify: run the file in ONNX Runtime on `example`, and at some other sizes where a call chooses them; compare every
    low-bit part bit for bit and every real part within its rounding (`RuntimeReport`). Of QONNX, which ONNX Runtime
    does not compute, the same file in plain arithmetic is compared.

    Returns the report; None without `verify`.

    Raises: ImportError without onnx, onnxscript (and, to verify, onnxruntime); TypeError / ValueError for arguments
    that do not fit; PackError; ExportError for an operator that ONNX does not have, or not with open sizes, or for a
    program that disagrees; OSError.
    """
    require("to_onnx", ("onnx", "onnxscript", *["onnxruntime"] * verify), "onnx")
    path = Path(path)
    packed = _packed(model, example, verify)
    _check_arguments(packed, path)
    packed = decoded_model(packed)
    if has_integers(packed.program):
        return _integers(packed, path, example, low_bit, verify)
    inputs = compared_inputs("to_onnx", packed, example) if verify else ()
    program = split(packed.program)
    with plain_cpu():
        plain = Parts(program, packed.tensors, ARITHMETIC)
        report, data = _verified(plain, inputs) if verify else (None, b"")
        if low_bit is not ARITHMETIC or not verify:
            data = exported(Parts(program, packed.tensors, low_bit), ()).SerializeToString()
    write_atomically(path, data)
    return report


def _integers(packed: Packed, path: Path, example: Any, low_bit: Dialect, verify: bool) -> IntegerReport | None:
    """A network of integers."""
    if low_bit is not ARITHMETIC:
        raise ValueError("to_onnx: low_bit is for networks of signs and levels; leave it out for one of integers")
    noise = example is None or not verify
    inputs = integer_noise(packed, SAMPLES) if noise else compared_inputs("to_onnx", packed, example)
    with plain_cpu():
        report, data = write_integers(packed, inputs, verify=verify)
    write_atomically(path, data)
    return report


def _verified(parts: Parts, inputs: Sequence[Tensor]) -> tuple[RuntimeReport, bytes]:
    """The report, and the file that it is about. Raises: ExportError."""
    shown = watched(parts.program, steps_of(parts.at(example_of(parts.program))))
    made = exported(parts, shown)
    probe = made.SerializeToString()
    hide(made, len(shown))
    data = made.SerializeToString()
    report = None
    for given in _compared(parts.program, inputs):
        sizes = sizes_of(parts.program, given)
        own = parts.at(sizes)
        found = check(own, steps_of(own), probe, data, dict(zip(input_names(parts.program), given, strict=True)))
        found = found.at(in_short(sizes)) if sizes else found
        report = found if report is None else report.with_more(found)
        if not found.agrees:
            choose = f"; it may agree for one choice of sizes, {advice(parts.program)}" if sizes else ""
            raise ExportError(
                f"to_onnx: the program disagrees with the packed model, nothing was written{choose}:\n{found}"
            )
    assert report is not None
    return report, data


def _compared(program: Program, inputs: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """Inputs, and others like them of other sizes and batches where a call chooses sizes."""
    yield inputs
    for samples, given in enumerate(inputs_of_other_sizes(program, inputs), 1):
        pairs = zip(program.inputs, given, strict=True)
        yield tuple(repeated(x, own.batch, samples) for own, x in pairs)


def _packed(model: Packed | nn.Module, example: Any, verify: bool) -> Packed:
    if isinstance(model, Packed):
        if example is not None and not verify:
            raise ValueError("to_onnx: 'example' is for verify=True; leave it out")
        return model
    if not isinstance(model, nn.Module):
        raise TypeError(f"to_onnx: model must be a packed model or a torch module; got {type(model).__name__}")
    if example is None:
        raise ValueError("to_onnx: a model that is not packed yet needs example=, a batch of its inputs")
    return pack(model, example)


def _check_arguments(packed: Packed, path: Path) -> None:
    check_place("to_onnx", packed, path)
    if packed.real != torch.float32:
        raise ValueError(f"to_onnx: its real layers compute in {packed.real}; use .with_real(torch.float32)")
