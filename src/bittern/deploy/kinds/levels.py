# SPDX-License-Identifier: Apache-2.0
"""Node kinds in front of `encode`: where a real input lies among the levels of its code, as t in 0 ... 1.

Each is the computation of the code itself (`bittern.quantizer.LevelsCode`, `RowCode`), so its floats are the training
graph's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need, need_real
from bittern.deploy.kinds.kind import Kind, Step, need_shape
from bittern.deploy.kinds.shape_rules import same
from bittern.deploy.program import Node
from bittern.quantizer import LevelsCode, RowCode


def _check_range(node: Node, tensors: Tensors) -> None:
    need_shape(node, "range", tensors["range"], (2,))
    if float(tensors["range"][1]) == 0.0:
        raise FormatError(f"node {node.name!r} (in_range): its width is 0")


def _build_range(node: Node, tensors: Tensors, device: torch.device) -> Step:
    low, width = tensors["range"].to(device)
    return LevelsCode(1, low, width).position


IN_RANGE = Kind(name="in_range", tensors={"range": torch.float32}, check=_check_range, shape=same, build=_build_range)
"""t = (x - low) / width, of the tensor `range`: low, width."""


def row_position(x: Tensor) -> Tensor:
    """(v + 128) / 255 of the numbers v of `RowCode`: rounding t * 255 gives the whole number v + 128 back."""
    grid = RowCode().grid
    return (RowCode().values(x) - grid.low) / (grid.levels - 1)


ROW_LEVELS = Kind(name="row_levels", shape=same, build=lambda node, tensors, device: row_position)
"""Where each number lies among those from -128 to 127, by the scale of its row."""


def _row_scale_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    need(node, len(x.shape) > 1, f"it takes rows of samples; got {list(x.shape)}")
    return Form((*x.shape[:-1], 1))


ROW_SCALE = Kind(name="row_scale", shape=_row_scale_form, build=lambda node, tensors, device: RowCode().scale)
"""max(max |x|, 1e-5) / 127 of each row [..., features] -> [..., 1]."""

LEVEL_KINDS: tuple[Kind, ...] = (IN_RANGE, ROW_LEVELS, ROW_SCALE)
