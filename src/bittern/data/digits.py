# SPDX-License-Identifier: Apache-2.0
"""The embedded default: 1797 handwritten digits of 8 x 8 pixels (digits.npz; its source and license in digits.txt)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bittern.data.images import ImageData, channel_statistics
from bittern.data.npz import read_npz

FILE = Path(__file__).with_name("digits.npz")
SIDE = 8

BRIGHTEST = 16
"""Pixels count the set dots of a 4 x 4 block, so they are integers 0 ... 16."""
CLASSES = 10
TEST_SHARE = 0.2
SPLIT_SEED = 0


def digits() -> ImageData:
    """Load the digits, split once and for all: a fifth of each class is the test part.

    Images are float32 [count, 1, 8, 8] in [0, 1] (multiples of 1/16, exact). The split depends on nothing but
    the constants of this file; it is not the split by writers of the original publication, which the
    file does not name, so figures on it compare only with each other.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998 (its test part),
    CC BY 4.0, https://doi.org/10.24432/C50P49.
    """
    arrays = read_npz(FILE, {"pixels": np.dtype(np.uint8), "labels": np.dtype(np.uint8)})
    images = torch.from_numpy(arrays["pixels"]).view(-1, 1, SIDE, SIDE).to(torch.float32) / BRIGHTEST
    labels = torch.from_numpy(arrays["labels"]).to(torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    train, test = [], []
    for label in range(CLASSES):
        members = order[labels[order] == label]
        held_out = round(TEST_SHARE * len(members))
        test.append(members[:held_out])
        train.append(members[held_out:])
    # in the original order, so that nothing about the training set depends on the order of classes
    train_index, test_index = torch.cat(train).sort().values, torch.cat(test).sort().values
    mean, std = channel_statistics(images[train_index])
    return ImageData(
        name="digits",
        classes=tuple(str(d) for d in range(CLASSES)),
        train_images=images[train_index],
        train_labels=labels[train_index],
        test_images=images[test_index],
        test_labels=labels[test_index],
        mean=mean,
        std=std,
    )
