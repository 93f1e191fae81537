# SPDX-License-Identifier: Apache-2.0
"""Image files as a network's inputs, and what had to be done to make them fit."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

MODES = {1: "L", 3: "RGB"}
"""Channels of a network -> Pillow's name for such images."""
GREY = ("L", "LA", "La", "1")
"""Pillow's modes without colours."""
COLOURED = ("RGB", "P")
"""Pillow's modes whose pixels are three colours, directly or by a palette."""
DEEP = ("I", "F")
"""First letters of modes with more than 8 bits per pixel, which Pillow would clip."""


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
    from PIL import Image

    Image.init()
    ends = {end for end, name in Image.registered_extensions().items() if name in Image.OPEN}
    found: list[Path] = []
    left_out = 0
    for place in places:
        if not place.is_dir():
            found.append(place)
            continue
        inside = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
        images = [path for path in inside if path.suffix.lower() in ends]
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
    from PIL import Image

    channels, height, width = shape
    if channels not in MODES:
        raise ValueError(f"the network takes {channels} channels; images have 1 (grey) or 3 (RGB)")
    image, changes = _open(path)
    if image.mode.startswith(DEEP):
        raise ValueError(f"{path} has more than 8 bits per channel (mode {image.mode}); convert it to 8 bits")
    if "A" in image.mode or "transparency" in image.info:
        was, image = image.mode, image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            changes.append(Change("transparent parts made black", was))
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        image = image.convert("L" if was in GREY else "RGB")
    if image.mode not in (GREY if channels == 1 else COLOURED):
        changes.append(Change("made grey" if channels == 1 else "made RGB", image.mode))
    image = image.convert(MODES[channels])
    if image.size != (width, height):
        was = f"{image.width} x {image.height}"
        changes.append(Change(f"resized to {width} x {height}", was))
        if image.width * height != image.height * width:
            changes.append(Change("proportions changed", was))
        image = image.resize(
            (width, height), Image.Resampling.BOX if image.width > width else Image.Resampling.BILINEAR
        )
    values = torch.from_numpy(np.array(image, dtype=np.float32) / 255.0)
    values = values.unsqueeze(0) if channels == 1 else values.permute(2, 0, 1)
    return ImageInput((1.0 - values if invert else values).contiguous(), tuple(changes))


def _open(path: Path) -> tuple[Any, list[Change]]:
    """The first frame of a file, upright."""
    from PIL import Image, ImageOps

    if not path.is_file():
        raise FileNotFoundError(f"no image file {path}")
    changes = []
    try:
        with warnings.catch_warnings():
            # a header may claim more pixels than memory holds
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                frames = getattr(opened, "n_frames", 1)
                if frames > 1:
                    changes.append(Change("only the first frame taken", f"{frames} frames"))
                image = ImageOps.exif_transpose(opened)
                image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} is not an image that can be read: {error}") from error
    return image, changes
