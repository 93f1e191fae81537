# SPDX-License-Identifier: Apache-2.0
"""Boxes around things, found by the cells of a grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.train.tasks.average_precision import MOST, Found, average_precision, overlaps
from bittern.train.tasks.task import Batch, Evaluation, Measured, Task, kind_of

BOX = 4
NO_BOX = -1
"""Label of what fills the list of an image that has fewer boxes than others."""
SAME = 0.5
"""Of two detections of a class that overlap more, the less sure one is dropped."""
LEAST_SURE = 0.01
"""Scores below say nothing."""


class _Assigned(NamedTuple):
    """Boxes that a cell answers for: image, cell and place of each in its image's list, int64 [n]."""

    image: Tensor
    cell: Tensor
    place: Tensor


@dataclass(frozen=True)
class Detection(Task):
    """Learn boxes and their classes; the score is AP50, the mean over classes of the average precision at overlap 0.5.

    model: images [batch, channels, height, width] -> z [batch, 1 + 4 + classes, height / stride, width / stride].
    batch: (images, boxes [batch, most, 4] as x0, y0, x1, y1 in pixels, labels int64 [batch, most], -1 for no box).
    The cell (row i, column j) that holds the centre of a box answers for it, of several boxes for the largest:

        sure = sigmoid(z_0)        centre = stride * (j + sigmoid(z_1), i + sigmoid(z_2))
        class = softmax(z_5, ...)  size   = stride * (exp(z_3), exp(z_4))

        loss = 1/n [ sum over all cells of BCE(sure, 1 where the cell has a box)
                   + sum over boxes of |sigmoid(z_1) - x| + |sigmoid(z_2) - y| + |z_3 - log w| + |z_4 - log h|
                   + sum over boxes of -log softmax(class) ],   n = boxes of the batch, 1 where there is none,

    x, y: the centre within its cell; w, h: the size, all in units of stride. A detection's score is sure * class, of
    its likeliest class. Of a training batch it is AP50 within the batch. Different from FastestDet: L1 on the box
    instead of SIoU, one cell a box.

    Raises: TypeError, ValueError for batches and outputs of other shapes.
    """

    classes: int
    stride: int
    metric = "ap50"
    items = "(image, boxes [most, 4], labels [most]), all tensors"

    def measure(self, model: Callable[..., Any], batch: Batch) -> Measured:
        images, boxes, labels = batch
        z = self._outputs(model, images)
        loss = self._loss(z, boxes, labels)
        with torch.no_grad():
            score = self._score(self.detections(z.detach()), *_listed(boxes, labels))
        return Measured(loss, torch.tensor(score * len(images)))

    def evaluate(self, model: Callable[..., Any], batches: Iterable[Batch]) -> Evaluation:
        """AP50 over all images at once."""
        loss, count = 0.0, 0
        found: list[Found] = []
        there: tuple[list[Tensor], list[Tensor]] = ([], [])
        for images, boxes, labels in batches:
            z = self._outputs(model, images)
            loss, count = loss + float(self._loss(z, boxes, labels)) * len(images), count + len(images)
            found += self.detections(z)
            for part, more in zip(there, _listed(boxes, labels), strict=True):
                part += more
        return Evaluation(loss / count, self._score(found, *there))

    def check(self, batch: Batch, subject: str) -> Batch:
        if len(batch) != 3:
            raise TypeError(f"train: {subject} must give {self.items}; got {kind_of(batch)}")
        _, boxes, labels = batch
        if boxes.ndim != 3 or boxes.shape[2] != BOX or labels.shape != boxes.shape[:2] or labels.is_floating_point():
            raise TypeError(
                f"train: {subject} must give {self.items}; got boxes {list(boxes.shape)} and labels {labels.dtype} "
                f"{list(labels.shape)}"
            )
        if labels.numel() and not NO_BOX <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise ValueError(
                f"train: {subject} must give labels of 0 ... {self.classes - 1}, or {NO_BOX} for no box; got "
                f"{int(labels.min())} ... {int(labels.max())}"
            )
        return batch[0], boxes.float(), labels.long()

    def detections(self, z: Tensor) -> list[Found]:
        """What each image of a model's output holds: at most `MOST` boxes, none twice."""
        rows, columns = z.shape[2:]
        flat = z.flatten(2)
        across = torch.arange(columns, device=z.device).repeat(rows)
        down = torch.arange(rows, device=z.device).repeat_interleave(columns)
        centre = torch.stack((across + flat[:, 1].sigmoid(), down + flat[:, 2].sigmoid()), 2)
        half = flat[:, 3:5].clamp(max=10.0).exp().transpose(1, 2) / 2
        boxes = torch.cat((centre - half, centre + half), 2) * self.stride
        likely, kind = flat[:, 1 + BOX :].softmax(1).max(1)
        scores = flat[:, 0].sigmoid() * likely
        return [_without_doubles(*parts) for parts in zip(boxes.cpu(), scores.cpu(), kind.cpu(), strict=True)]

    def _score(self, found: list[Found], boxes: list[Tensor], labels: list[Tensor]) -> float:
        """Mean over the classes that are there; 0 where none is."""
        return float(average_precision(found, boxes, labels, self.classes).nanmean().nan_to_num(0.0))

    def _outputs(self, model: Callable[..., Any], images: Tensor) -> Tensor:
        z: Tensor = model(images).float()
        grid = [size // self.stride for size in images.shape[2:]]
        wanted = [len(images), 1 + BOX + self.classes, *grid]
        if list(z.shape) != wanted:
            raise ValueError(f"Detection: the model must return {wanted} for images {list(images.shape)}; got "
                             f"{list(z.shape)}")  # fmt: skip
        return z

    def _loss(self, z: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        grid = (z.shape[2], z.shape[3])
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2 / self.stride
        size = ((boxes[..., 2:] - boxes[..., :2]) / self.stride).clamp(min=1e-3)
        image, cell, index = _assigned(centre, size, labels, grid)
        flat = z.flatten(2)
        has_box = torch.zeros_like(flat[:, 0])
        has_box[image, cell] = 1.0
        mine = flat[image, :, cell]
        within = centre[image, index] - centre[image, index].floor()
        wrong = (mine[:, 1:3].sigmoid() - within).abs() + (mine[:, 3:5] - size[image, index].log()).abs()
        sure = F.binary_cross_entropy_with_logits(flat[:, 0], has_box, reduction="sum")
        named = F.cross_entropy(mine[:, 1 + BOX :], labels[image, index], reduction="sum")
        return (sure + wrong.sum() + named) / max(1, len(image))


def _assigned(centre: Tensor, size: Tensor, labels: Tensor, grid: tuple[int, int]) -> _Assigned:
    """Which cells answer for which boxes; boxes outside of the grid have none."""
    columns, rows = centre.floor().long().unbind(2)
    inside = (labels != NO_BOX) & (columns >= 0) & (columns < grid[1]) & (rows >= 0) & (rows < grid[0])
    cell = torch.where(inside, rows * grid[1] + columns, 0)
    # ranks differ within an image, so that exactly one box wins a cell
    rank = torch.where(inside, size.prod(2).argsort(dim=1, stable=True).argsort(dim=1) + 1, 0)
    best = torch.zeros(len(labels), grid[0] * grid[1], dtype=torch.int64, device=rank.device)
    best = best.scatter_reduce(1, cell, rank, "amax")
    image, index = (inside & (best.gather(1, cell) == rank)).nonzero().unbind(1)
    return _Assigned(image, cell[image, index], index)


def _without_doubles(boxes: Tensor, scores: Tensor, classes: Tensor) -> Found:
    """The surest detection, and so on, each time without those of its class that overlap it by more than `SAME`."""
    order = scores.argsort(descending=True, stable=True)[:MOST]
    order = order[scores[order] >= LEAST_SURE]
    boxes, scores, classes = boxes[order], scores[order], classes[order]
    same = (overlaps(boxes, boxes) > SAME) & (classes[:, None] == classes[None, :])
    kept = torch.ones(len(boxes), dtype=torch.bool)
    for i in range(len(boxes)):
        if kept[i]:
            kept[i + 1 :] &= ~same[i, i + 1 :]
    return Found(boxes[kept], scores[kept], classes[kept])


def _listed(boxes: Tensor, labels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Boxes and labels of each image, without what fills its list."""
    there = [row != NO_BOX for row in labels]
    return (
        [part[mask].cpu() for part, mask in zip(boxes, there, strict=True)],
        [part[mask].cpu() for part, mask in zip(labels, there, strict=True)],
    )
