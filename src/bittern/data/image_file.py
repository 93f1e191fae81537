# SPDX-License-Identifier: Apache-2.0
"""Image files, read by Pillow: the first frame, upright, with 8 bits per channel and nothing transparent."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

MODES = {1: "L", 3: "RGB"}
"""Channels -> Pillow's name for such images."""
GREY = ("1", "L", "LA", "La")
"""Pillow's modes without colours."""
DEEP = ("I", "F")
"""First letters of modes with more than 8 bits per pixel, which Pillow would clip."""


class Frame(NamedTuple):
    """The first image of a file."""

    image: Any
    """A `PIL.Image.Image`."""
    frames: int
    """Images that the file has."""


def is_image_name(path: Path) -> bool:
    """Whether the name ends as those of images do that Pillow reads."""
    from PIL import Image

    Image.init()
    return Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN


def read_frame(path: Path) -> Frame:
    """The first image of a file, upright. Raises: FileNotFoundError; ValueError for what is no image of 8 bits."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            # a header may claim more pixels than memory holds
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                frames = getattr(opened, "n_frames", 1)
                image = ImageOps.exif_transpose(opened)
                image.load()
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} is not an image that can be read: {error}; mend it or take it away") from error
    if image.mode.startswith(DEEP):
        raise ValueError(f"{path} has more than 8 bits per channel (mode {image.mode}); convert it to 8 bits")
    return Frame(image, frames)


def shows_through(image: Any) -> bool:
    """Whether a pixel is not wholly opaque."""
    return _has_opacity(image) and bool(image.convert("RGBA").getextrema()[3][0] < 255)


def opaque(image: Any) -> Any:
    """The image on black; one that cannot be transparent as it is."""
    from PIL import Image

    if not _has_opacity(image):
        return image
    mode = "L" if image.mode in GREY else "RGB"
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert(mode)


def fitted(image: Any, shape: tuple[int, ...]) -> Any:
    """The image in the colours and the size of [channels, height, width], its proportions given up.

    Another size is resampled, area-weighted when shrinking, after the colours, so that a palette's indices do not mix.
    """
    from PIL import Image

    channels, height, width = shape
    shrinks = image.width > width
    image = image.convert(MODES[channels])
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)


def _has_opacity(image: Any) -> bool:
    return "A" in image.mode or "transparency" in image.info
