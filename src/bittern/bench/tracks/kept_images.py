# SPDX-License-Identifier: Apache-2.0
"""Corrupted images that are made once a run: all its trials judge their models on the same ones.

A file for each (images, corruption, severity): the numbers, uint8, and behind them their SHA-256. Its name is made of
the images themselves, the corruption and the software that makes it, so another data set, count or build has other
files. One that is cut short or damaged is made anew, and so is everything where nothing can be written.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor

from bittern._files import write_atomically
from bittern.bench.core.build import this_build
from bittern.bench.tracks import corruptions

DIGEST = hashlib.sha256().digest_size


def corrupted(images: Tensor, name: str, severity: int, folder: Path | None) -> Tensor:
    """As `corruptions.corrupted`, to the bit. folder: where they are kept, which is made; None: nowhere.

    Raises: ValueError, as there.
    """
    if folder is None:
        return corruptions.corrupted(images, name, severity)
    path = folder / f"corrupted-{_key(images, name, severity)}.bin"
    found = _read(path, images)
    if found is None:
        found = corruptions.corrupted(images, name, severity)
        content = found.contiguous().numpy().tobytes()
        with suppress(OSError):  # where nothing can be written, the next trial makes them too
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, [content, hashlib.sha256(content).digest()])
    return found


def _key(images: Tensor, name: str, severity: int) -> str:
    made_by = [this_build(), np.__version__, PIL.__version__, torch.__version__]
    what = json.dumps([name, severity, list(images.shape), str(images.dtype), *made_by])
    found = hashlib.sha256(f"{what}\n".encode())
    found.update(images.contiguous().numpy().tobytes())
    return found.hexdigest()


def _read(path: Path, images: Tensor) -> Tensor | None:
    """None for a file that is not there or not whole."""
    try:
        content = bytearray(path.read_bytes())
    except OSError:
        return None
    if len(content) != images.numel() + DIGEST:
        return None
    if hashlib.sha256(memoryview(content)[:-DIGEST]).digest() != content[-DIGEST:]:
        return None
    return torch.from_numpy(np.frombuffer(content, np.uint8, images.numel()).reshape(images.shape))
