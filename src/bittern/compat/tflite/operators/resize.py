# SPDX-License-Identifier: Apache-2.0
"""RESIZE_BILINEAR of integers, at the places of pixels that TensorFlow Lite finds without a float."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.compat.tflite.build import Builder, UnsupportedError, int8, need_dims
from bittern.compat.tflite.file import Operator
from bittern.compat.tflite.operators.common import need_one_scale
from bittern.deploy.kinds.integer.resize import ONE
from bittern.deploy.kinds.kind import IMAGE_DIMS


def corners_of(operator: Operator) -> str:
    """Where the pixels of a result lie: "aligned", "half" or "first"."""
    given = operator.options
    aligned, half = (given is not None and bool(given.number(field, "?", False)) for field in (2, 3))
    if aligned and half:
        raise UnsupportedError("its corners must not be aligned and its pixels about their middle, both at once")
    return "aligned" if aligned else "half" if half else "first"


def places(size: int, result: int, corners: str) -> Tensor:
    """int32 [result, 2]: the pixel in front of each of the result's, and the share of the next one, of `ONE`.

    Both follow from a step of size / result in whole parts of `ONE` (reference/resize_bilinear.h,
    ResizeBilinearInteger). Raises: UnsupportedError where those steps leave the image, so that LiteRT reads beyond it.
    """
    step = (ONE * size + result // 2) // result
    if corners == "aligned" and result > 1:
        step = (ONE * (size - 1) + (result - 1) // 2) // (result - 1)
    at = torch.arange(result) * step + (step // 2 - ONE // 2 if corners == "half" else 0)
    at = at.clamp(min=0)  # in front of the first pixel both neighbours are that pixel
    if int(at[-1]) // ONE >= size:
        raise UnsupportedError(f"{result} pixels of {size} lie beyond the last one as TensorFlow Lite rounds its steps")
    return torch.stack([at // ONE, at % ONE], 1).to(torch.int32)


def bilinear(builder: Builder, operator: Operator) -> None:
    place = operator.inputs[0]
    x, out = int8(builder.value(place)), int8(builder.value(operator.outputs[0]))
    need_dims(IMAGE_DIMS, x, out)
    need_one_scale(x, out)
    if x.shape[3] != out.shape[3]:
        raise UnsupportedError(f"it must keep {x.shape[3]} channels; it makes {out.shape[3]}")
    corners = corners_of(operator)
    tensors: dict[str, Tensor | None] = {
        role: places(x.shape[dim], out.shape[dim], corners) for dim, role in ((1, "rows"), (2, "columns"))
    }
    value = builder.add("integer_resize", out.name, (builder.image(place),), tensors)
    builder.wrote(operator, value, image=True)
