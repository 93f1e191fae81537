# SPDX-License-Identifier: Apache-2.0
"""Node kinds around the products: encode (real to bits), threshold (accumulators to bits), pools and concatenations of
bits, factors of the output.

Layout: a real tensor is [batch, channels, *space] as in torch; bits and accumulators are NHWC, [batch, height,
width, words] (a 1-d tensor has height 1), or [..., words] for a linear layer (`dims` = 0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.bit_stream import stream_bytes, to_words
from bittern.deploy.errors import FormatError
from bittern.deploy.kinds.kind import Kind, Step, choice, count, flag, integer, integers, need_shape, pair, sizes
from bittern.deploy.program import Node

Planes = tuple[Tensor, ...]
"""Packed words of each bit plane, the lowest first."""


# -- encode ------------------------------------------------------------------------------------------------


def _encode_shapes(node: Node, tensors: Mapping[str, Tensor]) -> None:
    need_shape(node, "threshold", tensors.get("threshold"), (integer(node, "channels"),))
    if node.attrs["code"] == "levels" and "threshold" in tensors:
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


def _build_encode(node: Node, tensors: Mapping[str, Tensor], device: torch.device) -> Step:
    dims, planes = integer(node, "dims"), integer(node, "planes")
    channels = integer(node, "channels")
    threshold = tensors.get("threshold")
    if node.attrs["code"] == "levels" and planes == 1:
        threshold = torch.full((channels,), half_open_threshold(), dtype=torch.float32, device=device)

    def to_rows(x: Tensor) -> Tensor:
        if dims == 0:
            return x
        return (x.unsqueeze(2) if dims == 1 else x).permute(0, 2, 3, 1)

    pack = packer(threshold, device)

    def encode_one(x: Tensor) -> Planes:
        return (pack(to_rows(x)),)

    def encode_levels(x: Tensor) -> Planes:
        levels = float(2**planes - 1)
        codes = torch.round(to_rows(x).nan_to_num(nan=0.0).clamp(0, 1) * levels).to(torch.int32)
        return tuple(pack((codes >> j & 1) - 1) for j in range(planes))

    return encode_one if planes == 1 else encode_levels


ENCODE = Kind(
    "encode",
    (1,),
    {
        "dims": count(0, 2, default=2),
        "code": choice("sign", "levels"),
        "planes": count(1, 8, default=1),
        "channels": count(1),
    },
    {},
    {"threshold": torch.float32},
    _encode_shapes,
    _build_encode,
)


# -- threshold ---------------------------------------------------------------------------------------------


def _threshold_shapes(node: Node, tensors: Mapping[str, Tensor]) -> None:
    out = integer(node, "channels")
    need_shape(node, "threshold", tensors["threshold"], (out,))
    need_shape(node, "flip", tensors.get("flip"), (stream_bytes(out),))


def _build_threshold(node: Node, tensors: Mapping[str, Tensor], device: torch.device) -> Step:
    threshold = tensors["threshold"].to(device)
    pack = packer(threshold, device)
    if "flip" not in tensors:
        return lambda acc: (pack(acc),)
    flip = to_words(tensors["flip"].cpu(), 1, 1, integer(node, "channels"))[0, 0].to(device)
    return lambda acc: (pack(acc) ^ flip,)


THRESHOLD = Kind(
    "threshold",
    (1,),
    {"channels": count(1)},
    {"threshold": torch.int32},
    {"flip": torch.uint8},
    _threshold_shapes,
    _build_threshold,
)


# -- pools and concatenations ------------------------------------------------------------------------------


def flip_words(node: Node, tensors: Mapping[str, Tensor], device: torch.device) -> Tensor | None:
    """Words of the channels that take the minimum."""
    if "flip" not in tensors:
        return None
    return to_words(tensors["flip"].cpu(), 1, 1, integer(node, "channels"))[0, 0].to(device)


def image_windows(node: Node) -> tuple[list[int], list[int], list[int]]:
    """kernel, stride and padding over images; those of a 1-d signal over images of height 1."""
    kernel, stride, padding = (integers(node, key) for key in ("kernel", "stride", "padding"))
    return pair(kernel, 1), pair(stride, 1), pair(padding, 0)


def _pool_bits_shapes(node: Node, tensors: Mapping[str, Tensor]) -> None:
    need_shape(node, "flip", tensors.get("flip"), (stream_bytes(integer(node, "channels")),))


def _build_pool_bits(node: Node, tensors: Mapping[str, Tensor], device: torch.device) -> Step:
    flip, windows, ceil = flip_words(node, tensors, device), image_windows(node), bool(node.attrs["ceil"])
    return lambda planes: tuple(ops.pool_bits(plane, *windows, ceil, flip) for plane in planes)


POOL_BITS = Kind(
    "pool_bits",
    (1,),
    {
        "channels": count(1),
        "kernel": sizes(1, 2, least=1),
        "stride": sizes(1, 2, least=1),
        "padding": sizes(1, 2),
        "ceil": flag(default=False),
    },
    {},
    {"flip": torch.uint8},
    _pool_bits_shapes,
    _build_pool_bits,
)


def _concatenate_bits_shapes(node: Node, tensors: Mapping[str, Tensor]) -> None:
    if len(node.inputs) != len(integers(node, "channels")):
        raise FormatError(
            f"node {node.name!r} (concatenate_bits): channels name {len(integers(node, 'channels'))} parts; "
            f"it reads {len(node.inputs)}"
        )


def _build_concatenate_bits(node: Node, tensors: Mapping[str, Tensor], device: torch.device) -> Step:
    channels = integers(node, "channels")
    return lambda *parts: tuple(ops.concatenate_bits(list(planes), channels) for planes in zip(*parts, strict=True))


CONCATENATE_BITS = Kind(
    "concatenate_bits",
    (-1,),
    {"channels": sizes(*range(1, 17), least=1, most=2**24)},
    {},
    {},
    _concatenate_bits_shapes,
    _build_concatenate_bits,
)


# -- scales of the output ----------------------------------------------------------------------------------


def channel_scale_shapes(node: Node) -> list[tuple[int, ...]]:
    """Shapes of the factors that lie one after another in the tensor `factors`: rank, then sizes, each."""
    numbers, shapes = list(integers(node, "shapes")), []
    while numbers:
        rank = numbers.pop(0)
        if not 0 < rank <= min(4, len(numbers)):
            raise FormatError(f"node {node.name!r} (factors): shapes {integers(node, 'shapes')} are damaged")
        shapes.append(tuple(numbers[:rank]))
        del numbers[:rank]
    return shapes


def _factor_shapes(node: Node, tensors: Mapping[str, Tensor]) -> None:
    total = sum(math.prod(shape) for shape in channel_scale_shapes(node))
    need_shape(node, "factors", tensors["factors"], (total,))


def channel_scale(node: Node, tensors: Mapping[str, Tensor]) -> Tensor:
    """The product of a node's factors, which broadcasts over its input."""
    shapes = channel_scale_shapes(node)
    parts = torch.split(tensors["factors"], [math.prod(shape) for shape in shapes])
    factors = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
    gamma = factors[0]
    for factor in factors[1:]:
        gamma = gamma * factor
    return gamma


def _build_factors(node: Node, tensors: Mapping[str, Tensor], device: torch.device) -> Step:
    gamma = channel_scale(node, tensors)
    if gamma.ndim == 4:  # the layout of what the low-bit layer writes
        gamma = gamma.contiguous(memory_format=torch.channels_last)
    return lambda y: y * gamma


CHANNEL_SCALES = Kind(
    "factors",
    (1,),
    {"shapes": sizes(*range(2, 16), least=1, most=2**24)},
    {"factors": torch.float32},
    {},
    _factor_shapes,
    _build_factors,
)

BIT_KINDS: tuple[Kind, ...] = (ENCODE, THRESHOLD, POOL_BITS, CONCATENATE_BITS, CHANNEL_SCALES)
