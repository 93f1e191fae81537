# SPDX-License-Identifier: Apache-2.0
"""Tiles of images, and views of examples."""

from __future__ import annotations

import pytest
import torch

from bittern.data import Views, digits, tiled, tiles


def test_tiles_go_row_by_row_and_lose_nothing() -> None:
    """A 3 x 4 image in 2 x 3 tiles: a row of zeros below, zeros on both sides."""
    image = torch.arange(1, 13).view(1, 3, 4)
    found = tiles(image, 2, 3)
    assert [tile.tolist() for tile in found] == [
        [[[0, 1], [0, 5]]],
        [[[2, 3], [6, 7]]],
        [[[4, 0], [8, 0]]],
        [[[0, 9], [0, 0]]],
        [[[10, 11], [0, 0]]],
        [[[12, 0], [0, 0]]],
    ]
    assert torch.equal(torch.cat(tiles(image, 1, 4), -1), image)
    for rows, columns in ((0, 1), (4, 1), (1, 5)):
        with pytest.raises(ValueError, match="tiles"):
            tiles(image, rows, columns)


def test_views_of_images() -> None:
    data = digits()
    train, test = tiled(data, 2, 2)
    assert (len(train), len(test), train.shape) == (*data.counts, (1, 4, 4))
    *views, label = test[3]
    assert len(views) == 4
    whole = (data.test_images[3] - data.mean[0]) / data.std[0]
    assert torch.allclose(torch.cat([torch.cat(views[:2], -1), torch.cat(views[2:], -1)], -2), whole)
    assert label == data.test_labels[3]
    rest, held = train.split(0.1)
    assert len(rest) + len(held) == len(train)
    assert torch.equal(held.labels, train.split(0.1)[1].labels), "drawn by the seed"
    for share in (0.0, 1.0, 1e-9):
        with pytest.raises(ValueError, match="share"):
            train.split(share)


def test_views_must_belong_together() -> None:
    view, labels = torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match="at least one"):
        Views([], labels)
    with pytest.raises(ValueError, match="a label per example"):
        Views([view], labels[:2])
    with pytest.raises(TypeError, match="view 1"):
        Views([view, view[..., :1]], labels)
    with pytest.raises(TypeError, match="integers"):
        Views([view], labels.float())
