# SPDX-License-Identifier: Apache-2.0
"""The node kind `binary`: one low-bit convolution or product, from bit planes to real values or accumulators.

Numbers of a code are sums of signs (`codes`). An input v of levels a ... b, 1 apart, is (a + b + sum_j f_j B_j) / 2, an
odd number sum_j f_j B_j, a sign B_0; a weight w is step / 2 * sum_i g_i W_i: odd integers with a step of 2, or 0 and
its neighbours with a step of 1. Where these do not lie about 0, one more plane W, of ones, has their middle
(`node_codes`). So

    conv(v, w) = (sum_i sum_j g_i f_j conv(B_j, W_i) + (a + b) sum_i g_i sum W_i) / 2^h,    h = 0, 1 or 2

with a + b = 0 for signs and odd numbers, whose padding by 0 adds nothing to any plane. Padding of other inputs is the
bits of the level that is 0, plane by plane. What is divided is the integer `acc + offset`; halving is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from bittern import ops
from bittern.codes import BLOCK
from bittern.deploy.bit_stream import spelled, stream_bytes, to_words
from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need, need_channels
from bittern.deploy.kinds.bits import Planes, images_of
from bittern.deploy.kinds.footprint import FLOAT_BYTES, UNIT, WORD_BYTES, units
from bittern.deploy.kinds.kind import Kind, choice, count, integer, integers, need_shape, sizes
from bittern.deploy.kinds.node_codes import (
    CODES,
    FARTHEST,
    MOST_PLANES,
    check_weight_code,
    check_zero_level,
    halvings,
    has_middle,
    input_code,
    paddings,
    weight_code,
    weight_factors,
)
from bittern.deploy.kinds.plane_sum import PlaneSum, runner
from bittern.deploy.kinds.shape_rules import windows
from bittern.deploy.kinds.torch_scale import torch_scale
from bittern.deploy.program import Node
from bittern.nn.binarize import spread
from bittern.nn.geometry import Geometry
from bittern.ops._check import WORD_BITS, words_for
from bittern.quantizer import InputScale, LayerShape

EPILOGUES: dict[str, tuple[str, ...]] = {
    "none": (),
    "scale": ("scale",),
    "bias": ("beta",),
    "affine": ("alpha", "beta"),
    "scale+bias": ("scale", "beta"),
    "scale+affine": ("scale", "alpha", "beta"),
}
"""Rows of the tensor `epilogue` [rows, out_channels], by the attribute of the same name."""

TORCH, SUMS = "torch", "sums"
"""Orders in which an input scale adds |x|: torch's own, of files from before there was another, or that of
`ops.mean_magnitude`."""

ROW_WORDS = 10
"""Words of working memory per word of a row of outputs: eight planes, the padding, the products of a pixel."""


def taps(node: Node) -> int:
    """Number of kernel positions."""
    return math.prod(integers(node, "kernel"))


def per_group(node: Node) -> int:
    """Input channels that one output sees."""
    return integer(node, "channels") // integer(node, "groups")


def check_geometry(node: Node) -> None:
    """Refuse a geometry that is not of so many dimensions, or groups that do not fit. Raises: FormatError."""
    for key in ("kernel", "stride", "padding", "dilation"):
        if len(integers(node, key)) != integer(node, "dims"):
            raise FormatError(f"node {node.name!r} ({node.kind}): {key!r} must have `dims` entries")
    channels, out, groups = (integer(node, key) for key in ("channels", "out_channels", "groups"))
    if channels % groups or out % groups or (groups > 1 and node.attrs["dims"] == 0):
        raise FormatError(f"node {node.name!r} ({node.kind}): groups must divide both channel counts")


def _check(node: Node, tensors: Tensors) -> None:
    check_geometry(node)
    out = integer(node, "out_channels")
    if node.attrs["code"] == "sign" and node.attrs["input_planes"] != 1:
        raise FormatError(f"node {node.name!r} (binary): a sign has one plane")
    fan_in = taps(node) * per_group(node)
    code = weight_code(node)
    check_weight_code(node)
    check_zero_level(node)
    if fan_in * sum(input_code(node).plane_factors) * sum(map(abs, weight_factors(node))) > 2**24:
        raise FormatError(f"node {node.name!r} (binary): accumulators may exceed 2^24")
    need_shape(node, "weight", tensors["weight"], (integer(node, "weight_planes"), stream_bytes(fan_in * out)))
    if code.redundant and not spelled(code, tensors["weight"], fan_in * out):
        raise FormatError(f"node {node.name!r} (binary): its planes of weights are not those of {code.levels} levels")
    rows = EPILOGUES[str(node.attrs["epilogue"])]
    if bool(rows) != ("epilogue" in tensors):
        raise FormatError(f"node {node.name!r} (binary): its tensor 'epilogue' and its attribute disagree")
    need_shape(node, "epilogue", tensors.get("epilogue"), (len(rows), out))
    if not (is_single(node) or (node.attrs["result"] == "real" and "beta" not in rows)):
        raise FormatError(f"node {node.name!r} (binary): several planes give a real result without alpha and beta")
    spread_out = has_input_scale(node)
    if spread_out != (len(node.inputs) == 2) or (spread_out and (node.attrs["result"] == "acc" or "beta" in rows)):
        raise FormatError(f"node {node.name!r} (binary): an input scale reads the real input and comes before any bias")
    if node.attrs["scale_order"] != TORCH and not spread_out:
        raise FormatError(f"node {node.name!r} (binary): a scale_order needs an input scale")
    _check_inputs(node)


def _check_inputs(node: Node) -> None:
    """Refuse padding that the numbers of its inputs have no bits for."""
    code, several = node.attrs["code"], node.attrs["input_planes"] != 1
    if node.attrs["pad_value"] != 0 and (code in ("levels", "integers") or several):
        raise FormatError(f"node {node.name!r} (binary): levels are padded with 0")


def is_single(node: Node) -> bool:
    """One plane of inputs and one of weights: the kernel goes on to the real value."""
    return node.attrs["input_planes"] == 1 and len(weight_factors(node)) == 1


def has_input_scale(node: Node) -> bool:
    """Whether a product is scaled by its real input."""
    return node.attrs["input_scale"] != InputScale.NONE.value


def input_scale(node: Node) -> Callable[[Tensor], Tensor] | None:
    """Function from the real input to the scale of the output that depends on it; None where there is no such scale."""
    if not has_input_scale(node):
        return None
    if node.attrs["scale_order"] == TORCH:
        return torch_scale(node)
    if integer(node, "dims") == 0:
        return lambda x: ops.mean_magnitude.direct(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], 1)
    if node.attrs["input_scale"] == InputScale.PER_SAMPLE.value:
        return lambda x: ops.mean_of_sample(ops.mean_magnitude.direct(x))
    stride, padding, dilation = (tuple(integers(node, key)) for key in ("stride", "padding", "dilation"))
    shape, geometry = LayerShape((1, 1, *integers(node, "kernel"))), Geometry(stride, padding, dilation)
    return lambda x: spread(ops.mean_magnitude.direct(x), shape, geometry)


def weight_words(node: Node, tensors: Tensors) -> list[Tensor]:
    """Words of each plane of `weight_factors`, int64 [out, taps, words of a group], on the CPU."""
    out, seen = integer(node, "out_channels"), per_group(node)
    words = [to_words(s.cpu(), out, taps(node), seen) for s in tensors["weight"]]
    return [*words, words_of_ones(out, taps(node), seen)] if has_middle(node) else words


def words_of_ones(out: int, taps: int, seen: int) -> Tensor:
    """A plane of signs that are all +1, int64 [out, taps, words of a group]."""
    return ops.pack_signs(torch.ones(1, seen, device="cpu")).expand(out, taps, -1).contiguous()


def _sums(words: Tensor, channels: int) -> Tensor:
    """Sums of the signs of each output, int64 [out], of words [out, taps, words of a group]; a few outputs at a time.

    Those of one output are at most 2^24, which float32 adds exactly.
    """
    rows = max(1, BLOCK // max(1, words[0].numel() * WORD_BITS))
    parts = [ops.unpack_signs(block, channels).sum((1, 2)) for block in torch.split(words, rows)]
    return torch.cat(parts).to(torch.int64)


def offsets(node: Node, words: list[Tensor]) -> Tensor:
    """What is added to the sum of the products of planes, int64 [out]: (a + b) sum_i g_i sum(W_i), inputs a ... b."""
    offset = torch.zeros(integer(node, "out_channels"), dtype=torch.int64)
    x = input_code(node)
    if x.low + x.high:
        for factor, plane in zip(weight_factors(node), words, strict=True):
            offset += _sums(plane, per_group(node)) * (factor * (x.low + x.high))
    return offset


def epilogue_rows(node: Node, tensors: Tensors, words: list[Tensor]) -> Tensor:
    """Rows offset, scale, alpha, beta of the kernels' epilogue: float32 [4, out], on the CPU.

    The offset is an exact integer; halvings are the scale's.
    """
    one = torch.ones(integer(node, "out_channels"), dtype=torch.float32)
    rows = {"scale": one, "alpha": one, "beta": torch.zeros_like(one)}
    names = EPILOGUES[str(node.attrs["epilogue"])]
    rows.update(zip(names, tensors["epilogue"].cpu() if names else (), strict=True))
    rows["scale"] = rows["scale"] * 0.5 ** halvings(node)
    return torch.stack([offsets(node, words).float(), rows["scale"], rows["alpha"], rows["beta"]])


class Accumulator:
    """The integer accumulator of the training graph, by a product of its own that stops at the integer."""

    def __init__(self, node: Node, tensors: Tensors, device: torch.device) -> None:
        words = weight_words(node, tensors)
        self._sum = PlaneSum(node, words, device)
        self._offset = offsets(node, words).to(device, torch.int32)
        self._halvings = halvings(node)
        self._dims = integer(node, "dims")

    def __call__(self, planes: Planes) -> Tensor:
        """int32 [batch, channels, *space]."""
        return images_of((self._sum(planes) + self._offset) >> self._halvings, self._dims)


class BinaryStep:
    """One low-bit convolution or product on one device."""

    def __init__(self, node: Node, tensors: Tensors, device: torch.device) -> None:
        self.node = node
        self.tensors = tensors
        self.device = device
        self.dims = integer(node, "dims")
        self.halvings = halvings(node)
        self.real = node.attrs["result"] == "real"
        words = weight_words(node, tensors)
        self.epilogue = epilogue_rows(node, tensors, words).to(device)
        single, tail = is_single(node), self.epilogue if self.real else None
        self.single = runner(node, words[0], tail, device, paddings(node)[0]) if single else None
        self._planes = None if single else PlaneSum(node, words, device)
        self.input_scale = input_scale(node)

    def __call__(self, planes: Planes, x: Tensor | None = None) -> Tensor:
        y = self._product(planes)
        return y if x is None or self.input_scale is None else y * self.input_scale(x)

    def _product(self, planes: Planes) -> Tensor:
        if self.single is not None:
            y = cast(Tensor, self.single(planes[0]))
            return images_of(y, self.dims) if self.real else y
        assert self._planes is not None
        offset, scale = self.epilogue[0], self.epilogue[1]
        return images_of((self._planes(planes).float() + offset) * scale, self.dims)

    def accumulator(self, planes: Planes) -> Tensor:
        """What `Accumulator` gives."""
        return Accumulator(self.node, self.tensors, self.device)(planes)


def _accumulators(node: Node, tensors: Tensors, device: torch.device) -> Callable[[Planes], dict[str, Tensor]]:
    count = Accumulator(node, tensors, device)
    return lambda planes: {node.name: count(planes)}


def _form(node: Node, tensors: Tensors, x: Form, real: Form | None = None) -> Form:
    dims, out = integer(node, "dims"), integer(node, "out_channels")
    need(node, x.type == "bits", f"it takes bits; got {x.type}")
    need(node, x.last == (dims == 0) or len(x.shape) == 2, "its bits lie along another dimension")
    need(node, x.planes == node.attrs["input_planes"], f"it takes {node.attrs['input_planes']} planes; got {x.planes}")
    need_channels(node, x, integer(node, "channels"))
    need(node, real is None or (real.type == "real" and real.shape == x.shape), "its real input is of another shape")
    kind = "real" if node.attrs["result"] == "real" else "acc"
    if dims == 0:
        return Form((*x.shape[:-1], out), kind, last=kind == "acc")
    return Form((1, out, *windows(node, x, integers(node, "kernel"))), kind)


def _loaded(node: Node, tensors: Tensors, form: Form) -> int:
    """Weights as bytes of single bits on the way, as words, and as a kernel reads them; rows of parameters."""
    out, groups = integer(node, "out_channels"), integer(node, "groups")
    channels = per_group(node)
    words = WORD_BYTES * words_for(channels) * taps(node)
    rows = (units(out // groups) * groups + UNIT) * 24 * FLOAT_BYTES
    return len(weight_factors(node)) * (2 * out * taps(node) * channels + 3 * units(out) * words) + rows


def _working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    pairs = integer(node, "input_planes") * len(weight_factors(node))
    numbers = FLOAT_BYTES * (2 * sum(x.elements for x in inputs) + (2 * pairs + 3) * form.elements)
    if node.attrs["dims"] == 0:
        return numbers
    # Counts of a row of pixels as planes of bits, and its padding.
    return numbers + ROW_WORDS * WORD_BYTES * words_for(form.channels) * form.shape[-1]


GEOMETRY = {
    "dims": count(0, 2, default=2),
    "kernel": sizes(0, 1, 2, least=1, default=[3, 3]),
    "stride": sizes(0, 1, 2, least=1, default=[1, 1]),
    "padding": sizes(0, 1, 2, default=[0, 0]),
    "dilation": sizes(0, 1, 2, least=1, default=[1, 1]),
    "channels": count(1),
    "out_channels": count(1),
    "groups": count(1, default=1),
}
"""Attributes of a product with weights of few bits that say which numbers it multiplies."""

BINARY = Kind(
    name="binary",
    inputs=(1, 2),
    attrs={
        **GEOMETRY,
        "code": choice(*CODES),
        "input_planes": count(1, MOST_PLANES, default=1),
        "weight_planes": count(1, MOST_PLANES, default=1),
        "weight_levels": count(2, 2**MOST_PLANES, optional=True),
        "weight_low": count(-FARTHEST, 0, optional=True),
        "zero_level": count(1, FARTHEST, optional=True),
        "pad_value": count(-1, 1, default=0),
        "input_scale": choice(*(scale.value for scale in InputScale)),
        "scale_order": choice(TORCH, SUMS),
        "epilogue": choice(*EPILOGUES),
        "result": choice("real", "acc"),
    },
    tensors={"weight": torch.uint8},
    optional={"epilogue": torch.float32},
    check=_check,
    shape=_form,
    build=BinaryStep,
    accumulators=_accumulators,
    low_bit=True,
    loaded=_loaded,
    working=_working,
)
