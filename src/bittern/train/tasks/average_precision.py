# SPDX-License-Identifier: Apache-2.0
"""Average precision of detections, as COCO has it at one overlap (Lin et al. 2014, arXiv 1405.0312)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

RECALLS = 101
"""Places at which precision is read: recall 0, 0.01, ... 1."""
MOST = 100
"""Detections of a class in one image that count: the surest."""


class Found(NamedTuple):
    """Detections in one image: boxes [n, 4] (x0, y0, x1, y1), scores [n], classes int64 [n]."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes [n, 4] and [m, 4] (x0, y0, x1, y1): [n, m]; 0 where both are empty."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clamp(min=0).prod(2)
    union = _areas(a)[:, None] + _areas(b)[None, :] - both
    return torch.where(union > 0, both / union, 0.0)


def average_precision(
    found: Sequence[Found], boxes: Sequence[Tensor], labels: Sequence[Tensor], classes: int, overlap: float = 0.5
) -> Tensor:
    """Of each class, float64 [classes]; NaN for a class that no image has.

    boxes [n, 4], labels int64 [n]: what is in each image. All detections of a class, the surest first (ties in the
    order of images), are right if they take a box: that of their image and class, not yet taken, which they overlap
    most, by `overlap` at least. With p_k and r_k the share of right ones among the first k, and of boxes taken by them,

        AP = mean over r = 0, 0.01, ... 1 of max{p_k : r_k >= r}, 0 where there is none.

    Raises: ValueError for lists of different lengths.
    """
    if not len(found) == len(boxes) == len(labels):
        raise ValueError(
            f"average_precision: needs detections, boxes and labels of each image; got {len(found)}, {len(boxes)}, "
            f"{len(labels)} images"
        )
    return torch.stack([_of_class(found, boxes, labels, number, overlap) for number in range(classes)])


def _of_class(
    found: Sequence[Found], boxes: Sequence[Tensor], labels: Sequence[Tensor], number: int, overlap: float
) -> Tensor:
    scores, right, count = [], [], 0
    for image, there, named in zip(found, boxes, labels, strict=True):
        truth = there[named == number]
        mine = image.classes == number
        order = image.scores[mine].argsort(descending=True, stable=True)[:MOST]
        scores.append(image.scores[mine][order])
        right.append(_taken(overlaps(image.boxes[mine][order], truth), overlap))
        count += len(truth)
    if count == 0:
        return torch.tensor(float("nan"), dtype=torch.float64)
    order = torch.cat(scores).argsort(descending=True, stable=True)
    hits = torch.cat(right)[order].double().cumsum(0)
    precision = hits / torch.arange(1, len(hits) + 1)
    best = precision.flip(0).cummax(0).values.flip(0) if len(hits) else precision
    wanted = torch.linspace(0, 1, RECALLS, dtype=torch.float64)
    place = torch.searchsorted(hits / count, wanted)
    return torch.cat((best, best.new_zeros(1)))[place].mean()


def _taken(found: Tensor, overlap: float) -> Tensor:
    """Which detections, the surest first, take a box: bool [n], of their overlaps [n, m]."""
    right = torch.zeros(len(found), dtype=torch.bool)
    if not found.shape[1]:
        return right
    free = found.clone()
    for i, row in enumerate(free):
        best, place = row.max(0)
        if float(best) >= overlap:
            right[i] = True
            free[:, place] = -1.0
    return right


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
