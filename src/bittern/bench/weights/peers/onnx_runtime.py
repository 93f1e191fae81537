# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime's MatMulNBits: integers in groups of 64, with inputs in float32 or rounded to 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bittern.bench.weights.contender import Contender, Pass, Ready, without
from bittern.bench.weights.peers.integers import GROUP, Integers, integers, nibbles, rolled

DOMAIN, OPSET, IR_VERSION = "com.microsoft", 17, 9
"""Of the file: newer ones say nothing more of these nodes."""
FLOAT_PRODUCTS, INT8_PRODUCTS = 1, 4
"""Values of the node's accuracy_level: the least precise numbers that its products may be of."""


class _Layer(NamedTuple):
    node: Any
    tensors: tuple[Any, ...]
    size: int
    """Bytes of the tensors."""


def _prepare(bits: int, accuracy: int, linears: Sequence[nn.Linear]) -> Ready:
    weights = [integers(linear, bits, GROUP) for linear in linears]

    def build(repeats: int, x: Tensor, step: bool) -> Pass:
        placed = enumerate([*zip(linears, weights, strict=True)] * repeats)
        layers = [_layer(linear, rolled(weight, i), bits, accuracy, i) for i, (linear, weight) in placed]
        request = _session(layers, x)
        return Pass(request, sum(layer.size for layer in layers))

    return build


def _layer(linear: nn.Linear, found: Integers, bits: int, accuracy: int, place: int) -> _Layer:
    """Number `place` of the stack, from value x<place> to the next."""
    from onnx import helper, numpy_helper

    codes = nibbles(found.codes) if bits == 4 else found.codes
    tensors = [
        numpy_helper.from_array(values.numpy(), f"{name}{place}")
        for name, values in (("codes", codes), ("scale", found.scale.flatten()))
    ]
    node = helper.make_node(
        "MatMulNBits",
        [f"x{place}", *(tensor.name for tensor in tensors)],
        [f"x{place + 1}"],
        domain=DOMAIN,
        K=linear.in_features,
        N=linear.out_features,
        bits=bits,
        block_size=GROUP,
        accuracy_level=accuracy,
    )
    return _Layer(node, tuple(tensors), codes.nbytes + found.scale.nbytes)


def _session(layers: Sequence[_Layer], x: Tensor) -> Any:
    """A pass through a file of these layers, with torch's number of threads at this time."""
    import onnxruntime
    from onnx import TensorProto, helper

    first, last = (helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, list(x.shape)) for i in (0, len(layers)))
    tensors = [tensor for layer in layers for tensor in layer.tensors]
    graph = helper.make_graph([layer.node for layer in layers], "stack", [first], [last], tensors)
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    # its threads may spin during a pass, as they do by default, but not on into another's turn
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"x0": x.numpy()}
    return lambda: session.run(None, feed)[0]


ONNX_RUNTIME = tuple(
    Contender(
        f"ONNX Runtime int{bits}{', int8 inputs' * int8}",
        partial(_prepare, bits, INT8_PRODUCTS if int8 else FLOAT_PRODUCTS),
        (torch.float32,),
        steps=False,
        int8=int8,
        missing=without("onnx", "onnxruntime"),
    )
    for bits, int8 in ((4, False), (4, True), (8, True))
)
