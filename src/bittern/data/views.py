# SPDX-License-Identifier: Apache-2.0
"""Several views of each example, as several cameras have them: tiles of an image, or what a user gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from bittern.data.augment import normalize
from bittern.data.batches import generator_for
from bittern.data.images import ImageData


class Views(Dataset[tuple[Tensor, ...]]):
    """Examples of several views and a label: item i is (view 0, view 1, ..., label).

    views: one tensor a device, each [count, channels, height, width] of float32; labels: integers [count].

    Raises: TypeError, ValueError for tensors that do not belong together.
    """

    def __init__(self, views: Sequence[Tensor], labels: Tensor) -> None:
        if not views:
            raise ValueError("Views: needs the tensor of at least one device; got none")
        if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise TypeError(f"Views: labels must be integers [count]; got {labels.dtype} {list(labels.shape)}")
        for index, view in enumerate(views):
            if view.dtype != torch.float32 or view.ndim != 4 or view.shape[1:] != views[0].shape[1:]:
                raise TypeError(
                    f"Views: views must be float32 [count, channels, height, width], all of one shape; view {index} is "
                    f"{view.dtype} {list(view.shape)}, the first {list(views[0].shape)}"
                )
            if len(view) != len(labels):
                raise ValueError(
                    f"Views: needs a label per example; view {index} has {len(view)}, labels {len(labels)}"
                )
        self.views = tuple(views)
        self.labels = labels.to(torch.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return *(view[index] for view in self.views), self.labels[index]

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of a view."""
        return tuple(self.views[0].shape[1:])

    def split(self, share: float, seed: int = 0) -> tuple[Views, Views]:
        """(the others, `share` of the examples drawn by `seed`), say to choose a threshold by. Raises: ValueError."""
        held = round(share * len(self)) if 0.0 < share < 1.0 else 0
        if not 0 < held < len(self):
            raise ValueError(f"Views: share must leave examples on both sides of {len(self)}; got {share}")
        order = torch.randperm(len(self), generator=generator_for(seed, "held out", 0))
        return self._of(order[held:].sort().values), self._of(order[:held].sort().values)

    def _of(self, chosen: Tensor) -> Views:
        return Views([view[chosen] for view in self.views], self.labels[chosen])


def tiles(images: Tensor, rows: int, columns: int) -> tuple[Tensor, ...]:
    """Cut images [..., height, width] into rows x columns tiles, row by row, each a tensor of its own.

    Where the sizes do not divide, zeros are added on both sides, one more below and on the right, so that tiles are
    alike and nothing is lost.
    Differences from the authors' PyTorch code: it cuts 3 x 2 with the first number along the width, goes column by
    column, and leaves out what does not divide (32 pixels become three times 10).
    Raises: ValueError for counts below 1 or above the size.
    """
    height, width = images.shape[-2:]
    if not (1 <= rows <= height and 1 <= columns <= width):
        raise ValueError(f"tiles: must cut {height} x {width} pixels into 1 or more tiles; got {rows} x {columns}")
    more_rows, more_columns = -height % rows, -width % columns
    sides = (more_columns // 2, more_columns - more_columns // 2, more_rows // 2, more_rows - more_rows // 2)
    padded = F.pad(images, sides) if more_rows or more_columns else images
    high, wide = padded.shape[-2] // rows, padded.shape[-1] // columns
    return tuple(
        padded[..., row * high : (row + 1) * high, column * wide : (column + 1) * wide].contiguous()
        for row in range(rows)
        for column in range(columns)
    )


def tiled(data: ImageData, rows: int, columns: int) -> tuple[Views, Views]:
    """(train, test) of an image set cut into `tiles`, each a view; normalized by the set's mean and std.

    What is added where sizes do not divide is black.
    """
    parts = (data.train_images, data.train_labels), (data.test_images, data.test_labels)
    train, test = (
        Views([normalize(tile, data.mean, data.std) for tile in tiles(images, rows, columns)], labels)
        for images, labels in parts
    )
    return train, test
