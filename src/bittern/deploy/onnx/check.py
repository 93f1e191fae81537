# SPDX-License-Identifier: Apache-2.0
"""Comparing an ONNX file, run by ONNX Runtime, with the packed model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.kinds.binary import BinaryStep
from bittern.deploy.kinds.bits import images_of, rows_of
from bittern.deploy.kinds.kind import Step, integer
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.onnx.low_bit import CPU, PRODUCT, TAIL
from bittern.deploy.onnx.module import Parts
from bittern.deploy.part_by_part import Part, RuntimeReport, Value, bit_planes, compare, watched
from bittern.deploy.program import Node
from bittern.deploy.split_products import INPUT_SCALE, scale_by_input


def steps_of(parts: Parts) -> tuple[Part, ...]:
    """What the packed model computes at each node of a program whose products are split."""
    return tuple(
        Part(node, node.named(parts.tensors), _step(parts, node), _is_low_bit(node)) for node in parts.program.nodes
    )


def _is_low_bit(node: Node) -> bool:
    """Whether a node gives signs, levels or integers."""
    return KINDS[node.kind].low_bit if node.kind in KINDS else node.kind == PRODUCT


def _step(parts: Parts, node: Node) -> Step:
    if node.kind == PRODUCT:
        return parts.binary_step(node).accumulator
    if node.kind == TAIL:
        return partial(_tail, parts.binary_step(node))
    if node.kind == INPUT_SCALE:
        return scale_by_input(node)
    step = KINDS[node.kind].build(node, node.named(parts.tensors), CPU)
    if node.kind != "threshold":
        return step
    product = parts.producer(node)
    return lambda c: step(_packed_accumulator(parts.binary_step(product), product, c))


def _packed_accumulator(step: BinaryStep, product: Node, c: Tensor) -> Tensor:
    """What the kernels count, channels last, of the training graph's accumulator."""
    rows = rows_of(c, integer(product, "dims")).contiguous()
    return (rows << step.halvings) - step.epilogue[0].to(torch.int32)


def _tail(step: BinaryStep, c: Tensor) -> Tensor:
    """The epilogue of the kernels: scale, then one fused multiply-add."""
    rows = rows_of(c, step.dims).contiguous().float() * 2**step.halvings
    _, scale, alpha, beta = step.epilogue
    return images_of(ops.fused_multiply_add(rows * scale, alpha, beta), step.dims)


def run(data: bytes, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """All results of an ONNX file, given its inputs by name; ONNX Runtime leaves the network as it is written."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(y) for y in session.run(None, {name: x.numpy() for name, x in inputs.items()})]


def check(
    parts: Parts, steps: Sequence[Part], probe: bytes, data: bytes, inputs: Mapping[str, Tensor]
) -> RuntimeReport:
    """Compare `probe`, which gives away the values `watched` behind its results, and `data`, which does not."""
    shown = watched(parts.program, steps)
    found = run(probe, inputs)
    results, values = found[: len(found) - len(shown)], found[len(found) - len(shown) :]
    given: Mapping[int, Value] = {
        **dict(enumerate(inputs.values())),
        parts.program.output: results[0] if len(results) == 1 else tuple(results),
        **{v: _as_packed(parts, v, value) for v, value in zip(shown, values, strict=True)},
    }
    return compare(parts.program, steps, given).beside(run(data, inputs))


def _as_packed(parts: Parts, v: int, value: Tensor) -> Value:
    """A value of the file as the packed model has it: words of bits, integers, or real numbers as they are."""
    node, planes = parts.program.producer(v), bit_planes(parts.program, v)
    if planes:
        rows = rows_of(value, 0 if parts.rows(v) else value.ndim - 2).contiguous()
        grid = parts.grid(v)
        if grid.low == -1:
            return (ops.pack_signs(rows),)
        codes = (rows.to(torch.int32) - grid.low) // grid.step
        return tuple(ops.pack_signs((codes >> j & 1) - 1) for j in range(planes))
    return value.to(torch.int32) if node is not None and node.kind == PRODUCT else value
