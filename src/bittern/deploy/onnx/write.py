# SPDX-License-Identifier: Apache-2.0
"""to_onnx: from a packed model to an ONNX file that gives the same answers."""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bittern._files import write_atomically
from bittern.deploy.errors import ExportError
from bittern.deploy.onnx.check import check, steps_of
from bittern.deploy.onnx.dialect import ARITHMETIC, Dialect
from bittern.deploy.onnx.low_bit import split
from bittern.deploy.onnx.module import OnnxModule, Parts
from bittern.deploy.pack import pack
from bittern.deploy.packed import Packed
from bittern.deploy.part_by_part import RuntimeReport, watched
from bittern.deploy.plain import plain_torch
from bittern.deploy.program import INPUT_TYPES, Program

OPSET = 18
SEED = 0
EXAMPLES = 4
"""Samples of noise that are compared where the caller has no real ones."""
BATCH = 2
"""Of the export: a batch of 1 would be taken for fixed."""


def to_onnx(
    model: Packed | nn.Module,
    path: str | Path,
    *,
    example: Tensor | None = None,
    low_bit: Dialect = ARITHMETIC,
    verify: bool = True,
) -> RuntimeReport | None:
    """Write a packed model as ONNX (opset 18), for a batch of any size, all or nothing.

    model: a packed model; a module is packed first, for which it needs `example`. The input is named `input`, results
    `output`, or what the model calls them, or output_0, output_1, ...
    example: float32 [batch, *input_shape], or the integers that the model takes; None: noise.
    low_bit: `onnx.ARITHMETIC` (float32 convolutions of +-1 and comparisons, which every runtime has) or `onnx.QONNX`
    (nodes BipolarQuant and Quant, for FINN and the like). Weights of low bits are stored in int8.
    verify: run the file in ONNX Runtime on `example`, compare every low-bit part bit for bit and every real part within
    its rounding (`RuntimeReport`). Of QONNX, which ONNX Runtime does not compute, the same file in plain arithmetic is
    compared.

    Returns the report; None without `verify`.

    Raises: ImportError without onnx, onnxscript (and, to verify, onnxruntime); TypeError / ValueError for arguments
    that do not fit; PackError; ExportError for an operator that ONNX does not have or a program that disagrees;
    OSError.
    """
    _require(verify)
    path = Path(path)
    packed = _packed(model, example, verify)
    _check_arguments(packed, path, example, verify)
    program = split(packed.program)
    with plain_torch():
        plain = Parts(program, packed.tensors, ARITHMETIC)
        data = exported(plain, ()) if verify or low_bit is ARITHMETIC else b""
        report = _verified(packed, plain, data, example) if verify else None
        if low_bit is not ARITHMETIC:
            data = exported(Parts(program, packed.tensors, low_bit), ())
    write_atomically(path, data)
    return report


def exported(parts: Parts, shown: tuple[int, ...]) -> bytes:
    """The ONNX file of a program with split products; behind its results the values `shown`. Raises: ExportError."""
    program = parts.program
    names = [*_result_names(program), *(f"value_{v}" for v in shown)]
    module = OnnxModule(parts, (program.output, *shown)).eval()
    sample = torch.zeros(BATCH, *program.input_shape, dtype=INPUT_TYPES[program.input_type])
    with _quietly():
        try:
            made: Any = torch.onnx.export(
                module,
                (sample,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                input_names=["input"],
                output_names=names,
                verbose=False,
            )
        except Exception as error:
            raise ExportError(f"to_onnx: torch.onnx cannot write this model: {_first_cause(error)}") from error
    data: bytes = made.model_proto.SerializeToString()
    return data


def _first_cause(error: BaseException) -> str:
    """What lies behind what torch.onnx wraps, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _result_names(program: Program) -> list[str]:
    last = program.producer(program.output)
    if last is None or last.kind != "results":
        return ["output"]
    own = last.attrs["names"]
    assert isinstance(own, list)
    return [str(name) for name in own] or [f"output_{place}" for place in range(len(last.inputs))]


def _verified(packed: Packed, parts: Parts, data: bytes, example: Tensor | None) -> RuntimeReport:
    """Raises: ExportError."""
    if example is None:
        example = torch.randn(EXAMPLES, *packed.input_shape, generator=torch.Generator().manual_seed(SEED))
    report = check(parts, exported(parts, watched(parts.program, steps_of(parts))), data, example)
    if not report.agrees:
        raise ExportError(f"to_onnx: the program disagrees with the packed model, nothing was written:\n{report}")
    return report


def _packed(model: Packed | nn.Module, example: Tensor | None, verify: bool) -> Packed:
    if isinstance(model, Packed):
        if example is not None and not verify:
            raise ValueError("to_onnx: 'example' is for verify=True; leave it out")
        return model
    if not isinstance(model, nn.Module):
        raise TypeError(f"to_onnx: model must be a packed model or a torch module; got {type(model).__name__}")
    if example is None:
        raise ValueError("to_onnx: a model that is not packed yet needs example=, a batch of its inputs")
    return pack(model, example)


def _require(verify: bool) -> None:
    """Raises: ImportError saying how to install what is missing."""
    needed = ("onnx", "onnxscript", *["onnxruntime"] * verify)
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        which = ", ".join(map(repr, missing))
        raise ImportError(f"to_onnx: the package {which} is missing; pip install 'bittern[onnx]'")


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch.onnx says about itself, and about operators of libraries that are not there."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _check_arguments(packed: Packed, path: Path, example: Tensor | None, verify: bool) -> None:
    if packed.device.type != "cpu":
        raise ValueError(f"to_onnx: the packed model is on {packed.device}; move it with .to('cpu')")
    if packed.real != torch.float32:
        raise ValueError(f"to_onnx: its real layers compute in {packed.real}; use .with_real(torch.float32)")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"to_onnx: no folder {str(path.parent)!r}; make it first")
    kind = INPUT_TYPES[packed.program.input_type]
    if example is None:
        if verify and kind != torch.float32:
            raise ValueError(f"to_onnx: a model that takes {kind} is compared on real inputs; give example=")
        return
    if example.dtype != kind or example.device.type != "cpu":
        raise TypeError(f"to_onnx: example must be {kind} on the CPU; got {example.dtype} on {example.device}")
    if tuple(example.shape[1:]) != packed.input_shape or example.ndim == 0 or example.shape[0] == 0:
        sizes = ", ".join(str(size) for size in packed.input_shape)
        raise ValueError(f"to_onnx: example must be [batch, {sizes}]; got {list(example.shape)}")
