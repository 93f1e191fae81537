# SPDX-License-Identifier: Apache-2.0
"""The node kind `multibit_linear`: a linear layer whose weight and whose inputs are sums of scaled planes of signs.

    x ~ sum_j c_j D_j, found anew for every row by `ops.multibit_quantize`;   W = sum_i a_i W_i, planes in the file
    acc_ji = D_j . W_i, an integer;   y = sum_j sum_i fl(fl(acc_ji * a_i) * c_j), each sum rounded, then + bias

These are the sums of `ops.multibit_matvec`, in the order of `nn.binarize.low_bit_forward`. On the CPU one native call
finds planes and multiplies them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.bit_stream import stream_bytes, to_words
from bittern.deploy.form import Form, Tensors, need, need_real
from bittern.deploy.kinds.footprint import FLOAT_BYTES, WORD_BYTES, units
from bittern.deploy.kinds.kind import Kind, Step, count, flag, integer, need_shape
from bittern.deploy.kinds.node_codes import MOST_PLANES
from bittern.deploy.program import Node
from bittern.ops._check import words_for
from bittern.quantizer import term_names

MOST_CYCLES = 1000
"""A file cannot ask for more: each takes as long as the product."""


def _sizes(node: Node) -> tuple[int, int]:
    """(outputs, inputs)."""
    return integer(node, "out_channels"), integer(node, "channels")


def _check(node: Node, tensors: Tensors) -> None:
    planes, (out, n) = integer(node, "weight_planes"), _sizes(node)
    need_shape(node, "weight", tensors["weight"], (planes, stream_bytes(out * n)))
    need_shape(node, "scale", tensors["scale"], (planes, out))
    need_shape(node, "bias", tensors.get("bias"), (out,))


def _form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    out, n = _sizes(node)
    need(node, x.shape[-1] == n, f"it takes {n} features; got {list(x.shape)}")
    return Form((*x.shape[:-1], out))


def _words(node: Node, tensors: Tensors) -> Tensor:
    """Planes of the weight, int64 [planes, out, words], on the CPU."""
    out, n = _sizes(node)
    return torch.stack([to_words(stream.cpu(), out, 1, n)[:, 0] for stream in tensors["weight"]])


def _inputs(node: Node) -> tuple[int, int, bool]:
    """How the planes of a row are found: how many, cycles, refined."""
    return integer(node, "input_planes"), integer(node, "cycles"), bool(node.attrs["refined"])


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    words, scale, n = _words(node, tensors), tensors["scale"].t(), integer(node, "channels")
    found, bias = _inputs(node), tensors.get("bias")
    if device.type == "cpu":
        prepared = ops.PreparedMultibitMatvec(words, scale, n, bias)
        return lambda x: prepared.quantized(x, *found)
    words = words.to(device)
    return lambda x: ops.multibit_matvec(*ops.multibit_quantize(x, *found), words, scale, n, bias)


def _accumulators(node: Node, tensors: Tensors, device: torch.device) -> Callable[[Tensor], dict[str, Tensor]]:
    """acc of each pair of planes, as the training graph names them: those of the first plane of an input first."""
    weights = [plane.to(device) for plane in _words(node, tensors)]
    found, n = _inputs(node), integer(node, "channels")
    names = term_names(node.name, found[0] * len(weights))

    def of_rows(x: Tensor) -> dict[str, Tensor]:
        planes, _ = ops.multibit_quantize(x, *found)
        products = [ops.binary_matmul(plane, weight, n) for plane in planes for weight in weights]
        return dict(zip(names, products, strict=True))

    return of_rows


def _loaded(node: Node, tensors: Tensors, form: Form) -> int:
    """Weights as bytes of single bits on the way, as words, and as a kernel reads them; scales twice, and the bias."""
    out, n = _sizes(node)
    planes = integer(node, "weight_planes")
    words = 3 * units(out) * WORD_BYTES * words_for(n)
    return planes * (2 * out * n + words) + FLOAT_BYTES * (2 * planes + 2) * out


def _working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    """Rows twice and as codes of their numbers, planes as words, what is found on the way, and all accumulators."""
    out, n = _sizes(node)
    rows, planes = form.elements // out, integer(node, "input_planes")
    pairs = planes * integer(node, "weight_planes")
    of_row = 3 * FLOAT_BYTES * n + 2 * WORD_BYTES * planes * (words_for(n) + 1)
    return rows * of_row + FLOAT_BYTES * (2 * pairs + 3) * form.elements


MULTIBIT_LINEAR = Kind(
    name="multibit_linear",
    attrs={
        "channels": count(1, 2**24),
        "out_channels": count(1),
        "weight_planes": count(1, MOST_PLANES),
        "input_planes": count(1, MOST_PLANES),
        "cycles": count(0, MOST_CYCLES, default=2),
        "refined": flag(default=False),
    },
    tensors={"weight": torch.uint8, "scale": torch.float32},
    optional={"bias": torch.float32},
    check=_check,
    shape=_form,
    build=_build,
    accumulators=_accumulators,
    loaded=_loaded,
    working=_working,
)
