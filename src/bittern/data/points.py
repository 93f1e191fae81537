# SPDX-License-Identifier: Apache-2.0
"""Images as sets of points: where they are bright."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.data.images import UINT8_MAX

AT_ONCE = 4096
"""Images whose points are drawn together."""


def points_of(images: Tensor, count: int, *, seed: int) -> Tensor:
    """Images uint8 or float [n, 1, height, width] -> points float32 [n, 2, count], (x, y) in [-1, 1].

    Pixels are drawn, again and again the same one too, with a chance proportional to their brightness, and a point
    lies anywhere in its pixel: p = 2 (place + u) / size - 1, u uniform in [0, 1). x runs to the right, y downward. The
    same images, count and seed give the same points. An image that is black has its points anywhere.

    Raises: ValueError for images of several channels, or without pixels, or negative, and for a count below 1.
    """
    if images.ndim != 4 or images.shape[1] != 1 or images[0:1].numel() == 0:
        raise ValueError(f"points_of: needs images [n, 1, height, width]; got {list(images.shape)}")
    if count < 1:
        raise ValueError(f"points_of: count must be at least 1 point; got {count}")
    height, width = images.shape[2:]
    draw = torch.Generator().manual_seed(seed)
    parts = []
    for some in torch.split(images, AT_ONCE):
        chances = some.flatten(1).float() / (UINT8_MAX if some.dtype == torch.uint8 else 1)
        if not bool(((chances >= 0) & chances.isfinite()).all()):
            raise ValueError("points_of: brightness must be finite and at least 0")
        chances = torch.where(chances.sum(1, keepdim=True) > 0, chances, 1.0)
        pixels = torch.multinomial(chances, count, replacement=True, generator=draw)
        places = torch.stack((pixels % width, pixels // width), 1)
        inside = torch.rand(places.shape, generator=draw)
        parts.append(2 * (places + inside) / torch.tensor([width, height]).view(1, 2, 1) - 1)
    return torch.cat(parts)
