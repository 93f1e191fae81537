# SPDX-License-Identifier: Apache-2.0
"""What the demo leaves beside its report: the packed networks, three images to run them on, commands to try."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bittern._files import write_atomically
from bittern.bench.demo.result import FLOAT

if TYPE_CHECKING:
    from bittern.data import ImageData
    from bittern.deploy import Packed

NETWORKS, IMAGES = "networks", "images"
"""Folders in the report's folder."""
COUNT = 3
ENLARGED = 8
"""Times that an image of 8 x 8 pixels is enlarged, so that a viewer shows more than a speck."""
EXAMPLE = "ReActNet"
"""The method that the commands take."""


def save_network(folder: Path, name: str, packed: Packed) -> None:
    """Keep the packed file of a method; the baseline is not packed to one bit and not kept. Raises: OSError."""
    if name != FLOAT:
        (folder / NETWORKS).mkdir(parents=True, exist_ok=True)
        packed.save(folder / NETWORKS / f"{name}.safetensors")


def save_images(folder: Path, data: ImageData) -> tuple[Path, ...]:
    """Write the first test images of different classes as PNG files named after their class. Raises: OSError."""
    import torch
    from PIL import Image

    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}
    for image, label in zip(data.test_images, data.test_labels.tolist(), strict=True):
        name = data.classes[label]
        if name in written:
            continue
        pixels = (image[0] * 255).round().to(torch.uint8).numpy()
        side = ENLARGED * pixels.shape[0]
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST).save(buffer, format="PNG")
        written[name] = folder / IMAGES / f"{name}.png"
        write_atomically(written[name], buffer.getvalue())
        if len(written) == COUNT:
            break
    return tuple(written.values())


def commands(program: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Command lines that can be typed as they are. program: the words that start `bittern` here."""
    network = str(folder / NETWORKS / f"{EXAMPLE}.safetensors")
    words = (
        ("run", network, str(folder / IMAGES), "--top", "3"),
        ("info", network),
        ("eval", network),
        ("export", network, str(folder / "reactnet.c")),
        ("train", "--folder", str(folder / "run"), "--method", EXAMPLE, "--model", "mlp", "--epochs", "3"),
    )
    return tuple(shlex.join([*program, *one]) for one in words)
