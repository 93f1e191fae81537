# SPDX-License-Identifier: Apache-2.0
"""Node kinds around the products: encode (real to bits), threshold (accumulators to bits), pools and concatenations of
bits.

Layout: a real tensor is [batch, channels, *space] as in torch; bits and accumulators are NHWC, [batch, height,
width, words] (a 1-d tensor has height 1), or [..., words] for a linear layer (`dims` = 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.bit_stream import stream_bytes, to_words
from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Shape, Tensors, need, need_channels, need_real
from bittern.deploy.kinds.footprint import FLOAT_BYTES, copies
from bittern.deploy.kinds.kind import Kind, Step, choice, count, flag, integer, integers, need_shape, pair, sizes
from bittern.deploy.kinds.node_codes import CODES, FARTHEST, MOST_PLANES, check_zero_level, has_levels
from bittern.deploy.kinds.shape_rules import pool_windows
from bittern.deploy.program import Node

Planes = tuple[Tensor, ...]
"""Packed words of each bit plane, the lowest first."""


# -- encode ------------------------------------------------------------------------------------------------


def _check_encode(node: Node, tensors: Tensors) -> None:
    need_shape(node, "threshold", tensors.get("threshold"), (integer(node, "channels"),))
    check_zero_level(node)
    if has_levels(node) and "threshold" in tensors:
        raise FormatError(f"node {node.name!r} (encode): levels have no threshold")
    if node.attrs["code"] == "sign" and node.attrs["planes"] != 1:
        raise FormatError(f"node {node.name!r} (encode): a sign has one plane")


def packer(threshold: Tensor | None, device: torch.device) -> Step:
    """`ops.pack_signs` with a fixed threshold, by the shortest way for the device."""
    if device.type == "cpu":
        return ops.PreparedPack(threshold)
    return lambda x: ops.pack_signs(x, threshold)


def half_open_threshold() -> float:
    """Smallest float32 above 1/2: round_half_even(clip(x, 0, 1)) is 1 exactly where x >= this."""
    half, one = torch.tensor([0.5, 1.0], dtype=torch.float32)
    return float(torch.nextafter(half, one))


def rows_of(x: Tensor, dims: int) -> Tensor:
    """A real tensor as a view with channels last: [batch, height, width, channels], or as it is for a linear layer."""
    if dims == 0:
        return x
    return (x.unsqueeze(2) if dims == 1 else x).permute(0, 2, 3, 1)


def images_of(rows: Tensor, dims: int) -> Tensor:
    """The way back: [batch, channels, *space] without moving data."""
    if dims == 0:
        return rows
    images = rows.permute(0, 3, 1, 2)
    return images.squeeze(2) if dims == 1 else images


def _build_encode(node: Node, tensors: Tensors, device: torch.device) -> Step:
    dims, planes = integer(node, "dims"), integer(node, "planes")
    channels = integer(node, "channels")
    threshold = tensors.get("threshold")
    if has_levels(node) and planes == 1:
        threshold = torch.full((channels,), half_open_threshold(), dtype=torch.float32, device=device)

    if planes > 1:
        return lambda x: tuple(ops.pack_levels(rows_of(x, dims), planes))
    pack = packer(threshold, device)
    return lambda x: (pack(rows_of(x, dims)),)


def _encode_form(node: Node, tensors: Tensors, x: Form) -> Form:
    dims = integer(node, "dims")
    need_real(node, x)
    need(node, dims == 0 or len(x.shape) == 2 + dims, f"it takes {2 + dims} dimensions; got {list(x.shape)}")
    bits = Form(x.shape, "bits", integer(node, "planes"), dims == 0)
    need_channels(node, bits, integer(node, "channels"), f"{list(x.shape)}")
    return bits


def _channel_rows(node: Node, tensors: Tensors, form: Form) -> int:
    return FLOAT_BYTES * integer(node, "channels") + copies(node, tensors, form)


def _encode_working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    (x,) = inputs
    return FLOAT_BYTES * (1 if node.attrs["planes"] == 1 else 5) * x.elements


ENCODE = Kind(
    name="encode",
    attrs={
        "dims": count(0, 2, default=2),
        "code": choice(*CODES),
        "planes": count(1, MOST_PLANES, default=1),
        "channels": count(1),
        "zero_level": count(1, FARTHEST, optional=True),
    },
    optional={"threshold": torch.float32},
    check=_check_encode,
    shape=_encode_form,
    build=_build_encode,
    low_bit=True,
    loaded=_channel_rows,
    working=_encode_working,
)


# -- threshold ---------------------------------------------------------------------------------------------


def _check_threshold(node: Node, tensors: Tensors) -> None:
    out = integer(node, "channels")
    need_shape(node, "threshold", tensors["threshold"], (out,))
    need_shape(node, "flip", tensors.get("flip"), (stream_bytes(out),))


def _build_threshold(node: Node, tensors: Tensors, device: torch.device) -> Step:
    threshold = tensors["threshold"].to(device)
    pack = packer(threshold, device)
    if "flip" not in tensors:
        return lambda acc: (pack(acc),)
    flip = to_words(tensors["flip"].cpu(), 1, 1, integer(node, "channels"))[0, 0].to(device)
    return lambda acc: (pack(acc) ^ flip,)


def _threshold_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need(node, x.type == "acc", f"it takes accumulators; got {x.type}")
    need_channels(node, x, integer(node, "channels"))
    return replace(x, type="bits")


THRESHOLD = Kind(
    name="threshold",
    attrs={"channels": count(1)},
    tensors={"threshold": torch.int32},
    optional={"flip": torch.uint8},
    check=_check_threshold,
    shape=_threshold_form,
    build=_build_threshold,
    low_bit=True,
    loaded=_channel_rows,
)


# -- pools and concatenations ------------------------------------------------------------------------------


def flip_words(node: Node, tensors: Tensors, device: torch.device) -> Tensor | None:
    """Words of the channels that take the minimum."""
    if "flip" not in tensors:
        return None
    return to_words(tensors["flip"].cpu(), 1, 1, integer(node, "channels"))[0, 0].to(device)


def image_windows(node: Node) -> tuple[list[int], list[int], list[int]]:
    """kernel, stride and padding over images; those of a 1-d signal over images of height 1."""
    kernel, stride, padding = (integers(node, key) for key in ("kernel", "stride", "padding"))
    return pair(kernel, 1), pair(stride, 1), pair(padding, 0)


def _check_pool_bits(node: Node, tensors: Tensors) -> None:
    need_shape(node, "flip", tensors.get("flip"), (stream_bytes(integer(node, "channels")),))


def _build_pool_bits(node: Node, tensors: Tensors, device: torch.device) -> Step:
    flip, windows, ceil = flip_words(node, tensors, device), image_windows(node), bool(node.attrs["ceil"])
    return lambda planes: tuple(ops.pool_bits(plane, *windows, ceil, flip) for plane in planes)


def _pool_bits_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need(node, x.type == "bits" and not x.last, f"it takes bits of images or signals; got {x.type}")
    need(node, x.planes == 1, f"the maximum of {x.planes} bit planes is not that of each")
    need_channels(node, x, integer(node, "channels"))
    return replace(x, shape=(*x.shape[:2], *pool_windows(node, x, bool(node.attrs["ceil"]))))


POOL_BITS = Kind(
    name="pool_bits",
    attrs={
        "channels": count(1),
        "kernel": sizes(1, 2, least=1),
        "stride": sizes(1, 2, least=1),
        "padding": sizes(1, 2),
        "ceil": flag(default=False),
    },
    optional={"flip": torch.uint8},
    check=_check_pool_bits,
    shape=_pool_bits_form,
    build=_build_pool_bits,
    low_bit=True,
)


def _check_concatenate_bits(node: Node, tensors: Tensors) -> None:
    if len(node.inputs) != len(integers(node, "channels")):
        raise FormatError(
            f"node {node.name!r} (concatenate_bits): channels name {len(integers(node, 'channels'))} parts; "
            f"it reads {len(node.inputs)}"
        )


def _build_concatenate_bits(node: Node, tensors: Tensors, device: torch.device) -> Step:
    channels = integers(node, "channels")
    return lambda *parts: tuple(ops.concatenate_bits(list(planes), channels) for planes in zip(*parts, strict=True))


def _concatenate_bits_form(node: Node, tensors: Tensors, *parts: Form) -> Form:
    first = parts[0]
    for part, channels in zip(parts, integers(node, "channels"), strict=True):
        need(node, part.type == "bits", f"it takes bits; got {part.type}")
        need_channels(node, part, channels)
        same = len(part.shape) == len(first.shape) and (part.last, part.planes) == (first.last, first.planes)
        need(node, same and _space(part) == _space(first), f"{list(part.shape)} beside {list(first.shape)}")
    total = sum(part.channels for part in parts)
    shape = (*first.shape[:-1], total) if first.last else (1, total, *first.shape[2:])
    return replace(first, shape=shape)


def _space(x: Form) -> Shape:
    return x.shape[:-1] if x.last else x.shape[2:]


CONCATENATE_BITS = Kind(
    name="concatenate_bits",
    inputs=(-1,),
    attrs={"channels": sizes(*range(1, 17), least=1, most=2**24)},
    check=_check_concatenate_bits,
    shape=_concatenate_bits_form,
    build=_build_concatenate_bits,
    low_bit=True,
)

BIT_KINDS: tuple[Kind, ...] = (ENCODE, THRESHOLD, POOL_BITS, CONCATENATE_BITS)
