# SPDX-License-Identifier: Apache-2.0
"""The real data sets with few photographs; to decode all 60,000 of CIFAR-10, as tests/data does, takes ten seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

FEW = 300
CIFAR10 = "cifar10_jpeg75"


def with_few_photographs(data: Path, folder: Path) -> Path:
    """`folder`, which now holds links to the data sets in `data`, and the first photographs of CIFAR-10's two parts."""
    for path in data.iterdir():
        if path.name != CIFAR10:
            (folder / path.name).symlink_to(path)
    [archive] = (data / CIFAR10).glob("cifar10_*.npz")
    few = folder / CIFAR10
    few.mkdir()
    with np.load(archive) as arrays:
        cut = {}
        for part in ("train", "test"):
            offsets = arrays[f"{part}_offsets"][: FEW + 1]
            cut |= {
                f"{part}_offsets": offsets,
                f"{part}_jpeg": arrays[f"{part}_jpeg"][: offsets[-1]],
                f"y_{part}": arrays[f"y_{part}"][:FEW],
            }
    np.savez(few / archive.name, **cut)
    return folder
