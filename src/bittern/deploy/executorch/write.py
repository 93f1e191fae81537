# SPDX-License-Identifier: Apache-2.0
"""to_executorch: from a packed model to a `.pte` that gives the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bittern._files import write_atomically
from bittern.deploy.errors import ExportError
from bittern.deploy.executorch.check import EdgeReport, check_program, parts_of
from bittern.deploy.executorch.installed import require
from bittern.deploy.executorch.kernels import load_kernels
from bittern.deploy.executorch.lowering import BATCH, ExportModule, split_input_scales
from bittern.deploy.executorch.runtime import EdgeProgram
from bittern.deploy.export_arguments import (
    check_fixed,
    check_place,
    check_real_rows,
    compared_inputs,
    decoded_model,
    samples_for,
)
from bittern.deploy.other_packages import quietly
from bittern.deploy.packed import Packed
from bittern.deploy.part_by_part import watched
from bittern.deploy.program import Program


def to_executorch(
    packed: Packed,
    path: str | Path,
    *,
    example: Any = None,
    xnnpack: bool = True,
    verify: bool = True,
    kernels: str | Path | None = None,
) -> EdgeReport | None:
    """Write a packed model as an ExecuTorch program, all or nothing.

    Its low-bit parts run on Bittern's kernels, which the runtime has to load (docs/edge.md); all else runs on XNNPACK,
    or with xnnpack=False on ExecuTorch's own kernels. The file takes one sample [1, *input_shape] per call, of several
    inputs one each in the order of `packed.inputs`, and answers the tensors of the model's results one after another.

    verify: run the program in ExecuTorch's Python runtime on `example` (what the model is called with, as `pack` takes
    it; None: noise) and compare every low-bit layer, bit for bit, and every real part (`EdgeReport`). kernels: the
    library for that; None: that of `make edge`.

    Returns the report; None without `verify`.

    Raises: ImportError without ExecuTorch; TypeError / ValueError for arguments that do not fit; ExportError for a node
    that has no ExecuTorch form, an input that is not float32 [batch, ...] or a program that disagrees; MissingKernels;
    OSError.
    """
    require("to_executorch")
    path = Path(path)
    _check_arguments(packed, path, example, verify, kernels)
    packed = decoded_model(packed)
    inputs = compared_inputs("to_executorch", packed, example) if verify else ()
    program = split_input_scales(packed.program)
    data = lower(program, packed.tensors, (program.output,), xnnpack)
    report = None
    if verify:
        load_kernels(kernels)
        report = _verify(packed, program, data, inputs, xnnpack)
        if not report.agrees:
            raise ExportError(
                f"to_executorch: the program disagrees with the packed model, nothing was written:\n{report}"
            )
    write_atomically(path, data)
    return report


def lower(program: Program, tensors: dict[str, Tensor], results: tuple[int, ...], xnnpack: bool) -> bytes:
    """The `.pte` that computes the given values of a program. Raises: ExportError."""
    module = ExportModule(program, tensors, results).eval()
    with quietly(), torch.no_grad():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        from bittern.deploy.executorch.backend import BitternPartitioner

        real = [XnnpackPartitioner()] if xnnpack else []
        low_bit = BitternPartitioner(*real)
        exported = torch.export.export(module, samples_for(program, BATCH))
        return bytes(to_edge_transform_and_lower(exported, partitioner=[low_bit, *real]).to_executorch().buffer)


def _verify(packed: Packed, program: Program, data: bytes, inputs: tuple[Tensor, ...], xnnpack: bool) -> EdgeReport:
    """Compare a program's own results, and the values between its parts, which a second program gives away."""
    parts = parts_of(packed, program)
    probe = EdgeProgram(lower(program, packed.tensors, (program.output, *watched(program, parts)), xnnpack))
    return check_program(program, parts, inputs, probe.values(*inputs)).beside(EdgeProgram(data).values(*inputs))


def _check_arguments(packed: Packed, path: Path, example: Any, verify: bool, kernels: str | Path | None) -> None:
    check_fixed("to_executorch", packed)
    check_place("to_executorch", packed, path)
    if not verify and (example is not None or kernels is not None):
        raise ValueError("to_executorch: 'example' and 'kernels' are for verify=True; leave them out")
    check_real_rows("to_executorch", "a .pte takes float32 [1, ...]", packed)
