# SPDX-License-Identifier: Apache-2.0
"""BCCD from an archive: photographs of blood under a microscope, with a box around each cell.

bccd.npz: jpeg, uint8, the files back to back; offsets, int64, image i is jpeg[offsets[i]:offsets[i + 1]]; boxes, int16
[boxes, 4]: x0, y0, x1, y1 in pixels, right and bottom exclusive; labels, uint8; box_offsets, int32, those of image i
are boxes[box_offsets[i]:box_offsets[i + 1]]; split, int8: 0 train, 1 validation, 2 test; size, int16 [count, 2]: width
and height; class_names, text.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bittern.data.labelled_texts import file_in
from bittern.data.npz import TEXT, read_npz

FILE = "bccd.npz"
WIDTH, HEIGHT = 640, 480
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False, slots=True)
class BoxedImages:
    """Images uint8 [count, 3, height, width]; of each, boxes float32 [n, 4] (x0, y0, x1, y1, pixels of these images)
    and their classes int64 [n]; part: int64 [count], 0 train, 1 validation, 2 test."""

    name: str
    classes: tuple[str, ...]
    images: Tensor
    boxes: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    part: Tensor


def blood_cells(folder: str | Path, shrink: int = 4) -> BoxedImages:
    """Read and decode all photographs, 640 x 480, `shrink` times smaller in both directions (means of pixels).

    Some cells have no box, which bounds every score.

    Raises: FileNotFoundError; ValueError for a damaged file, or a `shrink` that does not divide 160.
    Source: github.com/Shenggan/BCCD_Dataset; MIT.
    """
    if shrink < 1 or WIDTH % shrink or HEIGHT % shrink:
        raise ValueError(f"blood_cells: shrink must divide {WIDTH} and {HEIGHT}; got {shrink}")
    path = file_in("blood_cells", folder, FILE)
    i16 = np.dtype(np.int16)
    arrays = read_npz(
        path,
        {
            "jpeg": np.dtype(np.uint8),
            "offsets": np.dtype(np.int64),
            "boxes": i16,
            "labels": np.dtype(np.uint8),
            "box_offsets": np.dtype(np.int32),
            "split": np.dtype(np.int8),
            "class_names": TEXT,
        },
        {"boxes": 2},
    )
    classes = tuple(arrays["class_names"].tolist())
    _check(path, arrays, len(classes))
    ends = arrays["box_offsets"].tolist()
    boxes = torch.from_numpy(arrays["boxes"]).float() / shrink
    labels = torch.from_numpy(arrays["labels"]).long()
    spans = [slice(start, end) for start, end in pairwise(ends)]
    return BoxedImages(
        "blood_cells",
        classes,
        _decode(path, arrays["jpeg"], arrays["offsets"], shrink),
        tuple(boxes[span] for span in spans),
        tuple(labels[span] for span in spans),
        torch.from_numpy(arrays["split"]).long(),
    )


def _check(path: Path, arrays: Arrays, classes: int) -> None:
    """Raises: ValueError."""

    def rises(name: str, end: int, least: int) -> bool:
        offsets = arrays[name]
        first_and_last = len(offsets) > 1 and offsets[0] == 0 and offsets[-1] == end
        return first_and_last and bool((np.diff(offsets) >= least).all())

    boxes, labels, split = arrays["boxes"], arrays["labels"], arrays["split"]
    count = len(split)
    wrong = {
        "offsets rise from 0 to the end of jpeg": rises("offsets", len(arrays["jpeg"]), 1),
        "box_offsets rise from 0 to the number of boxes": rises("box_offsets", len(boxes), 0),
        "there are as many offsets as images": len(arrays["offsets"]) == len(arrays["box_offsets"]) == count + 1,
        "boxes have four numbers and a label": boxes.shape[1:] == (4,) and len(boxes) == len(labels),
        "labels name a class": not len(labels) or int(labels.max()) < classes,
        "split is 0, 1 or 2": bool(np.isin(split, (0, 1, 2)).all()),
    }
    for what, holds in wrong.items():
        if not holds:
            raise ValueError(f"blood_cells: in {path} it must hold that {what}; the archive is damaged: fetch it again")
    x0, y0, x1, y1 = boxes.astype(np.int32).T
    inside = (x0 >= 0) & (y0 >= 0) & (x0 < x1) & (y0 < y1) & (x1 <= WIDTH) & (y1 <= HEIGHT)
    if not inside.all():
        raise ValueError(
            f"blood_cells: box {int((~inside).argmax())} of {path} must lie in an image of {WIDTH} x {HEIGHT} and hold "
            f"a pixel; got {boxes[(~inside).argmax()].tolist()}; the archive is damaged: fetch it again"
        )


def _decode(path: Path, jpeg: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], shrink: int) -> Tensor:
    """uint8 [count, 3, HEIGHT / shrink, WIDTH / shrink]."""
    from PIL import Image

    pixels = []
    for index in range(len(offsets) - 1):
        data = jpeg[offsets[index] : offsets[index + 1]].tobytes()
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                # checked before decoding: a header may claim gigapixels
                if image.size != (WIDTH, HEIGHT) or image.mode != "RGB":
                    raise ValueError(f"must be RGB of {WIDTH} x {HEIGHT}; got {image.mode} of {image.size}")
                pixels.append(torch.from_numpy(np.array(image.reduce(shrink))))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"blood_cells: image {index} of {path} is damaged: {error}") from error
    return torch.stack(pixels).permute(0, 3, 1, 2).contiguous()
