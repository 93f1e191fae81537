# SPDX-License-Identifier: Apache-2.0
"""The engines that a packed network is timed against: each turns a float network into something to call.

What a peer sets up (export, compilation, quantization, layout) is not timed. All follow torch's number of threads at
the time of `build`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

Forward = Callable[[], object]
"""One pass over the input that it was built for."""
INPUT = "x"
"""Name of the input in ONNX files."""
CALIBRATION_BATCHES = 4
ONNX_OPSET = 17


@dataclass(frozen=True, slots=True)
class Peer:
    """An engine, and the packages beyond bittern's own that it is made of."""

    name: str
    build: Callable[[nn.Module, Tensor], Forward]
    """(float network in eval mode, input) -> forward; leaves the network as it is."""
    packages: tuple[str, ...] = ()
    extra: str = ""
    """What installs them: pip install 'bittern[extra]'."""

    def missing(self) -> str | None:
        """What to install before it can be built, or None."""
        absent = [name for name in self.packages if find_spec(name) is None]
        if not absent:
            return None
        return f"{', '.join(absent)} cannot be imported; pip install 'bittern[{self.extra}]'"


def torch_fp32(model: nn.Module, x: Tensor) -> Forward:
    """Contiguous, as torch runs it without being told anything."""
    return inferred(model, x)


def torch_channels_last(model: nn.Module, x: Tensor) -> Forward:
    return inferred(_channels_last(model), x.contiguous(memory_format=torch.channels_last))


def torch_autocast(model: nn.Module, x: Tensor) -> Forward:
    """Autocast to bfloat16, channels-last; it converts the weights in every pass."""
    last, images = _channels_last(model), x.contiguous(memory_format=torch.channels_last)

    def forward() -> object:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return last(images)

    return forward


def torch_bf16(model: nn.Module, x: Tensor) -> Forward:
    """Weights and values in bfloat16, channels-last."""
    return inferred(_channels_last(model).bfloat16(), x.bfloat16().contiguous(memory_format=torch.channels_last))


def torch_compiled(model: nn.Module, x: Tensor) -> Forward:
    """Inductor with frozen weights, channels-last; norms are folded into convolutions."""
    torch.compiler.reset()
    images = x.contiguous(memory_format=torch.channels_last)
    return inferred(torch.compile(_channels_last(model), options={"freezing": True}), images)


def through_onnx(
    run: Callable[[Path, Tensor], Forward],
    model: nn.Module,
    x: Tensor,
    *,
    quantized: bool = False,
    float32: Collection[str] = (),
) -> Forward:
    """The network as an ONNX file, in 8 bits where asked for but for operators in `float32`, in the runtime `run`."""
    with TemporaryDirectory() as folder:
        path = _export(model, x, Path(folder))
        return run(_quantized(path, x, float32) if quantized else path, x)


def onnx_runtime(path: Path, x: Tensor) -> Forward:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    # its threads may spin during a pass, as they do by default, but not on into the other engine's turn
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {INPUT: x.numpy()}
    return lambda: session.run(None, feed)


def openvino_runtime(path: Path, x: Tensor) -> Forward:
    """Told to keep to float32 where the CPU has bfloat16; pairs of QDQ nodes run in integers."""
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.compile_model(str(path), "CPU", options).create_infer_request()
    feed = {INPUT: x.numpy()}
    # shared: neither side copies the numbers of the other
    return lambda: request.infer(feed, share_inputs=True, share_outputs=True)


def executorch_xnnpack(model: nn.Module, x: Tensor) -> Forward:
    """Lowered to XNNPACK as far as its partitioner takes it."""
    return in_executorch(torch.export.export(copy.deepcopy(model), (x,)), x)


def in_executorch(exported: torch.export.ExportedProgram, x: Tensor) -> Forward:
    """An exported network, lowered to XNNPACK as far as its partitioner takes it."""
    with foreign_code():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
        from executorch.runtime import Runtime

        program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
        _unsafe_reset_threadpool(torch.get_num_threads())
        buffer = program.buffer
        loaded = Runtime.get().load_program(buffer)
        method = loaded.load_method("forward")

    def forward(keep: object = (buffer, loaded)) -> object:  # the method points into both
        return method.execute([x])

    return forward


OPENVINO_FLOAT32 = ("BatchNormalization", "Concat")
"""Norms that no convolution takes in, and concatenations: compiling them in 8 bits ends OpenVINO 2026.4.1 with SIGSEGV
(BinaryDenseNet's layers and MeliusNet-22 in float). Other networks of `bench speed` have none of both."""
FLOAT = Peer("torch fp32", torch_fp32)
CHANNELS_LAST = Peer("torch fp32, channels-last", torch_channels_last)
AUTOCAST = Peer("torch bf16 autocast, channels-last", torch_autocast)
COMPILED = Peer("torch.compile fp32, channels-last", torch_compiled)
ONNX_FP32 = Peer("ONNX Runtime fp32", partial(through_onnx, onnx_runtime), ("onnxruntime", "onnx"), "bench")
ONNX_INT8 = Peer(
    "ONNX Runtime int8 QDQ", partial(through_onnx, onnx_runtime, quantized=True), ("onnxruntime", "onnx"), "bench"
)
OPENVINO_INT8 = Peer(
    "OpenVINO int8 QDQ",
    partial(through_onnx, openvino_runtime, quantized=True, float32=OPENVINO_FLOAT32),
    ("openvino", "onnxruntime", "onnx"),
    "bench",
)
PEERS = (
    FLOAT,
    CHANNELS_LAST,
    AUTOCAST,
    Peer("torch bf16, channels-last", torch_bf16),
    ONNX_FP32,
    ONNX_INT8,
    Peer("OpenVINO fp32", partial(through_onnx, openvino_runtime), ("openvino", "onnx"), "bench"),
    OPENVINO_INT8,
    Peer("ExecuTorch XNNPACK fp32", executorch_xnnpack, ("executorch",), "edge"),
)
"""In the order of the table; `COMPILED` is not among them, because it takes minutes to build."""


def _channels_last(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def inferred(model: Callable[[Tensor], object], x: Tensor) -> Forward:
    def forward() -> object:
        with torch.inference_mode():
            return model(x)

    return forward


def _export(model: nn.Module, x: Tensor, folder: Path) -> Path:
    path = folder / "plain.onnx"
    with foreign_code():
        # the exporter by tracing: the other one needs one more package, and gives the same nodes here
        torch.onnx.export(
            copy.deepcopy(model), (x,), str(path), input_names=[INPUT], opset_version=ONNX_OPSET, dynamo=False
        )
    return path


def _quantized(path: Path, x: Tensor, float32: Collection[str]) -> Path:
    """The network of an ONNX file in 8 bits, as another file in the same folder: QDQ nodes, weights per channel.

    It is calibrated on random inputs, which speed does not see. float32: operators of ONNX that stay so.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class RandomInputs(CalibrationDataReader):  # type: ignore[misc]  # a class of a package without types
        def __init__(self) -> None:
            self.left = [torch.randn_like(x) for _ in range(CALIBRATION_BATCHES)]

        def get_next(self) -> Mapping[str, Any] | None:
            return {INPUT: self.left.pop().numpy()} if self.left else None

    inferred, quantized = path.with_name("inferred.onnx"), path.with_name("quantized.onnx")
    with foreign_code():
        quant_pre_process(str(path), str(inferred))
        left = [node.name for node in onnx.load(inferred).graph.node if node.op_type in float32]
        options = {"quant_format": QuantFormat.QDQ, "per_channel": True, "nodes_to_exclude": left}
        quantize_static(str(inferred), str(quantized), RandomInputs(), **options)
    return quantized


@contextmanager
def foreign_code() -> Iterator[None]:
    """Without the warnings that exporters and quantizers give about their own ways."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
