# SPDX-License-Identifier: Apache-2.0
"""Operators that move numbers about, on int8 values: their result has the grid of what they read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.kinds.kind import IMAGE_DIMS, integer, integers, number
from bittern.deploy.program import Node
from bittern.ptq.grid import Grid
from bittern.ptq.rule import Forms, Rule
from bittern.ptq.writer import Writer

MOVING = (
    *("select.int", "slice.Tensor", "unsqueeze.default", "squeeze.dim", "squeeze.dims", "transpose.int"),
    *("permute.default", "reshape.default", "view.default", "flatten.using_ints", "unflatten.int", "expand.default"),
    *("pixel_unshuffle.default", "channel_shuffle.default", "flip.default", "roll.default"),
    *("repeat_interleave.self_int", "narrow.default", "contiguous.default", "clone.default", "movedim.int"),
)
"""Operators of torch that only move numbers of their one input."""
UPSAMPLING = ("upsample_nearest2d.vec", "upsample_nearest2d.default")


def _reshape(writer: Writer, node: Node, value: int, out: Grid) -> int:
    (source,) = node.inputs
    return writer.reshaped(node, writer.integer(source), writer.shape(source), writer.shape(node.output))


def _permute(writer: Writer, node: Node, value: int, out: Grid) -> int:
    order = integers(node, "order")
    return writer.moved("permute.default", node, (writer.integer(node.inputs[0]),), len(order), order)


def _pad(writer: Writer, node: Node, value: int, out: Grid) -> int:
    (source,) = node.inputs
    filling = int(out.integers(torch.tensor(number(node, "value"))))
    dims = len(writer.shape(source))
    amount = integers(node, "amount")
    return writer.moved("constant_pad_nd.default", node, (writer.integer(source),), dims, amount, filling)


def _slice(writer: Writer, node: Node, value: int, out: Grid) -> int:
    (source,) = node.inputs
    given = [integer(node, "dim"), integer(node, "start"), node.attrs.get("stop"), integer(node, "step")]
    return writer.moved("slice.Tensor", node, (writer.integer(source),), len(writer.shape(source)), *given)


def _concatenate(writer: Writer, node: Node, value: int, out: Grid) -> int:
    dims = len(writer.shape(node.output))
    parts = [writer.rescaled(node, source, out) for source in node.inputs]
    return writer.moved("cat.default", node, parts, dims, integer(node, "dim") % dims)


def _of_torch_problem(forms: Forms, tensors: Mapping[str, Tensor], node: Node) -> str | None:
    """Arguments must be the one input and numbers."""
    arguments = node.attrs["arguments"]
    assert isinstance(arguments, list)
    if len(node.inputs) != 1 or node.tensors or not isinstance(arguments[0], dict) or "input" not in arguments[0]:
        return "it reads more than one value"
    return None


def _of_torch(writer: Writer, node: Node, value: int, out: Grid) -> int:
    arguments = node.attrs["arguments"]
    assert isinstance(arguments, list)
    (source,) = node.inputs
    operator = str(node.attrs["operator"])
    return writer.moved(operator, node, (writer.integer(source),), len(writer.shape(source)), *arguments[1:])


def _factors(forms: Forms, node: Node) -> list[int] | None:
    """How often an upsampling repeats rows and columns; None: not a whole number of times."""
    before, after = forms[node.inputs[0]].shape, forms[node.output].shape
    pairs = list(zip(before[2:], after[2:], strict=True))
    return [b // a for a, b in pairs] if all(b % a == 0 for a, b in pairs) else None


def _upsample_problem(forms: Forms, tensors: Mapping[str, Tensor], node: Node) -> str | None:
    return None if _factors(forms, node) else "it repeats neighbours unevenly"


def _upsample(writer: Writer, node: Node, value: int, out: Grid) -> int:
    found = writer.integer(node.inputs[0])
    for dim, times in enumerate(_factors(writer.forms, node) or (), start=2):
        if times > 1:
            found = writer.moved("repeat_interleave.self_int", node, (found,), IMAGE_DIMS, times, dim)
    return found


def _shuffle_problem(forms: Forms, tensors: Mapping[str, Tensor], node: Node) -> str | None:
    dims = len(forms[node.inputs[0]].shape)
    return None if dims == IMAGE_DIMS else f"it takes images; got {dims} dimensions"


def _shuffle(writer: Writer, node: Node, value: int, out: Grid) -> int:
    """Channels [channel, row, column of a block] as pixels of a block: the columns of all blocks first, then rows."""
    before, after = writer.shape(node.inputs[0]), writer.shape(node.output)
    arguments = node.attrs["arguments"]
    assert isinstance(arguments, list)
    block, (channels, height, width) = arguments[1], before[1:]
    x = writer.reshaped(node, writer.integer(node.inputs[0]), before, (1, channels // block, block, height * width))
    x = writer.moved("permute.default", node, (x,), 4, [0, 1, 3, 2])
    rows = (1, after[1], block, height, width * block)
    x = writer.reshaped(node, x, (1, channels // block, height * width, block), rows)
    x = writer.moved("permute.default", node, (x,), 5, [0, 1, 3, 2, 4])
    return writer.reshaped(node, x, (1, after[1], height, block, width * block), after)


def _move(write: Any, **more: Any) -> Rule:
    return Rule(write=write, keeps_scale=True, **more)


MOVE_RULES = {
    "flatten": _move(_reshape),
    "reshape": _move(_reshape),
    "permute": _move(_permute),
    "pad": _move(_pad),
    "slice": _move(_slice),
    "concatenate": Rule(write=_concatenate, joins=True),
    **{f"aten {name}": _move(_of_torch, problem=_of_torch_problem) for name in MOVING},
    "aten pixel_shuffle.default": _move(_shuffle, problem=_shuffle_problem),
    **{f"aten {name}": _move(_upsample, problem=_upsample_problem) for name in UPSAMPLING},
}
