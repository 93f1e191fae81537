# SPDX-License-Identifier: Apache-2.0
"""OpenVINO's compressed weights: int4 in groups of 64, or of a row where groups would not fill it, and int8 by rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bittern.bench.weights.contender import Contender, Pass, Ready, without
from bittern.bench.weights.peers.integers import GROUP, Integers, integers, nibbles, rolled


def _prepare(bits: int, int8: bool, linears: Sequence[nn.Linear]) -> Ready:
    weights = [integers(linear, bits, _group(linear, bits)) for linear in linears]

    def build(repeats: int, x: Tensor, step: bool) -> Pass:
        import openvino
        from openvino import opset13

        first = value = opset13.parameter(list(x.shape), openvino.Type.f32)
        size = 0
        for place, (linear, weight) in enumerate([*zip(linears, weights, strict=True)] * repeats):
            expression, added = _weight(linear, rolled(weight, place), bits)
            value = opset13.matmul(value, expression, False, True)
            size += added
        return Pass(_request(openvino.Model([value], [first]), x, int8), size)

    return build


def _group(linear: nn.Linear, bits: int) -> int:
    """It takes whole groups alone."""
    return GROUP if bits == 4 and linear.in_features % GROUP == 0 else linear.in_features


def _weight(linear: nn.Linear, found: Integers, bits: int) -> tuple[Any, int]:
    """(the weight as an expression of its codes, bytes of codes and scales)."""
    import openvino
    from openvino import opset13

    codes = _constant(found.codes, bits)
    scale = opset13.constant(found.scale.unsqueeze(-1).numpy())
    weight = opset13.multiply(opset13.convert(codes, openvino.Type.f32), scale)
    shape = opset13.constant([linear.out_features, linear.in_features], openvino.Type.i64)
    return opset13.reshape(weight, shape, False), found.codes.numel() * bits // 8 + found.scale.nbytes


def _constant(codes: Tensor, bits: int) -> Any:
    """Signed: codes - 2^(bits - 1)."""
    import openvino

    signed = codes ^ 1 << (bits - 1)  # the highest bit is the sign
    if bits == 8:
        return openvino.op.Constant(signed.view(torch.int8).numpy())
    flat = signed.flatten()
    packed = nibbles(torch.nn.functional.pad(flat, (0, len(flat) % 2)))
    tensor = openvino.Tensor(openvino.Type.i4, openvino.Shape(list(codes.shape)))
    tensor.data.reshape(-1)[:] = packed.view(torch.int8).numpy()  # copied: a constant may share what it is made of
    return openvino.op.Constant(tensor)


def _request(model: Any, x: Tensor, int8: bool) -> Callable[[], object]:
    """Told to keep to float32 where the CPU has 16-bit numbers; rounding inputs to int8 is its own choice, or none."""
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP if int8 else 0,
    }
    request = openvino.compile_model(model, "CPU", options).create_infer_request()
    feed = [x.numpy()]
    return lambda: request.infer(feed, share_inputs=True, share_outputs=True)[0]


OPENVINO = tuple(
    Contender(
        f"OpenVINO int{bits}{', int8 inputs' * int8}",
        partial(_prepare, bits, int8),
        (torch.float32,),
        steps=False,
        int8=int8,
        missing=without("openvino"),
    )
    for bits, int8 in ((4, False), (4, True), (8, False))
)
