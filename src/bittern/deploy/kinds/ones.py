# SPDX-License-Identifier: Apache-2.0
"""Node kinds of terms whose values are all +1 (`codes.Ones`): offsets of an operand.

Ones of a weight have one product for all outputs of a group, the sum over what each output sees of the input; a node
`binary` of as many outputs as groups counts it, and `copies` gives every output its own, scaled. Ones of an input have
a product that no input changes. Where padding is 0 it depends on the place, in as many ways as a window meets the
border; `ones_product` counts it for one image of the size at hand, and adds it to every sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.bit_stream import spelled, stream_bytes, to_words
from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need, need_channels, need_real
from bittern.deploy.kinds.binary import GEOMETRY, check_geometry, per_group, taps, words_of_ones
from bittern.deploy.kinds.bits import Planes, images_of
from bittern.deploy.kinds.footprint import FLOAT_BYTES, WORD_BYTES, units
from bittern.deploy.kinds.kind import Kind, Step, count, flag, integer, integers, need_shape, pair
from bittern.deploy.kinds.node_codes import (
    FARTHEST,
    MOST_PLANES,
    check_weight_code,
    halvings,
    has_middle,
    weight_code,
    weight_factors,
)
from bittern.deploy.kinds.plane_sum import PlaneSum
from bittern.deploy.kinds.shape_rules import windows
from bittern.deploy.program import Node
from bittern.ops._check import words_for

# -- copies ------------------------------------------------------------------------------------------------


def _check_copies(node: Node, tensors: Tensors) -> None:
    if tensors["scale"].ndim != 1 or len(tensors["scale"]) == 0:
        raise FormatError(f"node {node.name!r} (copies): its scale must be a vector")


def _build_copies(node: Node, tensors: Tensors, device: torch.device) -> Step:
    scale, last = tensors["scale"], node.attrs["last"]

    def step(x: Tensor) -> Tensor:
        dim = x.ndim - 1 if last else 1
        each = len(scale) // x.shape[dim]
        x = x if x.shape[dim] == 1 else x.repeat_interleave(each, dim)  # one channel broadcasts
        return x * (scale if last else scale.view(1, -1, *(1,) * (x.ndim - 2)))

    return step


def _copies_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    channels, dim = len(tensors["scale"]), len(x.shape) - 1 if node.attrs["last"] else 1
    need(node, x.shape[dim] > 0 and channels % x.shape[dim] == 0, f"{channels} channels of {x.shape[dim]}")
    return Form((*x.shape[:dim], channels, *x.shape[dim + 1 :]))


COPIES = Kind(
    name="copies",
    attrs={"last": flag(default=False)},
    tensors={"scale": torch.float32},
    check=_check_copies,
    shape=_copies_form,
    build=_build_copies,
    finite=True,
)


# -- ones_product ------------------------------------------------------------------------------------------


def _filters(node: Node, tensors: Tensors) -> int:
    """How many products there are: one an output, or without a weight one a group."""
    return integer(node, "out_channels" if "weight" in tensors else "groups")


def _check_product(node: Node, tensors: Tensors) -> None:
    check_geometry(node)
    out = integer(node, "out_channels")
    fan_in, code, planes = taps(node) * per_group(node), weight_code(node), integer(node, "weight_planes")
    check_weight_code(node)
    if "weight" not in tensors and len(weight_factors(node)) > 1:
        raise FormatError(f"node {node.name!r} (ones_product): its planes of weights are not those of its code")
    if fan_in * sum(map(abs, weight_factors(node))) > 2**24:
        raise FormatError(f"node {node.name!r} (ones_product): accumulators may exceed 2^24")
    need_shape(node, "weight", tensors.get("weight"), (planes, stream_bytes(fan_in * out)))
    if code.redundant and not spelled(code, tensors["weight"], fan_in * out):
        raise FormatError(f"node {node.name!r} (ones_product): its planes of weights are not those of its code")
    need_shape(node, "scale", tensors.get("scale"), (out,))


class _OnesProduct:
    """One product of ones on one device; what it was for the last size of images is kept."""

    def __init__(self, node: Node, tensors: Tensors, device: torch.device) -> None:
        self._dims, self._channels = integer(node, "dims"), integer(node, "channels")
        self._each = integer(node, "out_channels") // _filters(node, tensors)
        self._scale, self._device = tensors.get("scale"), device
        as_binary = replace(node, attrs={**node.attrs, "code": "sign", "input_planes": 1, "pad_value": 0})
        self._sum = PlaneSum(as_binary, _words(node, tensors), device)
        self._halvings = halvings(as_binary)
        self._last: tuple[tuple[int, ...], Tensor] | None = None

    def __call__(self, y: Tensor, planes: Planes) -> Tensor:
        size = tuple(planes[0].shape[1:-1])
        last = self._last
        if last is None or last[0] != size:
            last = self._last = size, self._of(size)
        return y + last[1]

    def _of(self, size: tuple[int, ...]) -> Tensor:
        """[1, out, *space] for bits of images [height, width]."""
        words = ops.pack_signs(torch.ones(1, self._channels, device=self._device))
        ones = words.expand(1, *size, words.shape[-1]).contiguous()
        numbers = images_of(self._sum((ones,)) >> self._halvings, self._dims).float()
        numbers = numbers.repeat_interleave(self._each, 1)
        return numbers if self._scale is None else numbers * self._scale.view(1, -1, *(1,) * self._dims)


def _words(node: Node, tensors: Tensors) -> list[Tensor]:
    """Of each plane, int64 [filters, taps, words of a group]."""
    size = _filters(node, tensors), taps(node), per_group(node)
    words = [to_words(stream.cpu(), *size) for stream in tensors["weight"]] if "weight" in tensors else []
    return [*words, words_of_ones(*size)] if has_middle(node) or not words else words


def _product_form(node: Node, tensors: Tensors, y: Form, bits: Form) -> Form:
    need_real(node, y)
    need(node, bits.type == "bits" and not bits.last, f"it takes bits of images or signals; got {bits.type}")
    need_channels(node, bits, integer(node, "channels"))
    shape = (1, integer(node, "out_channels"), *windows(node, bits, integers(node, "kernel")))
    need(node, y.shape == shape, f"it adds {list(shape)} to {list(y.shape)}")
    return y


def _product_loaded(node: Node, tensors: Tensors, form: Form) -> int:
    out, seen = integer(node, "out_channels"), taps(node) * per_group(node)
    words = WORD_BYTES * words_for(per_group(node)) * taps(node)
    rows = 24 * FLOAT_BYTES * units(out) * integer(node, "groups")
    return len(weight_factors(node)) * (2 * out * seen + 3 * units(out) * words) + rows


def _product_working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    y, bits = inputs
    padding = pair(integers(node, "padding"), 0)
    height, width = pair(list(bits.shape[2:]), 1)
    padded = (height + 2 * padding[0]) * (width + 2 * padding[1])
    numbers = 2 * y.elements + (2 * len(weight_factors(node)) + 6) * form.elements
    return FLOAT_BYTES * numbers + 12 * WORD_BYTES * words_for(bits.channels) * padded


ONES_PRODUCT = Kind(
    name="ones_product",
    inputs=(2,),
    attrs={
        **GEOMETRY,
        "weight_planes": count(1, MOST_PLANES, default=1),
        "weight_levels": count(2, 2**MOST_PLANES, optional=True),
        "weight_low": count(-FARTHEST, 0, optional=True),
    },
    optional={"weight": torch.uint8, "scale": torch.float32},
    check=_check_product,
    shape=_product_form,
    build=_OnesProduct,
    low_bit=True,
    loaded=_product_loaded,
    working=_product_working,
)

ONES_KINDS: tuple[Kind, ...] = (COPIES, ONES_PRODUCT)
