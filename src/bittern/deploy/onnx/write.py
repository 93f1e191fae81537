# SPDX-License-Identifier: Apache-2.0
"""to_onnx: from a packed model to an ONNX file that gives the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bittern._files import write_atomically
from bittern.deploy.errors import ExportError
from bittern.deploy.export_arguments import check_place, compared_inputs, samples_for
from bittern.deploy.kinds.results import tree_of
from bittern.deploy.onnx.check import check, steps_of
from bittern.deploy.onnx.dialect import ARITHMETIC, Dialect
from bittern.deploy.onnx.low_bit import split
from bittern.deploy.onnx.module import OnnxModule, Parts
from bittern.deploy.other_packages import quietly, require
from bittern.deploy.pack import pack
from bittern.deploy.packed import Packed
from bittern.deploy.parameters import ONE
from bittern.deploy.part_by_part import RuntimeReport, watched
from bittern.deploy.plain import plain_cpu
from bittern.deploy.program import Program
from bittern.deploy.structure import DICT, leaves

OPSET = 18
BATCH = 2
"""Of the export: a batch of 1 would be taken for fixed."""


def to_onnx(
    model: Packed | nn.Module,
    path: str | Path,
    *,
    example: Any = None,
    low_bit: Dialect = ARITHMETIC,
    verify: bool = True,
) -> RuntimeReport | None:
    """Write a packed model as ONNX (opset 18), for a batch of any size, all or nothing.

    model: a packed model; a module is packed first, for which it needs `example`. The input is named `input`, several
    are named as the parameters of the forward (parts of them "state.0", "state.1"); results `output`, or what the model
    calls them, or output_0, output_1, ..., with "_out" behind the name where an input has it.
    example: what the model is called with, as `pack` takes it; None: noise.
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
    require("to_onnx", ("onnx", "onnxscript", *["onnxruntime"] * verify), "onnx")
    path = Path(path)
    packed = _packed(model, example, verify)
    _check_arguments(packed, path)
    inputs = compared_inputs("to_onnx", packed, example) if verify else ()
    program = split(packed.program)
    with plain_cpu():
        plain = Parts(program, packed.tensors, ARITHMETIC)
        report, data = _verified(plain, inputs) if verify else (None, b"")
        if low_bit is not ARITHMETIC or not verify:
            data = exported(Parts(program, packed.tensors, low_bit), ()).SerializeToString()
    write_atomically(path, data)
    return report


def _verified(parts: Parts, inputs: Sequence[Tensor]) -> tuple[RuntimeReport, bytes]:
    """The report, and the file that it is about. Raises: ExportError."""
    steps = steps_of(parts)
    shown = watched(parts.program, steps)
    made = exported(parts, shown)
    probe = made.SerializeToString()
    hide(made, len(shown))
    data = made.SerializeToString()
    report = check(parts, steps, probe, data, dict(zip(input_names(parts.program), inputs, strict=True)))
    if not report.agrees:
        raise ExportError(f"to_onnx: the program disagrees with the packed model, nothing was written:\n{report}")
    return report, data


def hide(model: Any, last: int) -> None:
    """Take the last outputs away from an ONNX model, and with them what nothing else reads."""
    graph = model.graph
    del graph.output[len(graph.output) - last :]
    read = {output.name for output in graph.output}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        if read.isdisjoint(node.output):
            del graph.node[place]
        else:
            read.update(node.input)


def exported(parts: Parts, shown: tuple[int, ...]) -> Any:
    """The ONNX model of a program with split products; behind its results the values `shown`. Raises: ExportError."""
    program = parts.program
    names = [*_result_names(program), *(f"value_{v}" for v in shown)]
    module = OnnxModule(parts, (program.output, *shown)).eval()
    batch = torch.export.Dim("batch")
    growing = tuple(None if given.batch is None else {given.batch: batch} for given in program.inputs)
    with quietly():
        try:
            made: Any = torch.onnx.export(
                module,
                samples_for(program, BATCH),
                dynamo=True,
                dynamic_shapes=(growing,),
                opset_version=OPSET,
                input_names=input_names(program),
                output_names=names,
                verbose=False,
            )
        except Exception as error:
            raise ExportError(f"to_onnx: torch.onnx cannot write this model: {_first_cause(error)}") from error
    return made.model_proto


def _first_cause(error: BaseException) -> str:
    """What lies behind what torch.onnx wraps, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def input_names(program: Program) -> list[str]:
    """How the inputs are called in the file."""
    return ["input"] if program.parameters == ONE else [given.name for given in program.inputs]


def _result_names(program: Program) -> list[str]:
    last = program.producer(program.output)
    if last is None or last.kind != "results":
        return ["output"]
    tree = tree_of(last)
    own = [name for name, _ in leaves(tree)]
    names = own if isinstance(tree, list) and tree[0] == DICT else [f"output_{name}" for name in own]
    taken = set(input_names(program))
    return [f"{name}_out" if name in taken else name for name in names]


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
