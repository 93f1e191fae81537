# SPDX-License-Identifier: Apache-2.0
"""Engines that quantize in their own way, and one that takes a file in 8 bits in the place of a network."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from bittern.bench.speed.peers import CALIBRATION_BATCHES, Forward, Peer, foreign_code, in_executorch, inferred


class File(nn.Module):
    """A network in a file of its authors', for the engine that the file was made for."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError("a file runs in its own engine")


def litert(model: nn.Module, x: Tensor) -> Forward:
    """LiteRT as it comes: XNNPACK where that takes the operators."""
    from ai_edge_litert.interpreter import Interpreter

    assert isinstance(model, File)
    interpreter = Interpreter(model_content=model.data, num_threads=torch.get_num_threads())
    interpreter.allocate_tensors()
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    image = x.numpy()

    def forward() -> object:
        interpreter.set_tensor(given["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(answer["index"])

    return forward


def executorch_int8(model: nn.Module, x: Tensor) -> Forward:
    """Quantized by PyTorch 2 Export with XNNPACK's quantizer, weights per channel."""
    with foreign_code():
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )

        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        exported = torch.export.export(_converted(model, x, quantizer), (x,))
    return in_executorch(exported, x)


def x86_int8(model: nn.Module, x: Tensor) -> Forward:
    """Quantized by PyTorch 2 Export with the quantizer of x86, and lowered to oneDNN's operators of torch."""
    with foreign_code():
        from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
        lowered = lower_pt2e_quantized_to_x86(_converted(model, x, quantizer), (x,))
    return inferred(lowered, x)


def _converted(model: nn.Module, x: Tensor, quantizer: object) -> nn.Module:
    """The network with pairs of quantize and dequantize, calibrated on random inputs."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    prepared = prepare_pt2e(torch.export.export(copy.deepcopy(model), (x,)).module(), quantizer)
    with torch.no_grad():
        for _ in range(CALIBRATION_BATCHES):
            prepared(torch.randn_like(x))
    converted: nn.Module = convert_pt2e(prepared)
    return converted


EXECUTORCH_INT8 = Peer("ExecuTorch XNNPACK int8", executorch_int8, ("executorch", "torchao"), "edge")
X86_INT8 = Peer("torch int8 (PT2E, oneDNN)", x86_int8, ("torchao",), "bench")
LITERT = Peer("LiteRT int8", litert, ("ai_edge_litert",), "bench")
