# SPDX-License-Identifier: Apache-2.0
"""Crops of the few free photographs in the data, and photographs of CIFAR-10 made larger."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

COLOUR = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
"""The pictures that networks are judged on; there is one person among them, the astronaut."""
OTHERS = ("camera.png", "brick.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "moon.png", "coins.png")


def crops(data: Path, names: Sequence[str], size: tuple[int, int], count: int, seed: int) -> Tensor:
    """float32 [count, 3, *size] of 0 ... 255: squares of half to all of a picture's shorter side.

    The pictures are taken in turn, and crops mirrored at random.
    """
    draw, found = np.random.default_rng(seed), []
    pictures = [Image.open(data / "photos_sr" / name).convert("RGB") for name in names]
    for index in range(count):
        picture = pictures[index % len(pictures)]
        side = min(picture.size) * draw.uniform(0.5, 1.0)
        left, top = (draw.uniform(0, whole - side) for whole in picture.size)
        crop = np.array(picture.resize(size[::-1], box=(left, top, left + side, top + side)))
        found.append(crop[:, ::-1] if draw.random() < 0.5 else crop)
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float()


def objects(data: Path, size: tuple[int, int], count: int) -> Tensor:
    """float32 [count, 3, *size] of 0 ... 255: training photographs of CIFAR-10, made larger."""
    with np.load(next((data / "cifar10_jpeg75").glob("*.npz")), allow_pickle=False) as arrays:
        files, offsets = arrays["train_jpeg"], arrays["train_offsets"]
    found = []
    for index in range(count):
        picture = Image.open(io.BytesIO(files[offsets[index] : offsets[index + 1]].tobytes())).convert("RGB")
        found.append(np.array(picture.resize(size[::-1], Image.Resampling.BICUBIC)))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float()


def pieces(data: Path, names: Sequence[str], side: int, count: int, seed: int) -> Tensor:
    """float32 [count, 3, side, side] of 0 ... 1: pieces of pictures as they are."""
    draw, found = np.random.default_rng(seed), []
    for index in range(count):
        picture = np.array(Image.open(data / "photos_sr" / names[index % len(names)]).convert("RGB"))
        row, column = (int(draw.integers(whole - side + 1)) for whole in picture.shape[:2])
        found.append(picture[row : row + side, column : column + side])
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255.0


def made_smaller(images: Tensor, factor: int) -> Tensor:
    """Of 0 ... 1 by Pillow's bicubic filter, in steps of 1/255."""
    found = []
    for image in (images * 255.0).round().byte().permute(0, 2, 3, 1).numpy():
        picture = Image.fromarray(image)
        small = picture.resize((picture.width // factor, picture.height // factor), Image.Resampling.BICUBIC)
        found.append(np.array(small))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255.0
