# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from bittern.data import RandomCropFlip, normalize


def images(count: int = 64) -> torch.Tensor:
    """Every pixel of an image has its own value, none is 0."""
    return torch.arange(1, 3 * 5 * 6 + 1, dtype=torch.uint8).view(1, 3, 5, 6).repeat(count, 1, 1, 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("padding", "flip"), [(0, True), (1, False), (2, True), (4, True)])
def test_each_result_is_a_shift_with_zeros_and_perhaps_a_mirror_image(padding: int, flip: bool) -> None:
    source = images()
    result = RandomCropFlip(padding, flip)(source, generator())
    assert result.dtype == source.dtype
    assert result.shape == source.shape
    assert result.is_contiguous()
    padded = torch.nn.functional.pad(source[0], (padding,) * 4)
    allowed = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + 5, left : left + 6]
            allowed[crop.numpy().tobytes()] = (top, left, False)
            if flip:
                allowed[crop.flip(2).numpy().tobytes()] = (top, left, True)
    found = {allowed[image.numpy().tobytes()] for image in result}  # KeyError: an image that must not occur
    assert len(found) > 1
    assert {mirrored for _, _, mirrored in found} == ({False, True} if flip else {False})


def test_all_places_occur_equally_often() -> None:
    count = 9 * 1000
    result = RandomCropFlip(1, flip=False)(images(count), generator())
    _, counts = result.flatten(1).unique(dim=0, return_counts=True)
    assert len(counts) == 9
    # 5 standard deviations of a binomial count
    assert (counts - 1000).abs().max() <= 5 * (count * (1 / 9) * (8 / 9)) ** 0.5


def test_depends_on_the_generator_alone() -> None:
    augment, source = RandomCropFlip(), images()
    first = augment(source, generator(1))
    torch.manual_seed(5)
    assert torch.equal(first, augment(source, generator(1)))
    assert not torch.equal(first, augment(source, generator(2)))
    assert torch.equal(source, images())


def test_floats_are_moved_like_bytes() -> None:
    source = images()
    assert torch.equal(RandomCropFlip()(source.float(), generator()), RandomCropFlip()(source, generator()).float())


def test_refuses_an_augmentation_without_effect() -> None:
    with pytest.raises(ValueError, match="change nothing"):
        RandomCropFlip(padding=0, flip=False)
    with pytest.raises(ValueError, match="at least 0"):
        RandomCropFlip(padding=-1)


def test_normalize() -> None:
    mean, std = (0.5, 0.25, 0.0), (0.5, 0.25, 2.0)
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).repeat(2, 3, 1, 1)
    wanted = torch.tensor([[-1.0, 1.0], [-1.0, 3.0], [0.0, 0.5]]).view(1, 3, 1, 2).repeat(2, 1, 1, 1)
    assert torch.equal(normalize(pixels, mean, std), wanted)
    assert torch.equal(normalize(pixels.float() / 255, mean, std), wanted)


def test_normalize_refuses_other_channels() -> None:
    with pytest.raises(ValueError, match="one mean and std per channel"):
        normalize(images(), (0.5,), (0.5,))
