# SPDX-License-Identifier: Apache-2.0
"""The fifteen corruptions of CIFAR-10-C, in five severities (Hendrycks and Dietterich 2019, arXiv 1903.12261).

Numbers are those of the authors' script for CIFAR-10 (hendrycks/robustness, ImageNet-C/create_c/make_cifar_c.py), whose
lengths are in pixels of images of 32; here they are scaled by the images' size. Random draws come from a generator made
of the corruption and the severity alone, so every model sees the same images. Results are uint8, rounded down as there.

Deviations, where the authors call a library: motion blur (of snow too) is ImageMagick's one-sided Gaussian along a
line with the taps at the nearest pixels; blurs replicate the border; an elastic transform mirrors about the border
pixel in both steps. Glass blur is what the authors' line does: it means to exchange pixels and copies one onto the
other. Frost mixes in photographs of frost in the original; here it is a procedural texture, so its figures compare
with each other only.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bittern.bench.tracks.filters import (
    ROUNDING,
    Images,
    by_pillow,
    filtered,
    gaussian,
    grey,
    moved,
    plasma,
    sampled,
    scale,
    zoomed,
)
from bittern.data.images import UINT8_MAX

Corruption = Callable[[Images, np.random.Generator, int], Images]
"""(images, randomness, severity from 0) -> images, not yet clipped."""
SEED = 2301_11233


def corrupted(images: Tensor, name: str, severity: int) -> Tensor:
    """Images [count, 1 or 3, size, size], uint8 or float brightness, with a corruption of severity 1 to 5, as uint8.

    Raises: ValueError for an unknown corruption, another severity, or images that are not square.
    """
    if name not in ALL or not 1 <= severity <= SEVERITIES:
        raise ValueError(
            f"corrupted: corruptions are {', '.join(ALL)}, of severities 1 to {SEVERITIES}; got {name}, {severity}"
        )
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3]:
        raise ValueError(f"corrupted: needs images [count, 1 or 3, size, size]; got {list(images.shape)}")
    brightness = images.double() / UINT8_MAX if images.dtype == torch.uint8 else images.double()
    draw = np.random.default_rng([SEED, list(ALL).index(name), severity])
    found = ALL[name](brightness.numpy(), draw, severity - 1)
    return torch.from_numpy(np.floor(np.clip(found, 0.0, 1.0) * UINT8_MAX + ROUNDING).astype(np.uint8))


def gaussian_noise(x: Images, draw: np.random.Generator, severity: int) -> Images:
    return x + draw.normal(scale=(0.04, 0.06, 0.08, 0.09, 0.10)[severity], size=x.shape)


def shot_noise(x: Images, draw: np.random.Generator, severity: int) -> Images:
    photons = (500, 250, 100, 75, 50)[severity]
    return draw.poisson(x * photons) / photons


def impulse_noise(x: Images, draw: np.random.Generator, severity: int) -> Images:
    """Salt and pepper, each channel by itself."""
    hit = draw.random(x.shape) < (0.01, 0.02, 0.03, 0.05, 0.07)[severity]
    return np.where(hit, draw.random(x.shape) < 0.5, x)


def defocus_blur(x: Images, draw: np.random.Generator, severity: int) -> Images:
    """A disk, itself blurred over 3 x 3 pixels."""
    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity]
    radius *= scale(x)
    reach = math.ceil(radius)
    offsets = np.arange(-reach, reach + 1)
    disk = (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2).astype(np.float64)
    line = np.exp(-np.array([1.0, 0.0, 1.0]) / (2.0 * alias**2))
    line /= line.sum()
    soft = filtered(np.pad(disk / disk.sum(), 2)[None, None], np.outer(line, line))[0, 0, 1:-1, 1:-1]
    return filtered(x, soft, "reflect")


def glass_blur(x: Images, draw: np.random.Generator, severity: int) -> Images:
    """Blurred, each pixel replaced by itself or one of three neighbours, blurred again."""
    sigma, rounds = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity]
    x = np.floor(gaussian(x, sigma * scale(x)) * UINT8_MAX) / UINT8_MAX
    each, inside = np.arange(len(x))[:, None, None], np.arange(2, x.shape[2])
    for _ in range(rounds):
        down, right = draw.integers(-1, 1, size=(2, len(x), len(inside), len(inside)))
        source = x.transpose(0, 2, 3, 1)[each, inside[:, None] + down, inside + right]
        x[:, :, 2:, 2:] = source.transpose(0, 3, 1, 2)
    return gaussian(x, sigma * scale(x))


def motion_blur(x: Images, draw: np.random.Generator, severity: int) -> Images:
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity]
    return moved(x, radius, sigma, draw.uniform(-45.0, 45.0, len(x)))


def zoom_blur(x: Images, draw: np.random.Generator, severity: int) -> Images:
    """The mean of the images and of them zoomed by 1, 1.01, ..."""
    factors = np.arange(1.0, (1.06, 1.11, 1.16, 1.21, 1.26)[severity], 0.01)
    return (x + sum(zoomed(x, float(factor)) for factor in factors)) / (len(factors) + 1)


def snow(x: Images, draw: np.random.Generator, severity: int) -> Images:
    mean, spread, zoom, threshold, radius, sigma, kept = (
        (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
    )[severity]
    layer = zoomed(draw.normal(mean, spread, (len(x), 1, *x.shape[2:])), zoom)
    layer = np.clip(np.where(layer < threshold, 0.0, layer), 0.0, 1.0)
    layer = moved(layer, radius, sigma, draw.uniform(-135.0, -45.0, len(x)))
    whiter = np.maximum(x, grey(x) * 1.5 + 0.5)
    return kept * x + (1.0 - kept) * whiter + layer + np.rot90(layer, 2, (2, 3))


def frost(x: Images, draw: np.random.Generator, severity: int) -> Images:
    """Bright ridges of a plasma in the place of photographs."""
    kept, added = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity]
    ridges = 1.0 - np.abs(2.0 * plasma(len(x), x.shape[2], 1.75, draw) - 1.0)
    return kept * x + added * ridges[:, None] ** 2


def fog(x: Images, draw: np.random.Generator, severity: int) -> Images:
    amount, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[severity]
    brightest: Images = x.max(axis=(1, 2, 3), keepdims=True)
    return (x + amount * plasma(len(x), x.shape[2], decay, draw)[:, None]) * brightest / (brightest + amount)


def brightness(x: Images, draw: np.random.Generator, severity: int) -> Images:
    """The value of hue, saturation and value raised: the colour's largest part V becomes min(V + c, 1)."""
    value: Images = x.max(axis=1, keepdims=True)
    raised = np.minimum(value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity], 1.0)
    return np.where(value > 0.0, x * raised / np.where(value > 0.0, value, 1.0), raised)


def contrast(x: Images, draw: np.random.Generator, severity: int) -> Images:
    mean: Images = x.mean(axis=(2, 3), keepdims=True)
    return (x - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[severity] + mean


def elastic_transform(x: Images, draw: np.random.Generator, severity: int) -> Images:
    """Three points shifted at random, then every pixel by smoothed noise."""
    alpha, sigma, affine = (
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )[severity]
    count, size = len(x), x.shape[2]
    middle, side = size // 2, size // 3
    points = np.array([[middle + side, middle + side], [middle + side, middle - side], [middle - side, middle - side]])
    shifted = points + draw.uniform(-affine * size, affine * size, (count, 3, 2))
    # (x, y) of the source for each (x, y, 1) of the result
    back = np.linalg.solve(
        np.concatenate([shifted, np.ones((count, 3, 1))], axis=2), np.broadcast_to(points, (count, 3, 2))
    )
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    places = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    turned = sampled(x, np.einsum("hwk,nkd->nhwd", places, back))
    noise = gaussian(draw.uniform(-1.0, 1.0, (count, 2, size, size)), sigma * size) * alpha * size
    return sampled(turned, places[None, ..., :2] + noise.transpose(0, 2, 3, 1))


def pixelate(x: Images, draw: np.random.Generator, severity: int) -> Images:
    size = x.shape[2]
    small = max(1, int(size * (0.95, 0.9, 0.85, 0.75, 0.65)[severity]))

    def coarse(image: Image.Image) -> Image.Image:
        box = Image.Resampling.BOX
        return image.resize((small, small), box).resize((size, size), box)

    return by_pillow(x, coarse)


def jpeg_compression(x: Images, draw: np.random.Generator, severity: int) -> Images:
    quality = (80, 65, 58, 50, 40)[severity]

    def lossy(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return by_pillow(x, lossy)


SEVERITIES = 5
ALL: dict[str, Corruption] = {
    function.__name__: function
    for function in (
        gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur, zoom_blur, snow, frost, fog,
        brightness, contrast, elastic_transform, pixelate, jpeg_compression,
    )
}  # fmt: skip
"""By name, in the order of the paper."""
