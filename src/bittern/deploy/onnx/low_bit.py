# SPDX-License-Identifier: Apache-2.0
"""Low-bit nodes as arithmetic of real numbers: what any runtime computes with ±1.

A value of one sign plane is a float32 tensor of +1 and -1, one of levels one of the whole numbers of its code, both
laid out as torch lays out images, [batch, channels, *space], or [..., channels] for a linear layer (`dims` = 0).
Products of such values are whole numbers below 2^24, so float32 holds them exactly in whatever order they are added.

    product     c = conv(v, W), the training graph's integer accumulator; W whole numbers, +-1 for one plane
    tail        y = c * scale * alpha + beta, where the packed model goes on to a real value
    threshold   +1 where c >= t, else -1; times -1 in flipped channels

The packed accumulator is 2^h c - offset (`kinds.binary`), so its thresholds t become ceil((t + offset) / 2^h).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern import ops
from bittern.codes import Integers
from bittern.deploy.kinds.binary import BinaryStep, weight_words
from bittern.deploy.kinds.bits import flip_words
from bittern.deploy.kinds.kind import Step, integer, integers
from bittern.deploy.kinds.node_codes import has_levels, input_code, weight_code, weight_factors
from bittern.deploy.onnx.dialect import Dialect
from bittern.deploy.program import Node, Program
from bittern.deploy.split_products import input_scale_node, split_products
from bittern.nn.activation import per_channel

Tensors = Mapping[str, Tensor]
CPU = torch.device("cpu")
PRODUCT, TAIL = "product", "tail"
"""Kinds of nodes that `split` makes of a node `binary`; files have none."""
LARGEST = 2.0**24
"""No accumulator is larger (`kinds.binary`)."""


def split(program: Program) -> Program:
    """The same program, in which products give integers, and the way to a real value has nodes of its own."""
    return split_products(program, _links)


def _links(node: Node) -> tuple[Node, ...]:
    product = replace(node, kind=PRODUCT, inputs=node.inputs[:1])
    tail = (replace(node, kind=TAIL, inputs=()),) if node.attrs["result"] == "real" else ()
    return (product, *tail, *input_scale_node(node))


# -- bits --------------------------------------------------------------------------------------------------


def encode_constants(node: Node, tensors: Tensors) -> dict[str, Tensor]:
    return {role: _beside(node, tensor) for role, tensor in tensors.items()}


def encode(node: Node, constants: Tensors, dialect: Dialect) -> Step:
    """Whole numbers for levels; else signs of x - threshold, which is 0 or above exactly where x >= threshold."""
    code, threshold = input_code(node), constants.get("threshold")
    if has_levels(node):
        top, low, step = code.levels - 1, float(code.low), float(code.step)
        levels = Integers(0, top)
        if low == 0.0:
            return lambda x: dialect.levels(x * float(top), levels)
        return lambda x: dialect.levels(x * float(top), levels) * step + low
    return dialect.sign if threshold is None else lambda x: dialect.sign(x - threshold)


def _beside(node: Node, vector: Tensor) -> Tensor:
    """A vector over channels in a shape that broadcasts over what `node` reads."""
    dims = integer(node, "dims")
    return vector.view(-1, *(1,) * dims) if dims else vector


def _flips(node: Node, tensors: Tensors) -> Tensor | None:
    """-1 for the channels that a node flips, +1 for others."""
    words = flip_words(node, tensors, CPU)
    return None if words is None else -ops.unpack_signs(words.view(1, -1), integer(node, "channels"))[0].float()


def threshold_constants(node: Node, tensors: Tensors, product: Node, step: BinaryStep) -> dict[str, Tensor]:
    """`product` and its step: what wrote the accumulators."""
    limits = -(-(tensors["threshold"].to(torch.int64) + step.epilogue[0].to(torch.int64)) // 2**step.halvings)
    found = {"threshold": limits.clamp(-LARGEST - 1, LARGEST + 1).float()}
    flips = _flips(node, tensors)
    return {role: _beside(product, t) for role, t in (found | ({} if flips is None else {"flip": flips})).items()}


def threshold(constants: Tensors, dialect: Dialect) -> Step:
    limit, flip = constants["threshold"], constants.get("flip")
    if flip is None:
        return lambda c: dialect.sign(c - limit)
    return lambda c: dialect.sign(c - limit) * flip


def pool_constants(node: Node, tensors: Tensors) -> dict[str, Tensor]:
    flips = _flips(node, tensors)
    return {} if flips is None else {"flip": flips.view(-1, *(1,) * len(integers(node, "kernel")))}


def pool(node: Node, constants: Tensors) -> Step:
    """The maximum; in flipped channels the minimum."""
    kernel, stride, padding = (integers(node, key) for key in ("kernel", "stride", "padding"))
    pooled = F.max_pool1d if len(kernel) == 1 else F.max_pool2d
    flip, ceil = constants.get("flip"), bool(node.attrs["ceil"])
    if flip is None:
        return lambda v: pooled(v, kernel, stride, padding, ceil_mode=ceil)
    return lambda v: pooled(v * flip, kernel, stride, padding, ceil_mode=ceil) * flip


def concatenate(dim: int) -> Step:
    return lambda *parts: torch.cat(parts, dim)


# -- products ----------------------------------------------------------------------------------------------


def product_constants(node: Node, tensors: Tensors) -> dict[str, Tensor]:
    """The weight, whole numbers in the smallest type for its code: [out, channels of a group, *kernel]."""
    per_group = integer(node, "channels") // integer(node, "groups")
    code = weight_code(node)
    planes = [ops.unpack_signs(words, per_group).to(torch.int32) for words in weight_words(node, tensors)]
    total = torch.stack([plane * f for plane, f in zip(planes, weight_factors(node), strict=True)]).sum(0)
    weight = total * code.step // 2
    weight = weight.movedim(-1, 1).reshape(integer(node, "out_channels"), per_group, *integers(node, "kernel"))
    if node.attrs["dims"] == 0:
        weight = weight.flatten(1)
    return {"weight": weight.to(code.dtype)}


def product(node: Node, constants: Tensors, dialect: Dialect) -> Step:
    weight = dialect.weight(constants["weight"].float(), weight_code(node))
    dims = integer(node, "dims")
    if dims == 0:
        return lambda v: F.linear(v, weight)
    conv = F.conv1d if dims == 1 else F.conv2d
    stride, padding, dilation = (integers(node, key) for key in ("stride", "padding", "dilation"))
    groups, value = integer(node, "groups"), float(integer(node, "pad_value"))
    if value == 0:
        return lambda v: conv(v, weight, None, stride, padding, dilation, groups)
    around = [p for p in reversed(padding) for _ in range(2)]
    return lambda v: conv(F.pad(v, around, value=value), weight, None, stride, 0, dilation, groups)


def ones_constants(node: Node, tensors: Tensors) -> dict[str, Tensor]:
    """Of the product of ones: its weight, of ones themselves those of one output a group, and its scale."""
    out, groups = integer(node, "out_channels"), integer(node, "groups")
    per_group, kernel = integer(node, "channels") // groups, integers(node, "kernel")
    if "weight" in tensors:
        weight = product_constants(node, tensors)["weight"]
    else:
        weight = torch.ones(groups, per_group, *kernel, dtype=torch.int8).repeat_interleave(out // groups, 0)
    scale = {"scale": _beside(node, tensors["scale"])} if "scale" in tensors else {}
    return {"weight": weight, **scale}


def ones(node: Node, constants: Tensors) -> Step:
    weight, scale = constants["weight"].float(), constants.get("scale")
    conv = F.conv1d if node.attrs["dims"] == 1 else F.conv2d
    stride, padding, dilation = (integers(node, key) for key in ("stride", "padding", "dilation"))
    groups = integer(node, "groups")

    def call(y: Tensor, v: Tensor) -> Tensor:
        c = conv(torch.ones_like(v[:1]), weight, None, stride, padding, dilation, groups)
        return y + (c if scale is None else c * scale)

    return call


def tail_constants(node: Node, step: BinaryStep) -> dict[str, Tensor]:
    """Rows of the epilogue that are not 1 or 0 everywhere; the scale is not halved, for the product is not doubled."""
    _, scale, alpha, beta = step.epilogue
    rows = {"scale": scale * 2**step.halvings, "alpha": alpha, "beta": beta}
    return {
        role: _beside(node, row) for role, row in rows.items() if not bool((row == (0 if role == "beta" else 1)).all())
    }


def tail(constants: Tensors) -> Step:
    scale, alpha, beta = (constants.get(role) for role in ("scale", "alpha", "beta"))

    def call(c: Tensor) -> Tensor:
        y = c if scale is None else c * scale
        y = y if alpha is None else y * alpha
        return y if beta is None else y + beta

    return call


def shifted_sign(shift: Tensor, dialect: Dialect) -> Step:
    return lambda x: dialect.sign(x + per_channel(shift, x))


def affine(constants: Tensors) -> Step:
    alpha, beta = constants["alpha"], constants["beta"]
    return lambda x: x * per_channel(alpha, x) + per_channel(beta, x)
