# SPDX-License-Identifier: Apache-2.0
"""Small sets of sensor series of the UEA and UCR archives, from one npz file.

motion_gestures.npz: for each set NAME, NAME_train_x and NAME_test_x, float32 [count, channels, time]; NAME_train_y and
NAME_test_y, uint8; NAME_classes, text. Series that are shorter than the longest end in NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bittern.data.labelled_texts import file_in
from bittern.data.npz import TEXT, read_npz

FILE = "motion_gestures.npz"


@dataclass(frozen=True, eq=False, slots=True)
class SeriesClasses:
    """Series float32 [count, channels, time], finite, and their classes int64 [count].

    Raises: ValueError for parts that do not fit together.
    """

    name: str
    classes: tuple[str, ...]
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    def __post_init__(self) -> None:
        for part, x, y in (("train", self.train, self.train_labels), ("test", self.test, self.test_labels)):
            if x.ndim != 3 or not x.numel() or y.shape != x.shape[:1] or x.shape[1:] != self.train.shape[1:]:
                raise ValueError(
                    f"{self.name}: {part} must be series [count, channels, time], alike in both parts, with a label "
                    f"each; got {list(x.shape)} and labels {list(y.shape)}"
                )
            if not bool(x.isfinite().all()):
                raise ValueError(f"{self.name}: {part} series must be finite; got NaN or infinity")
            if int(y.min()) < 0 or int(y.max()) >= len(self.classes):
                raise ValueError(
                    f"{self.name}: {part} labels must lie in 0 ... {len(self.classes) - 1}; got {int(y.max())}"
                )


def basic_motions(folder: str | Path) -> SeriesClasses:
    """Read BasicMotions: 40 + 40 series of a smart watch, 6 channels (accelerometer, gyroscope) of 100 at 10 Hz.

    Four motions: standing, walking, running, badminton. The parts are the official ones; so few examples tell little
    from one seed.

    Raises: FileNotFoundError; ValueError for a damaged file.
    Source: Bagnall et al. 2018, arXiv 1811.00075.
    """
    path = file_in("basic_motions", folder, FILE)
    kinds: dict[str, np.dtype[Any]] = {
        "train_x": np.dtype(np.float32),
        "train_y": np.dtype(np.uint8),
        "test_x": np.dtype(np.float32),
        "test_y": np.dtype(np.uint8),
        "classes": TEXT,
    }
    prefix = "BasicMotions_"
    arrays = read_npz(
        path,
        {prefix + name: dtype for name, dtype in kinds.items()},
        {f"{prefix}train_x": 3, f"{prefix}test_x": 3},
    )
    train, train_labels, test, test_labels = (torch.from_numpy(arrays[prefix + name]) for name in list(kinds)[:4])
    return SeriesClasses(
        "basic_motions",
        tuple(arrays[f"{prefix}classes"].tolist()),
        train,
        train_labels.long(),
        test,
        test_labels.long(),
    )
