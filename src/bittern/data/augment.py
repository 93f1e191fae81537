# SPDX-License-Identifier: Apache-2.0
"""Augmentation of whole batches in memory, and normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.data.images import UINT8_MAX

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Images [batch, channels, h, w] and a source of randomness -> images of the same shape and dtype."""


@dataclass(frozen=True, slots=True)
class RandomCropFlip:
    """Shift each image by up to `padding` pixels (what moves in is 0: black) and mirror half of them.

    Takes images [batch, channels, height, width] of any dtype, before normalization, and returns the same shape.
    Shifts are uniform over (2 padding + 1)^2 places. All choices come from the generator (a CPU one), so they are
    the same on every device.

    Raises: ValueError for a negative padding, or when nothing would be changed at all.
    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"RandomCropFlip: padding must be at least 0 pixels; got {self.padding}")
        if self.padding == 0 and not self.flip:
            raise ValueError("RandomCropFlip: padding=0 and flip=False change nothing; leave the augmentation out")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        places = 2 * self.padding + 1
        top, left = torch.randint(places, (2, count), generator=generator)
        rows = top[:, None] + torch.arange(height)
        columns = left[:, None] + torch.arange(width)
        if self.flip:
            mirrored = torch.rand(count, generator=generator) < 0.5
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        padded = F.pad(images, (self.padding,) * 4)
        index = torch.arange(count)[:, None, None]
        where = [i.to(images.device) for i in (index, rows[:, :, None], columns[:, None, :])]
        return padded.permute(0, 2, 3, 1)[where[0], where[1], where[2]].permute(0, 3, 1, 2).contiguous()


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(brightness - mean) / std per channel, float32; images are uint8 (brightness * 255) or float (brightness).

    Raises: ValueError when mean and std do not have one entry per channel.
    """
    if images.ndim != 4 or not len(mean) == len(std) == images.shape[1]:
        raise ValueError(
            f"normalize: needs images [batch, channels, h, w] with one mean and std per channel; "
            f"got {list(images.shape)}, {len(mean)} means, {len(std)} stds"
        )
    brightness = images.float() / UINT8_MAX if images.dtype == torch.uint8 else images.float()
    shape = (1, -1, 1, 1)
    center = torch.tensor(mean, dtype=torch.float32, device=images.device).view(shape)
    spread = torch.tensor(std, dtype=torch.float32, device=images.device).view(shape)
    return (brightness - center) / spread
