# SPDX-License-Identifier: Apache-2.0
"""Image files as a network's inputs, and what had to be done to make them fit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

COLOURED = ("RGB", "P")
"""Pillow's modes whose pixels are three colours, directly or by a palette."""


class Change(NamedTuple):
    """Something done to an image that may cost accuracy."""

    what: str
    was: str
    """The image as it came."""


class ImageInput(NamedTuple):
    """An image as a network takes it."""

    pixels: Tensor
    """Brightness in [0, 1], float32 [channels, height, width]."""
    changes: tuple[Change, ...]


def image_files(places: Iterable[Path]) -> tuple[list[Path], int]:
    """(files, number of files left out): a folder stands for the images in it and below, in the order of their names.

    Left out are files in folders whose names do not end as those of images do. Raises: ValueError for a folder
    without images.
    """
    from bittern.data.image_file import is_image_name

    found: list[Path] = []
    left_out = 0
    for place in places:
        if not place.is_dir():
            found.append(place)
            continue
        inside = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
        images = [path for path in inside if is_image_name(path)]
        if not images:
            raise ValueError(f"{place} holds no image files ({len(inside)} other files); give images, or their folder")
        found += images
        left_out += len(inside) - len(images)
    return found, left_out


def read_image(path: Path, shape: tuple[int, ...], *, invert: bool = False) -> ImageInput:
    """An image file in a network's input shape [channels, height, width].

    Colours are converted, the camera's rotation is applied, transparency becomes black, and another size is
    resampled (area-weighted when shrinking), without keeping proportions.

    Raises: FileNotFoundError; ValueError for a file that is no readable image or has more than 8 bits per channel.
    """
    import numpy as np
    import torch

    from bittern.data.image_file import GREY, MODES, fitted, opaque, read_frame, shows_through

    channels, height, width = shape
    if channels not in MODES:
        raise ValueError(f"the network takes {channels} channels; images have 1 (grey) or 3 (RGB)")
    if not path.is_file():
        raise FileNotFoundError(f"no image file {path}")
    image, frames = read_frame(path)
    changes = [Change("only the first frame taken", f"{frames} frames")] if frames > 1 else []
    if shows_through(image):
        changes.append(Change("transparent parts made black", image.mode))
    image = opaque(image)
    if image.mode not in (GREY if channels == 1 else COLOURED):
        changes.append(Change("made grey" if channels == 1 else "made RGB", image.mode))
    if image.size != (width, height):
        was = f"{image.width} x {image.height}"
        changes.append(Change(f"resized to {width} x {height}", was))
        if image.width * height != image.height * width:
            changes.append(Change("proportions changed", was))
    image = fitted(image, shape)
    values = torch.from_numpy(np.array(image, dtype=np.float32) / 255.0)
    values = values.unsqueeze(0) if channels == 1 else values.permute(2, 0, 1)
    return ImageInput((1.0 - values if invert else values).contiguous(), tuple(changes))
