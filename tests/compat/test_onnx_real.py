# SPDX-License-Identifier: Apache-2.0
"""Networks of float32 in ONNX as layers of torch: what ONNX Runtime answers, of other people's files too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bittern.compat.onnx import load, load_module

pytestmark = pytest.mark.peers("onnx", "onnxruntime")
DATA = Path(os.environ.get("BITTERN_DATA", Path(__file__).parents[3] / "shared" / "data"))


class Net:
    """A file in the making."""

    def __init__(self, shape: Sequence[int] = (1, 4, 6, 6), opset: int = 18) -> None:
        self.draw, self.shape, self.opset = np.random.default_rng(5), tuple(shape), opset
        self.nodes: list[Any] = []
        self.numbers: list[Any] = []

    def constant(self, values: Any) -> str:
        from onnx import numpy_helper

        self.numbers.append(numpy_helper.from_array(np.asarray(values), f"n{len(self.numbers)}"))
        return str(self.numbers[-1].name)

    def normal(self, *shape: int) -> str:
        return self.constant(self.draw.standard_normal(shape).astype(np.float32))

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        from onnx import helper

        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attrs))
        return names[0] if outputs == 1 else names

    def file(self, *outputs: str) -> bytes:
        from onnx import TensorProto, helper

        ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)]
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", ends, results, self.numbers)
        opset = [helper.make_opsetid("", self.opset)]
        return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def by_runtime(data: bytes, x: np.ndarray, name: str = "x") -> list[np.ndarray]:
    """One sample after another, as files of a batch of 1 want it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    found = [session.run(None, {name: one[None]}) for one in x]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def assert_agrees(path: Path, data: bytes, x: np.ndarray, name: str = "x", tolerance: float = 1e-5) -> Any:
    path.write_bytes(data)
    module = load_module(path)
    wanted = by_runtime(data, x, name)
    for found in (module(torch.from_numpy(x)), load(path)(torch.from_numpy(x))):
        results = found if isinstance(found, tuple) else (found,)
        assert len(results) == len(wanted)
        for own, theirs in zip(results, wanted, strict=True):
            assert own.shape == theirs.shape
            limit = tolerance * max(1.0, float(np.abs(theirs).max()))
            np.testing.assert_allclose(own.detach().numpy(), theirs, atol=limit)
    return module


def windows(net: Net) -> list[str]:
    x = net.add("Conv", "x", net.normal(6, 2, 3, 2), net.normal(6), group=2, pads=[1, 0, 1, 1], strides=[2, 1])
    x = net.add("BatchNormalization", x, *(net.normal(6) for _ in range(3)), net.constant(np.full(6, 2, np.float32)))
    y = net.add("ConvTranspose", x, net.normal(6, 3, 2, 3), strides=[2, 2], pads=[0, 1, 1, 0])
    z = net.add("Conv", "x", net.normal(5, 4, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2], dilations=[1, 1])
    pools = [
        net.add("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1]),
        net.add("AveragePool", "x", kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 0, 1]),
        net.add("AveragePool", "x", kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=1),
        net.add("GlobalAveragePool", "x"),
    ]
    padded = net.add("Pad", "x", net.constant(np.array([0, 0, 1, 2, 0, 1, 0, 3])), net.constant(np.float32(2.5)))
    return [y, z, *pools, padded]


def resized(net: Net) -> list[str]:
    found = []
    for way in ("half_pixel", "align_corners", "asymmetric"):
        sizes = net.constant(np.array([1, 4, 9, 12]))
        found.append(net.add("Resize", "x", "", "", sizes, mode="linear", coordinate_transformation_mode=way))
    scales = net.constant(np.array([1, 1, 2, 3], np.float32))
    more = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return [*found, net.add("Resize", "x", "", scales, mode="nearest", **more)]


def functions(net: Net) -> list[str]:
    names = ("Relu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "LeakyRelu", "Elu", "Softplus", "Erf", "Exp", "Neg")
    found = [net.add(name, "x") for name in names]
    low, high = net.constant(np.float32(0)), net.constant(np.float32(6))
    found += [net.add("Clip", "x", low, high), net.add("Clip", "x", low), net.add("Clip", "x", "", high)]
    found += [net.add("PRelu", "x", net.normal(4, 1, 1)), net.add("Softmax", "x", axis=-1)]
    found += [net.add("Add", "x", net.normal(4, 1, 1)), net.add("Sub", net.normal(1), "x"), net.add("Mul", "x", "x")]
    return [
        *found,
        net.add("Div", net.normal(6), net.add("Exp", "x")),
        net.add("ReduceMean", "x", net.constant([1]), keepdims=0),
    ]


def moved(net: Net) -> list[str]:
    """A shuffle of channels with the batch among them, sizes that follow from shapes, splits and slices."""
    pairs = net.add("Reshape", "x", net.constant(np.array([2, 2, 36])))
    pairs = net.add("Transpose", pairs, perm=[1, 0, 2])
    pairs = net.add("Reshape", pairs, net.constant(np.array([2, -1, 2, 6, 6])))
    halves = [net.add("Gather", pairs, net.constant(np.array(place)), axis=0) for place in (0, 1)]
    both = net.add("Concat", net.add("Relu", halves[0]), halves[1], axis=1)
    size = net.add("Unsqueeze", net.add("Gather", net.add("Shape", both), net.constant(np.array(0))), net.constant([0]))
    whole = net.add("Concat", size, net.constant(np.array([-1])), axis=0)
    flat = net.add("Reshape", net.add("Transpose", both, perm=[0, 2, 3, 1]), whole)
    first, second = net.add("Split", both, net.constant(np.array([1, 3])), outputs=2, axis=1)
    cut = net.add("Slice", second, *(net.constant(np.array(n)) for n in ([1, 0], [9, -1], [2, 3], [2, 1])))
    deep = net.add("DepthToSpace", net.add("Mul", both, both), blocksize=2, mode="DCR")
    return [flat, net.add("Squeeze", first, net.constant([1])), cut, deep, net.add("Flatten", first)]


def rows(net: Net) -> list[str]:
    flat = net.add("Flatten", "x")
    y = net.add("Gemm", flat, net.normal(144, 8), net.normal(8), alpha=0.5, beta=2.0)
    tokens = net.add("Reshape", y, net.constant(np.array([0, 4, 2])))
    tokens = net.add("MatMul", tokens, net.normal(2, 6))
    scores = net.add("MatMul", tokens, net.add("Transpose", tokens, perm=[0, 2, 1]))
    return [net.add("LayerNormalization", tokens, net.normal(6), net.normal(6)), net.add("LogSoftmax", scores)]


@pytest.mark.parametrize("make", [windows, resized, functions, moved, rows])
def test_what_the_runtime_answers(make: Any, tmp_path: Path) -> None:
    net = Net()
    outputs = make(net)
    x = np.random.default_rng(1).standard_normal((3, *net.shape[1:])).astype(np.float32)
    assert_agrees(tmp_path / "net.onnx", net.file(*outputs), x, tolerance=1e-4)


def refused(tmp_path: Path, net: Net, output: str) -> str:
    path = tmp_path / "net.onnx"
    path.write_bytes(net.file(output))
    with pytest.raises(ValueError, match=r"^onnx: .*net\.onnx: ") as error:
        load_module(path)
    return str(error.value)


def test_what_is_refused(tmp_path: Path) -> None:
    net = Net()
    assert "Loop" not in refused(tmp_path, net, net.add("CumSum", "x", net.constant(np.array(1))))
    assert "CumSum" in refused(tmp_path, net, net.nodes[-1].output[0])
    net = Net()
    mixed = net.add("Relu", net.add("Reshape", "x", net.constant(np.array([4, 1, 36]))))
    assert "the batch must come first" in refused(tmp_path, net, mixed)
    net = Net()
    assert "other than the batch" in refused(tmp_path, net, net.add("Softmax", "x", axis=0))
    net = Net()
    assert "torch refuses its sizes" in refused(tmp_path, net, net.add("Conv", "x", net.normal(2, 9, 1, 1)))
    net = Net()
    assert "indices leave" in refused(tmp_path, net, net.add("Gather", "x", net.constant(np.array(9)), axis=1))
    net = Net()
    assert "nothing wrote" in refused(tmp_path, net, net.add("Relu", "y"))


FILES = {
    "fastestdet_coco/fastestdet.onnx": ("input.1", 352, 352, 0.0, 255.0),
    "ultralight_face/version_rfb_320_without_postprocessing.onnx": ("input", 240, 320, 127.0, 128.0),
}
"""Name of the input, height, width, and what pixels are taken off and divided by."""


@pytest.mark.data
@pytest.mark.parametrize("name", FILES)
def test_detectors_of_others(name: str, tmp_path: Path) -> None:
    if not (DATA / name).is_file():
        pytest.skip("needs the real data sets")
    given, height, width, middle, scale = FILES[name]
    image = Image.open(DATA / "photos_sr" / "astronaut.png").convert("RGB").resize((width, height))
    x = ((np.asarray(image).transpose(2, 0, 1)[None] - middle) / scale).astype(np.float32)
    x = np.concatenate([x, x[..., ::-1]])
    assert_agrees(tmp_path / "net.onnx", (DATA / name).read_bytes(), x, given, tolerance=1e-4)
