# SPDX-License-Identifier: Apache-2.0
"""Boxes of detectors' answers, [count, 6]: left, top, right, bottom of 0 ... 1, score, class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

OVERLAP = 0.5
"""Of two boxes that are one, as intersection over union."""


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union, [len(a), len(b)]."""
    low, high = torch.maximum(a[:, None, :2], b[:, :2]), torch.minimum(a[:, None, 2:4], b[:, 2:4])
    common = (high - low).clamp(min=0).prod(2)
    areas = [(x[:, 2:4] - x[:, :2]).clamp(min=0).prod(1) for x in (a, b)]
    return common / (areas[0][:, None] + areas[1] - common).clamp(min=1e-12)


def best(boxes: Tensor) -> Tensor:
    """Of boxes of one class that overlap, the one with the highest score."""
    left, found = boxes[boxes[:, 4].argsort(descending=True)], []
    while len(left):
        found.append(left[0])
        left = left[(overlaps(left[:1], left)[0] < OVERLAP) | (left[:, 5] != left[0, 5])]
    return torch.stack(found) if found else boxes[:0]


def _corners(middle: Tensor, size: Tensor, score: Tensor, kind: Tensor) -> Tensor:
    rows = [middle - size / 2, middle + size / 2, score[:, None], kind[:, None].float()]
    return torch.cat(rows, 1)


FASTEST_LEAST = 0.3


def fastest_det(answer: Sequence[Tensor]) -> list[Tensor]:
    """FastestDet: objectness, four numbers of a box and 80 classes of each cell, as its handle_preds reads them."""
    (planes,) = answer
    height, width = planes.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    found = []
    for one in planes:
        most, kind = one[5:].max(0)
        score = one[0].clamp(min=0) ** 0.6 * most.clamp(min=0) ** 0.4
        middle = torch.stack([(one[1].tanh() + columns) / width, (one[2].tanh() + rows) / height], 2)
        boxes = _corners(
            middle.flatten(0, 1), one[3:5].sigmoid().flatten(1).T, score.flatten(), kind.flatten().to(one.dtype)
        )
        found.append(best(boxes[boxes[:, 4] > FASTEST_LEAST]))
    return found


FACE_LEAST = 0.7
FACE_STEPS, FACE_SIDES = (8, 16, 32, 64), ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
"""Pixels between boxes, and sides of boxes in pixels, of an image of 320 x 240."""
FACE_WIDTH, FACE_HEIGHT = 320, 240


def face_boxes() -> Tensor:
    """[4420, 4]: the boxes that the face detector changes, middle and size of 0 ... 1."""
    found = []
    for step, sides in zip(FACE_STEPS, FACE_SIDES, strict=True):
        for row in range(-(-FACE_HEIGHT // step)):
            for column in range(-(-FACE_WIDTH // step)):
                middle = (column + 0.5) * step / FACE_WIDTH, (row + 0.5) * step / FACE_HEIGHT
                found += [(*middle, side / FACE_WIDTH, side / FACE_HEIGHT) for side in sides]
    return torch.tensor(found).clamp(0, 1)


def faces(answer: Sequence[Tensor]) -> list[Tensor]:
    """Ultra-light face detector: scores [batch, 4420, 2], boxes [batch, 4420, 4] with the variances 0.1 and 0.2."""
    scores, changes = answer
    given = face_boxes()
    found = []
    for score, change in zip(scores[:, :, 1], changes, strict=True):
        middle = given[:, :2] + 0.1 * change[:, :2] * given[:, 2:]
        boxes = _corners(middle, given[:, 2:] * (0.2 * change[:, 2:]).exp(), score, torch.zeros_like(score))
        found.append(best(boxes[score > FACE_LEAST]))
    return found
