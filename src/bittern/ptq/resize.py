# SPDX-License-Identifier: Apache-2.0
"""Bilinear resizing as `integer_resize`, with the places of torch's pixels to 1/1,024 of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.kinds.integer.resize import ONE
from bittern.deploy.kinds.kind import IMAGE_DIMS
from bittern.deploy.program import Node
from bittern.ops.fixed_point import rounded_away
from bittern.ptq.grid import Grid
from bittern.ptq.rule import Forms, Rule
from bittern.ptq.writer import Writer


def places(size: int, result: int, aligned: bool, factor: float | None) -> Tensor:
    """int32 [result, 2]: the pixel in front of each of the result's, and the share of the next one, of `ONE`.

    aligned: corners lie on corners; otherwise a pixel is a square about its middle (torch's `align_corners`). factor:
    how many times larger the result is told to be; None: as the sizes say.
    """
    if aligned:
        at = torch.arange(result, dtype=torch.float64) * ((size - 1) / (result - 1) if result > 1 else 0.0)
    else:
        step = 1.0 / factor if factor else size / result
        at = ((torch.arange(result, dtype=torch.float64) + 0.5) * step - 0.5).clamp(min=0.0)
    whole = rounded_away(at * ONE).long().clamp(max=(size - 1) * ONE)
    return torch.stack([whole // ONE, whole % ONE], 1).to(torch.int32)


def _arguments(node: Node) -> tuple[bool, list[Any]]:
    """(whether corners are aligned, factors of rows and columns, None where the sizes say them)."""
    given = node.attrs["arguments"]
    assert isinstance(given, list)
    if str(node.attrs["operator"]).endswith(".vec"):
        factors = given[3] if len(given) > 3 else None
        return bool(given[2]), [None, None] if factors is None else list(factors)
    return bool(given[2]), [given[place] if place < len(given) else None for place in (3, 4)]


def _problem(forms: Forms, tensors: Mapping[str, Tensor], node: Node) -> str | None:
    _, factors = _arguments(node)
    known = all(factor is None or isinstance(factor, (int, float)) for factor in factors)
    if len(forms[node.inputs[0]].shape) != IMAGE_DIMS or len(node.inputs) != 1 or not known:
        return "its sizes follow from another value"
    return None


def _resize(writer: Writer, node: Node, value: int, out: Grid) -> int:
    before, after = writer.shape(node.inputs[0]), writer.shape(node.output)
    aligned, factors = _arguments(node)
    tensors: dict[str, Any] = {
        role: places(before[dim], after[dim], aligned, factor)
        for dim, (role, factor) in enumerate(zip(("rows", "columns"), factors, strict=True), 2)
    }
    return writer.add("integer_resize", node, (writer.integer(node.inputs[0]),), tensors)


RESIZE_RULES = {
    f"aten upsample_bilinear2d.{overload}": Rule(write=_resize, problem=_problem, keeps_scale=True)
    for overload in ("vec", "default")
}
