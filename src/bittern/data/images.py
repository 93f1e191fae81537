# SPDX-License-Identifier: Apache-2.0
"""The one shape in which every reader hands over its images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

UINT8_MAX = 255
"""A uint8 pixel p stands for the brightness p / 255."""


@dataclass(frozen=True, eq=False, slots=True)
class ImageData:
    """A labelled image set, wholly in memory, split into a training and a test part.

    Images are [count, channels, height, width]: uint8 (brightness * 255) or float32 (brightness, finite).
    Labels are int64 [count], each an index into `classes`. `mean` and `std` are per channel, in units of
    brightness, over the training images.

    Raises: TypeError, ValueError for parts that do not fit together.
    """

    name: str
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError(f"{self.name}: needs at least one class name; got none")
        self._check_part("train", self.train_images, self.train_labels)
        self._check_part("test", self.test_images, self.test_labels)
        train, test = self.train_images, self.test_images
        if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
            raise ValueError(
                f"{self.name}: train and test images must be alike; got {list(train.shape[1:])} {train.dtype} "
                f"and {list(test.shape[1:])} {test.dtype}"
            )
        channels = train.shape[1]
        fits = len(self.mean) == len(self.std) == channels
        if not fits or not all(0.0 < s < float("inf") for s in self.std):
            raise ValueError(
                f"{self.name}: needs one mean and one positive std for each of {channels} channels; "
                f"got mean={self.mean}, std={self.std}"
            )

    def _check_part(self, part: str, images: Tensor, labels: Tensor) -> None:
        subject = f"{self.name}: {part}"
        if images.dtype not in (torch.uint8, torch.float32):
            raise TypeError(f"{subject} images must be uint8 or float32; got {images.dtype}")
        if labels.dtype != torch.int64:
            raise TypeError(f"{subject} labels must be int64; got {labels.dtype}")
        if images.ndim != 4 or images.numel() == 0:
            raise ValueError(f"{subject} images must be [count, channels, height, width], not empty; got "
                             f"{list(images.shape)}")  # fmt: skip
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{subject} needs one label per image; got {len(images)} images, {list(labels.shape)}")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.classes):
            raise ValueError(f"{subject} labels must lie in 0 ... {len(self.classes) - 1}; got {low} ... {high}")
        if images.is_floating_point() and not bool(images.isfinite().all()):
            raise ValueError(f"{subject} images must be finite; got NaN or infinity")

    @property
    def counts(self) -> tuple[int, int]:
        """Training and test images."""
        return len(self.train_labels), len(self.test_labels)

    def first_test_images(self, count: int) -> Tensor:
        """At most `count` of them."""
        return self.test_images[:count]

    def in_memory(self) -> ImageData:
        """Itself; see `FolderData.in_memory`."""
        return self

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (of the population) of each channel of images [count, channels, h, w].

    In units of brightness. Exact up to float64 rounding: uint8 images are counted in a histogram.

    Raises: ValueError for images without pixels.
    """
    if images.ndim != 4 or images.numel() == 0:
        raise ValueError(f"channel_statistics: needs images [count, channels, h, w]; got {list(images.shape)}")
    means, stds = [], []
    for channel in images.unbind(1):
        if images.dtype == torch.uint8:
            counts = torch.bincount(channel.reshape(-1), minlength=UINT8_MAX + 1).double()
            levels = torch.arange(UINT8_MAX + 1, dtype=torch.float64) / UINT8_MAX
            mean = (counts * levels).sum() / counts.sum()
            variance = (counts * (levels - mean) ** 2).sum() / counts.sum()
        else:
            variance, mean = torch.var_mean(channel.double(), correction=0)
        means.append(float(mean))
        stds.append(float(variance.sqrt()))
    return tuple(means), tuple(stds)
