# SPDX-License-Identifier: Apache-2.0
"""The node kind `decoded`: a product of real inputs with a weight of few bits, which lies in planes of bits in a file.

At load the planes become the whole numbers w = low + step * sum_i f_i b_i (`codes`), as float32, and the node is then
the very call of torch that the training graph makes: conv(x, w), or x w^T. Scales and biases are nodes behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bittern.codes import Code, Integers
from bittern.deploy.bit_stream import numbers_of, spelled, stream_bytes
from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors
from bittern.deploy.kinds.binary import GEOMETRY, check_geometry, per_group, taps
from bittern.deploy.kinds.footprint import FLOAT_BYTES
from bittern.deploy.kinds.kind import Kind, Step, count, integer, integers, need_shape
from bittern.deploy.kinds.node_codes import MOST_PLANES
from bittern.deploy.kinds.real import CONV, LINEAR
from bittern.deploy.program import Node

MOST = 2 ** (2 * MOST_PLANES)
"""The largest number of a code."""


def code_of(node: Node) -> Code:
    """Which numbers the weight of a node may be."""
    return Integers(integer(node, "low"), integer(node, "high"), integer(node, "step"))


def shape_of(node: Node) -> tuple[int, ...]:
    """[out, channels of a group, *kernel]."""
    return (integer(node, "out_channels"), per_group(node), *integers(node, "kernel"))


def weight_of(node: Node, tensors: Tensors) -> Tensor:
    """The weight, as numbers: float32, where its planes are."""
    streams = tensors["weight"]
    return numbers_of(code_of(node), streams, shape_of(node)).to(streams.device)


def real_product(node: Node, **tensors: str) -> Node:
    """The node `conv` or `linear` that computes the same, with these tensors."""
    keys = ("stride", "padding", "dilation", "groups") if node.attrs["dims"] else ()
    attrs = {key: node.attrs[key] for key in keys}
    return Node(_kind(node).name, node.name, node.inputs, node.output, attrs, tensors)


def _kind(node: Node) -> Kind:
    return CONV if node.attrs["dims"] else LINEAR


def _check(node: Node, tensors: Tensors) -> None:
    check_geometry(node)
    low, high, step = (integer(node, key) for key in ("low", "high", "step"))
    if high <= low or (high - low) % step or (high - low) // step >= 1 << MOST_PLANES:
        raise FormatError(f"node {node.name!r} (decoded): {low} ... {high} in steps of {step} is no code of weights")
    code = code_of(node)
    numbers = taps(node) * per_group(node) * integer(node, "out_channels")
    need_shape(node, "weight", tensors["weight"], (code.bits, stream_bytes(numbers)))
    if code.redundant and not spelled(code, tensors["weight"], numbers):
        raise FormatError(f"node {node.name!r} (decoded): its planes of weights are not those of {code}")


def _without_numbers(node: Node) -> Tensors:
    """What stands for the weight where only its shape counts."""
    return {"weight": torch.empty(shape_of(node), device="meta")}


def _form(node: Node, tensors: Tensors, x: Form) -> Form:
    return _kind(node).shape(real_product(node), _without_numbers(node), x)


def _loaded(node: Node, tensors: Tensors, form: Form) -> int:
    """The numbers twice on the way from bits, a plane of them as bytes, and what the product makes of them."""
    weight = _without_numbers(node)
    numbers = weight["weight"].numel()
    return (2 * FLOAT_BYTES + 2) * numbers + _kind(node).loaded(real_product(node), weight, form)


def _working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    return _kind(node).working(real_product(node), _without_numbers(node), inputs, form)


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    return _kind(node).build(real_product(node), {"weight": weight_of(node, tensors).to(device)}, device)


DECODED = Kind(
    name="decoded",
    attrs={
        **GEOMETRY,
        "low": count(-MOST, MOST, default=-1),
        "high": count(-MOST, MOST, default=1),
        "step": count(1, MOST, default=1),
    },
    tensors={"weight": torch.uint8},
    check=_check,
    shape=_form,
    build=_build,
    loaded=_loaded,
    working=_working,
)
