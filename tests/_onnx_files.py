# SPDX-License-Identifier: Apache-2.0
"""Small networks quantized by ONNX Runtime's own tool: files that nobody here wrote."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (3, 9, 8)
CLASSES = 5


def float_model(draw: np.random.Generator) -> Any:
    """Convolutions (one depthwise, one with uneven padding), pools, a residual, a concatenation and a linear layer."""
    from onnx import TensorProto, helper, numpy_helper

    numbers, nodes = [], []

    def constant(name: str, *shape: int, scale: float = 0.3) -> str:
        numbers.append(numpy_helper.from_array((draw.standard_normal(shape) * scale).astype(np.float32), name))
        return name

    def add(operator: str, inputs: list[str], output: str, **attrs: Any) -> None:
        nodes.append(helper.make_node(operator, inputs, [output], name=output, **attrs))

    add("Conv", ["input", constant("w1", 8, 3, 3, 3), constant("b1", 8)], "c1", pads=[1, 1, 1, 1])
    add("Relu", ["c1"], "r1")
    add("MaxPool", ["r1"], "p1", kernel_shape=[2, 2], strides=[2, 2])
    add("Conv", ["p1", constant("w2", 8, 1, 3, 3), constant("b2", 8)], "c2", pads=[1, 1, 1, 1], group=8)
    add("Add", ["p1", "c2"], "s1")
    add("Relu", ["s1"], "r2")
    add("Conv", ["r2", constant("w3", 6, 8, 2, 2)], "c3", pads=[0, 0, 1, 1])
    add("Concat", ["r2", "c3"], "j1", axis=1)
    add("AveragePool", ["j1"], "p2", kernel_shape=[2, 2], strides=[2, 2])
    add("GlobalAveragePool", ["p2"], "g1")
    add("Flatten", ["g1"], "f1")
    add("Gemm", ["f1", constant("w4", CLASSES, 14), constant("b4", CLASSES)], "output", transB=1)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
        for name, shape in (("input", SHAPE), ("output", (CLASSES,)))
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], numbers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def quantized(folder: Path, style: str, *, per_channel: bool) -> tuple[Path, np.ndarray]:
    """(a file of the style "QDQ" or "QOperator", inputs)."""
    import onnx
    from onnxruntime import quantization as tool

    draw = np.random.default_rng(7)
    inputs = draw.standard_normal((40, *SHAPE)).astype(np.float32)

    class Calibration(tool.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"input": x[None]} for x in inputs[:20]]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.left.pop() if self.left else None

    onnx.save(float_model(draw), folder / "float.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tool.quantize_static(
            folder / "float.onnx",
            folder / "net.onnx",
            Calibration(),
            quant_format=getattr(tool.QuantFormat, style),
            per_channel=per_channel,
            activation_type=tool.QuantType.QInt8,
            weight_type=tool.QuantType.QInt8,
        )
    return folder / "net.onnx", inputs
