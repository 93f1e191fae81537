# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from bittern.data import channel_statistics, digits

PIXEL_SUM, LABEL_SUM = 561_718, 8_070
FIRST_TEST_LABELS = [0, 4, 1, 2, 6, 7, 5, 6, 9, 1, 7, 5, 1, 8, 3, 2, 3, 9, 6, 5]


def test_shapes_range_and_classes() -> None:
    data = digits()
    assert data.name == "digits"
    assert data.classes == tuple("0123456789")
    assert data.image_shape == (1, 8, 8)
    assert len(data.train_labels) + len(data.test_labels) == 1797
    assert data.train_images.dtype == torch.float32
    levels = data.train_images * 16
    assert torch.equal(levels, levels.round())
    assert (levels.min(), levels.max()) == (0, 16)
    assert (data.mean, data.std) == channel_statistics(data.train_images)


def test_split_is_stratified_and_disjoint() -> None:
    data = digits()
    train, test = data.train_labels.bincount(), data.test_labels.bincount()
    assert torch.equal(test, ((train + test) * 0.2).round().long())
    seen = {image.numpy().tobytes() for image in data.train_images}
    assert len(seen) == len(data.train_images)  # the set has no duplicates, so equality of images is identity
    assert not seen & {image.numpy().tobytes() for image in data.test_images}


def test_the_file_is_the_published_one() -> None:
    data = digits()
    images = torch.cat([data.train_images, data.test_images])
    # sums over optdigits.tes as UCI has it
    assert int((images * 16).sum()) == PIXEL_SUM
    assert int(torch.cat([data.train_labels, data.test_labels]).sum()) == LABEL_SUM


def test_split_never_changes() -> None:
    first, second = digits(), digits()
    assert torch.equal(first.test_images, second.test_images)
    # results that were published with one split must not be compared with another
    assert first.test_labels[:20].tolist() == FIRST_TEST_LABELS
