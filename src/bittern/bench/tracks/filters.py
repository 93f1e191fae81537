# SPDX-License-Identifier: Apache-2.0
"""What the corruptions are made of: blurs, zooms, fractal maps and Pillow, on batches of images."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from bittern.data.images import UINT8_MAX

Images = npt.NDArray[np.float64]
"""[count, channels, height, width], brightness in [0, 1]."""
AUTHORS_SIZE = 32
"""Of the images whose pixels the lengths of the authors count."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""
ROUNDING = 1e-9
"""So that k / 255 * 255, which may come out below k, stays k."""


def scale(x: Images) -> float:
    return float(x.shape[2] / AUTHORS_SIZE)


def grey(x: Images) -> Images:
    if x.shape[1] == 1:
        return x
    mixed: Images = np.einsum("nchw,c->nhw", x, np.array(LUMA))[:, None]
    return mixed


def filtered(x: Images, kernel: npt.NDArray[np.float64], border: str = "replicate") -> Images:
    """Each channel with a kernel [odd, odd]."""
    down, right = kernel.shape[0] // 2, kernel.shape[1] // 2
    flat = torch.from_numpy(np.ascontiguousarray(x)).flatten(0, 1).unsqueeze(1)
    padded = F.pad(flat, (right, right, down, down), mode=border)
    weight = torch.from_numpy(np.ascontiguousarray(kernel))[None, None]
    return F.conv2d(padded, weight).view(x.shape).numpy()


def gaussian(x: Images, sigma: float) -> Images:
    """Up to 4 sigma; sigma 0 changes nothing."""
    reach = math.ceil(4.0 * sigma)
    if reach == 0:
        return x.copy()
    line = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2.0 * sigma**2))
    line /= line.sum()
    return filtered(filtered(x, line[:, None]), line[None, :])


def moved(x: Images, radius: int, sigma: float, degrees: npt.NDArray[np.float64]) -> Images:
    """sum_i k_i x[pixel + i (cos, sin)], k_i proportional to exp(-i^2 / 2 sigma^2), i = 0 ... 2 radius."""
    factor = scale(x)
    sigma = max(sigma * factor, 1e-3)
    steps = np.arange(2 * math.ceil(radius * factor) + 1)
    weights = np.exp(-(steps**2) / (2.0 * sigma**2))
    weights /= weights.sum()
    size, angle = x.shape[2], np.deg2rad(degrees)
    place, found = np.arange(size), np.zeros_like(x)
    each = np.arange(len(x))[:, None, None]
    for step, weight in zip(steps, weights, strict=True):
        down, right = (np.ceil(step * part - 0.5).astype(int)[:, None] for part in (np.sin(angle), np.cos(angle)))
        rows, columns = np.clip(place + down, 0, size - 1), np.clip(place + right, 0, size - 1)
        found += weight * x.transpose(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2)
    return found


def zoomed(x: Images, factor: float) -> Images:
    """The middle of ceil(size / factor) pixels, enlarged to at least the size, and cut to it."""
    size = x.shape[2]
    inner = math.ceil(size / factor)
    first = (size - inner) // 2
    outer = max(size, round(inner * factor))
    middle = torch.from_numpy(np.ascontiguousarray(x[:, :, first : first + inner, first : first + inner]))
    large = F.interpolate(middle, size=(outer, outer), mode="bilinear", align_corners=True).numpy()
    cut = (outer - size) // 2
    return large[:, :, cut : cut + size, cut : cut + size]


def sampled(x: Images, places: npt.NDArray[np.float64]) -> Images:
    """x at places [count, height, width, (x, y)] in pixels, between four pixels, mirrored at the border."""
    last = x.shape[2] - 1
    grid = torch.from_numpy(np.ascontiguousarray(places / last * 2.0 - 1.0)).expand(len(x), -1, -1, -1)
    found = F.grid_sample(
        torch.from_numpy(np.ascontiguousarray(x)), grid, mode="bilinear", padding_mode="reflection", align_corners=True
    )
    return found.numpy()


def plasma(count: int, size: int, decay: float, draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """Maps [count, size, size] from 0 to 1 by diamonds and squares on a torus of 2^k >= size.

    A new point is the mean of its four neighbours plus U(-w^2, w^2); w starts at 100 and is divided by `decay` each
    time the distance of the points is halved.
    """
    side = 1 << max(1, math.ceil(math.log2(size)))
    heights = np.zeros((count, side, side))
    step, w = side, 100.0
    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        below, right = np.roll(corners, -1, 1), np.roll(corners, -1, 2)
        noise = draw.uniform(-w * w, w * w, (3, *corners.shape))
        centres = (corners + below + right + np.roll(below, -1, 2)) / 4.0 + noise[0]
        heights[:, half::step, half::step] = centres
        heights[:, ::step, half::step] = (centres + np.roll(centres, 1, 1) + corners + right) / 4.0 + noise[1]
        heights[:, half::step, ::step] = (centres + np.roll(centres, 1, 2) + corners + below) / 4.0 + noise[2]
        step, w = half, w / decay
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights[:, :size, :size]


def by_pillow(x: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    """Each image through Pillow, with 256 levels."""
    pixels = np.floor(x * UINT8_MAX + ROUNDING).astype(np.uint8)
    found = np.empty_like(x)
    for i, image in enumerate(pixels):
        rows = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        changed = np.asarray(change(Image.fromarray(np.ascontiguousarray(rows))))
        found[i] = (changed[None] if changed.ndim == 2 else changed.transpose(2, 0, 1)) / UINT8_MAX
    return found
