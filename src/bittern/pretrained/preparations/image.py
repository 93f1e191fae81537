# SPDX-License-Identifier: Apache-2.0
"""Pictures: the size and the colours of a network, brightness normalized by channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from bittern.data.augment import normalize
from bittern.data.image_file import MODES, fitted, opaque, read_frame
from bittern.pretrained.fields import numbers, only, spreads, whole
from bittern.pretrained.preparations.preparation import Preparation, Prepared


@dataclass(frozen=True)
class ImagePreparation(Preparation):
    """(brightness - mean) / std of each channel, of a picture in this shape: [channels, height, width].

    A file or a picture of Pillow becomes upright, opaque (on black), grey or RGB, and of this size: means of whole
    blocks of pixels where it is a whole number of times larger, else resampled, its proportions given up. A tensor
    [channels, height, width] has the shape already: uint8, or real brightness in [0, 1].

    Raises: ValueError for other channels than 1 (grey) or 3, and other numbers of mean or std.
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    kind: ClassVar[str] = "image"
    takes: ClassVar[str] = "a picture: a file's path, a PIL image, or a tensor [channels, height, width]"

    def __post_init__(self) -> None:
        channels = self.shape[0] if len(self.shape) == 3 else 0
        if channels not in MODES or not len(self.mean) == len(self.std) == channels:
            raise ValueError(
                f"image: needs [1 or 3 channels, height, width] with a mean and a std each; got {list(self.shape)}, "
                f"{len(self.mean)} and {len(self.std)}"
            )

    def __call__(self, raw: Any) -> Prepared:
        if isinstance(raw, Tensor):
            return self._prepared(raw, (self.shape[2], self.shape[1]))
        image = read_frame(Path(raw)).image if isinstance(raw, (str, Path)) else raw
        if not hasattr(image, "convert"):
            raise self.refuse(raw)
        size = image.size
        pixels = torch.from_numpy(np.array(self._fitted(opaque(image))))
        return self._prepared(pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1), size)

    def _fitted(self, image: Any) -> Any:
        """In the network's colours and size."""
        channels, height, width = self.shape
        times = image.width // width
        if times > 1 and image.size == (times * width, times * height):
            return image.convert(MODES[channels]).reduce(times)
        return fitted(image, self.shape)

    def _prepared(self, pixels: Tensor, size: tuple[int, int]) -> Prepared:
        if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
            raise TypeError(f"prepare: pixels must be uint8, or brightness in [0, 1]; got {pixels.dtype}")
        if tuple(pixels.shape) != self.shape:
            raise ValueError(
                f"prepare: a tensor must be [channels, height, width] {list(self.shape)}; got {list(pixels.shape)}; "
                "give a PIL image or a file, which are resampled"
            )
        if pixels.is_floating_point() and not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise ValueError("prepare: brightness must lie in [0, 1]; divide by 255, or give uint8")
        return Prepared(normalize(pixels.unsqueeze(0), self.mean, self.std), size)

    def settings(self) -> Mapping[str, Any]:
        return {"shape": list(self.shape), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        only(settings, ("shape", "mean", "std"), "image")
        shape = settings["shape"]
        if not isinstance(shape, list):
            raise ValueError(f"image: shape must be a list; got {type(shape).__name__}")
        sizes = tuple(whole(size, "image: shape", 1) for size in shape)
        return cls(sizes, numbers(settings["mean"], "image: mean"), spreads(settings["std"], "image: std"))
