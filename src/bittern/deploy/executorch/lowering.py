# SPDX-License-Identifier: Apache-2.0
"""A packed program as a torch module that torch.export can read: one entry per kind of node.

Low-bit nodes become calls of `bittern.ops`, which the partitioner hands to the Bittern backend; every other node is
the torch call that the packed model itself makes. All tensors are buffers, so that they end up in the `.pte` as
constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern import ops
from bittern.deploy.errors import ExportError
from bittern.deploy.kinds.binary import BinaryStep, is_single, weight_words
from bittern.deploy.kinds.bits import Planes, flip_words, half_open_threshold, image_windows, images_of, rows_of
from bittern.deploy.kinds.channel_scales import channel_scale_shapes
from bittern.deploy.kinds.kind import Step, integer, integers, pair
from bittern.deploy.kinds.node_codes import has_levels, input_code, paddings, weight_factors
from bittern.deploy.kinds.table import KINDS, TORCH_KINDS
from bittern.deploy.part_by_part import tensors_of
from bittern.deploy.program import Node, Program
from bittern.deploy.split_products import (
    INPUT_SCALE,
    input_scale_node,
    scale_by_input,
    split_products,
    without_input_scale,
)
from bittern.nn.activation import per_channel

Tensors = Mapping[str, Tensor]
CPU = torch.device("cpu")
IMAGE_DIMS = 4
"""[batch, channels, height, width]."""
BATCH = 1
"""Samples that a `.pte` takes per call: its shapes are fixed."""


class Lowering(NamedTuple):
    """How one kind of node is exported."""

    constants: Callable[[Node, Tensors], dict[str, Tensor]]
    """The tensors that go into the file, from those of the packed model."""
    call: Callable[[Node, Tensors], Step]
    """The computation, from those constants; called while torch.export watches."""


class ExportModule(nn.Module):
    """A program, its input scales split off, over buffers.

    Call with its inputs, of BATCH samples -> the tensors of the values in `results`, one after another; a value of
    several bit planes gives one tensor a plane.

    Raises: ExportError for a kind of node that has no lowering.
    """

    def __init__(self, program: Program, tensors: Tensors, results: tuple[int, ...]) -> None:
        super().__init__()
        self.program = program
        self.results = results
        self._roles: list[dict[str, str]] = []
        for index, node in enumerate(program.nodes):
            named = node.named(tensors)
            constants = lowering(node).constants(node, named)
            roles = {role: f"node{index}_{role}" for role in constants}
            for role, tensor in constants.items():
                self.register_buffer(roles[role], tensor.detach().contiguous())
            self._roles.append(roles)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values: dict[int, Any] = dict(enumerate(inputs))
        for node, roles in zip(self.program.nodes, self._roles, strict=True):
            constants = {role: self.get_buffer(name) for role, name in roles.items()}
            value = lowering(node).call(node, constants)(*(values[v] for v in node.inputs))
            # one layout for every value: a copy that only some readers ask for is one that XNNPACK stumbles over
            values[node.output] = value.contiguous() if isinstance(value, Tensor) else value
        found: list[Tensor] = []
        for v in self.results:
            found += tensors_of(values[v])
        return tuple(found)


def lowering(node: Node) -> Lowering:
    """Raises: ExportError."""
    if node.kind not in LOWERINGS:
        raise ExportError(
            f"to_executorch: node {node.name!r} is of kind {node.kind!r}, which has no ExecuTorch form; "
            f"known are {', '.join(sorted(LOWERINGS))}"
        )
    return LOWERINGS[node.kind]


# -- bits --------------------------------------------------------------------------------------------------


def _encode_constants(node: Node, tensors: Tensors) -> dict[str, Tensor]:
    if has_levels(node) and node.attrs["planes"] == 1:
        return {"threshold": torch.full((integer(node, "channels"),), half_open_threshold())}
    return dict(tensors)


def _encode(node: Node, constants: Tensors) -> Step:
    planes, threshold = integer(node, "planes"), constants.get("threshold")
    if planes == 1:
        return lambda x: (ops.pack_signs(rows_of(x, integer(node, "dims")), threshold),)
    levels = float(input_code(node).levels - 1)

    def encode_levels(x: Tensor) -> Planes:
        codes = torch.round(rows_of(x, integer(node, "dims")).clamp(0, 1) * levels)
        return tuple(ops.pack_signs(_bit(codes, j) - 0.5) for j in range(planes))

    return encode_levels


def _bit(codes: Tensor, j: int) -> Tensor:
    """Bit j of whole numbers in float32, as 0 or 1: exact, and of ops that every runtime has."""
    shifted = torch.floor(codes * 0.5**j)
    return shifted - 2 * torch.floor(shifted * 0.5)


def _threshold_constants(node: Node, tensors: Tensors) -> dict[str, Tensor]:
    flip = flip_words(node, tensors, CPU)
    return {"threshold": tensors["threshold"]} | ({} if flip is None else {"flip": flip})


def _threshold(node: Node, constants: Tensors) -> Step:
    threshold, flip = constants["threshold"], constants.get("flip")
    if flip is None:
        return lambda acc: (ops.pack_signs(acc, threshold),)
    return lambda acc: (torch.bitwise_xor(ops.pack_signs(acc, threshold), flip),)


def _pool_bits_constants(node: Node, tensors: Tensors) -> dict[str, Tensor]:
    flip = flip_words(node, tensors, CPU)
    return {} if flip is None else {"flip": flip}


def _pool_bits(node: Node, constants: Tensors) -> Step:
    windows, ceil, flip = image_windows(node), bool(node.attrs["ceil"]), constants.get("flip")
    return lambda planes: (ops.pool_bits(planes[0], *windows, ceil, flip),)


# -- products ----------------------------------------------------------------------------------------------


def _binary_constants(node: Node, tensors: Tensors) -> dict[str, Tensor]:
    step = BinaryStep(node, tensors, CPU)
    found = {f"weight{i}": _kernel_shaped(node, words) for i, words in enumerate(weight_words(node, tensors))}
    if not is_single(node):
        return found | {"offset": step.epilogue[0], "scale": step.epilogue[1]}
    return found | {"epilogue": step.epilogue} if step.real else found


def _kernel_shaped(node: Node, words: Tensor) -> Tensor:
    if node.attrs["dims"] == 0:
        return words[:, 0]
    return words.reshape(words.shape[0], *pair(integers(node, "kernel"), 1), words.shape[-1])


def _product(node: Node, words: Tensor, epilogue: Tensor | None, pad_value: int) -> Step:
    channels = integer(node, "channels")
    if node.attrs["dims"] == 0:
        return lambda x: ops.binary_matmul(x, words, channels, epilogue)
    stride, padding, dilation = (
        pair(integers(node, "stride"), 1),
        pair(integers(node, "padding"), 0),
        pair(integers(node, "dilation"), 1),
    )
    groups = integer(node, "groups")
    return lambda x: ops.binary_conv2d(x, words, channels, stride, padding, dilation, groups, pad_value, epilogue)


def _binary(node: Node, constants: Tensors) -> Step:
    weights = [constants[f"weight{i}"] for i in range(len(weight_factors(node)))]

    def call(planes: Planes) -> Tensor:
        if is_single(node):
            y = cast(Tensor, _product(node, weights[0], constants.get("epilogue"), paddings(node)[0])(planes[0]))
        else:
            y = (_sum_of_planes(node, weights, planes).float() + constants["offset"]) * constants["scale"]
        return images_of(y, integer(node, "dims")) if node.attrs["result"] == "real" else y

    return call


def _sum_of_planes(node: Node, weights: list[Tensor], planes: Planes) -> Tensor:
    parts = [
        _product(node, words, None, pad)(plane) * (f * g)
        for f, words in zip(weight_factors(node), weights, strict=True)
        for g, plane, pad in zip(input_code(node).plane_factors, planes, paddings(node), strict=True)
    ]
    total: Tensor = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def split_input_scales(program: Program) -> Program:
    """The same program, in which no product is scaled by its real input: that becomes a node of its own.

    What is left of the product is exact, whatever computes the scale.
    """
    return split_products(program, lambda node: (without_input_scale(node), *input_scale_node(node)))


# -- real values -------------------------------------------------------------------------------------------


def _factors_constants(node: Node, tensors: Tensors) -> dict[str, Tensor]:
    shapes = channel_scale_shapes(node)
    parts = torch.split(tensors["factors"], [torch.Size(shape).numel() for shape in shapes])
    gamma = parts[0].view(shapes[0])
    for part, shape in zip(parts[1:], shapes[1:], strict=True):
        gamma = gamma * part.view(shape)
    return {"gamma": gamma}


def _factors(node: Node, constants: Tensors) -> Step:
    return lambda y: y * constants["gamma"]


def _affine_constants(node: Node, tensors: Tensors) -> dict[str, Tensor]:
    alpha, beta = tensors["affine"]
    return {"alpha": alpha, "beta": beta, "mean": torch.zeros_like(alpha), "var": torch.ones_like(alpha)}


def _affine(node: Node, constants: Tensors) -> Step:
    alpha, beta, mean, var = (constants[role] for role in ("alpha", "beta", "mean", "var"))
    return lambda x: torch.batch_norm(x, alpha, beta, mean, var, False, 0.0, 0.0, False)


def _sign(node: Node, constants: Tensors) -> Step:
    """+1 where x >= 0, else -1, also for NaN: `ops.sign` in the runtime's own ops."""
    return lambda x: (x >= 0).to(x.dtype) * 2 - 1


def _shifted_sign(node: Node, constants: Tensors) -> Step:
    shift = constants["shift"]
    sign = _sign(node, constants)
    return lambda x: sign(x + per_channel(shift, x))


def _prelu_of(x: Tensor, slope: Tensor) -> Tensor:
    """F.prelu; XNNPACK takes it of images alone, and fails on other shapes instead of leaving them."""
    if x.ndim == IMAGE_DIMS:
        return F.prelu(x, slope)
    return torch.where(x > 0, x, per_channel(slope, x) * x)


def _prelu(node: Node, constants: Tensors) -> Step:
    return lambda x: _prelu_of(x, constants["weight"])


def _rprelu(node: Node, constants: Tensors) -> Step:
    before, slope, after = (constants[role] for role in ("before", "slope", "after"))
    return lambda x: _prelu_of(x - per_channel(before, x), slope) + per_channel(after, x)


def _pool(node: Node, constants: Tensors) -> Step:
    """Rounded up only where that adds a window: XNNPACK has no pool that rounds up."""
    windows = tuple(zip(*(integers(node, key) for key in ("kernel", "stride", "padding")), strict=True))

    def call(x: Tensor) -> Tensor:
        even = all((n + 2 * p - k) % s == 0 for n, (k, s, p) in zip(x.shape[2:], windows, strict=True))
        exact = node.with_attrs(ceil=bool(node.attrs["ceil"]) and not even)
        return cast(Tensor, KINDS[node.kind].build(exact, constants, CPU)(x))

    return call


def _as_packed(node: Node, constants: Tensors) -> Step:
    """What the packed model itself calls."""
    return KINDS[node.kind].build(node, constants, CPU)


def _all(node: Node, tensors: Tensors) -> dict[str, Tensor]:
    return dict(tensors)


LOWERINGS: dict[str, Lowering] = {
    **{kind.name: Lowering(_all, _as_packed) for kind in TORCH_KINDS},
    "encode": Lowering(_encode_constants, _encode),
    "threshold": Lowering(_threshold_constants, _threshold),
    "pool_bits": Lowering(_pool_bits_constants, _pool_bits),
    "concatenate_bits": Lowering(_all, _as_packed),
    "binary": Lowering(_binary_constants, _binary),
    "copies": Lowering(_all, _as_packed),
    "results": Lowering(_all, _as_packed),
    INPUT_SCALE: Lowering(_all, lambda node, constants: scale_by_input(node)),
    "factors": Lowering(_factors_constants, _factors),
    "affine": Lowering(_affine_constants, _affine),
    "sign": Lowering(_all, _sign),
    "shifted_sign": Lowering(_all, _shifted_sign),
    "pool": Lowering(_all, _pool),
    "prelu": Lowering(_all, _prelu),
    "rprelu": Lowering(_all, _rprelu),
}
"""Every kind of node that can be exported; a new kind is one entry. Real and layout kinds are plain torch already, but
for those below."""
