"""An image file as a network's input."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MODES = {1: "L", 3: "RGB"}
"""Channels of a network -> Pillow's name for such images."""
DEEP = ("I", "F")
"""First letters of modes with more than 8 bits per pixel, which Pillow would clip."""


def read_image(path: Path, shape: tuple[int, ...], *, invert: bool = False) -> Tensor:
    """Brightness in [0, 1], float32, in a network's input shape [channels, height, width].

    Colours are converted, the camera's rotation is applied, transparency becomes black, and another size is
    resampled (area-weighted when shrinking), without keeping proportions.

    Raises: FileNotFoundError; ValueError for a file that is no readable image or has more than 8 bits per channel.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    channels, height, width = shape
    if channels not in MODES:
        raise ValueError(f"the network takes {channels} channels; images have 1 (grey) or 3 (RGB)")
    if not path.is_file():
        raise FileNotFoundError(f"no image file {path}")
    try:
        with warnings.catch_warnings():
            # a header may claim more pixels than memory holds
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened)
                image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} is not an image that can be read: {error}") from error
    if image.mode.startswith(DEEP):
        raise ValueError(f"{path} has more than 8 bits per channel (mode {image.mode}); convert it to 8 bits")
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    image = image.convert(MODES[channels])
    if image.size != (width, height):
        image = image.resize(
            (width, height), Image.Resampling.BOX if image.width > width else Image.Resampling.BILINEAR
        )
    values = torch.from_numpy(np.array(image, dtype=np.float32) / 255.0)
    values = values.unsqueeze(0) if channels == 1 else values.permute(2, 0, 1)
    return (1.0 - values if invert else values).contiguous()
