# SPDX-License-Identifier: Apache-2.0
"""Node kinds that say where a real input lies: in front of `encode` among the levels of its code, as t in 0 ... 1, and
in front of `decoded` on which whole number of steps.

Each is the computation of the code itself (`bittern.quantizer.LevelsCode` and its like), so its floats are
the training graph's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need, need_real
from bittern.deploy.kinds.kind import Kind, Step, count, integer, need_shape
from bittern.deploy.kinds.node_codes import FARTHEST, MOST_PLANES
from bittern.deploy.kinds.shape_rules import same
from bittern.deploy.program import Node
from bittern.quantizer import LevelsCode, RowCode, StepsCode, WholeCode

MOST_STEPS = 2**15
"""Of `to_steps`, to either side."""


def _check_range(node: Node, tensors: Tensors) -> None:
    need_shape(node, "width", tensors["width"], (1,))
    if tensors["low"].ndim != 1:
        raise FormatError(f"node {node.name!r} (in_range): its tensor 'low' must be a vector")
    if float(tensors["width"]) == 0.0:
        raise FormatError(f"node {node.name!r} (in_range): its width is 0")


def _range_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    dims = integer(node, "dims")
    need(node, dims in (0, len(x.shape) - 2), f"it takes {dims} dimensions behind the channels; got {list(x.shape)}")
    channels = x.shape[-1 if dims == 0 else 1]
    need(node, len(tensors["low"]) in (1, channels), f"it takes {len(tensors['low'])} channels; got {channels}")
    return x


def _build_range(node: Node, tensors: Tensors, device: torch.device) -> Step:
    low, width = tensors["low"].to(device), tensors["width"].to(device)
    dims = integer(node, "dims")
    if dims and len(low) > 1:
        low = low.view(1, -1, *(1,) * dims)
    return LevelsCode(1, low if low.ndim > 1 or len(low) > 1 else low[0], width[0]).position


IN_RANGE = Kind(
    name="in_range",
    attrs={"dims": count(0, 2, default=2)},
    tensors={"low": torch.float32, "width": torch.float32},
    check=_check_range,
    shape=_range_form,
    build=_build_range,
)
"""t = (x - low) / width; low [1] or [channels], width [1]. `dims` as in `encode`."""


def _check_steps(node: Node, tensors: Tensors) -> None:
    need_shape(node, "step", tensors["step"], (1,))
    need_shape(node, "origin", tensors.get("origin"), (1,))
    if not float(tensors["step"]) > 0.0:
        raise FormatError(f"node {node.name!r} (steps): its step must be above 0")
    if integer(node, "zero_level") >= 2 ** integer(node, "planes"):
        raise FormatError(f"node {node.name!r} (steps): its zero_level must be one of its levels")


def _build_steps(node: Node, tensors: Tensors, device: torch.device) -> Step:
    step, origin = tensors["step"].to(device)[0], tensors.get("origin")
    zero, planes = integer(node, "zero_level"), integer(node, "planes")
    code = StepsCode(planes, step, zero, None if origin is None else origin.to(device)[0])
    return lambda x: (code.values(x) + zero) / (2**planes - 1)


STEPS = Kind(
    name="steps",
    attrs={"planes": count(1, MOST_PLANES), "zero_level": count(0, FARTHEST, default=0)},
    tensors={"step": torch.float32},
    optional={"origin": torch.float32},
    check=_check_steps,
    shape=same,
    build=_build_steps,
)
"""Where each number of `StepsCode` lies among its levels: rounding t (2^planes - 1) gives number + zero_level back."""


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


def _check_to_steps(node: Node, tensors: Tensors) -> None:
    need_shape(node, "step", tensors["step"], (1,))
    if not float(tensors["step"]) > 0.0:
        raise FormatError(f"node {node.name!r} (to_steps): its step must be above 0; got {float(tensors['step'])}")


def _build_to_steps(node: Node, tensors: Tensors, device: torch.device) -> Step:
    return WholeCode(-integer(node, "below"), integer(node, "high"), tensors["step"].to(device)[0]).values


TO_STEPS = Kind(
    name="to_steps",
    attrs={"below": count(0, MOST_STEPS, default=MOST_STEPS), "high": count(1, MOST_STEPS, default=MOST_STEPS)},
    tensors={"step": torch.float32},
    check=_check_to_steps,
    shape=same,
    build=_build_to_steps,
)
"""clip(round_half_even(x / step), -below, high), 0 for NaN; step [1]."""

LEVEL_KINDS: tuple[Kind, ...] = (IN_RANGE, STEPS, ROW_LEVELS, ROW_SCALE, TO_STEPS)
