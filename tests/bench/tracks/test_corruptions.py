# SPDX-License-Identifier: Apache-2.0
"""Corruptions by their formulas, worked by hand or by plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bittern.bench.tracks import corruptions, kept_images
from bittern.bench.tracks.corruptions import ALL, corrupted
from bittern.bench.tracks.filters import gaussian, moved, plasma, sampled, zoomed


def picture(count: int = 3, channels: int = 3, size: int = 32) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, channels, size, size), generator=draw, dtype=torch.uint8)


@pytest.mark.parametrize("name", list(ALL))
def test_each_is_reproducible_and_worse_than_clean(name: str) -> None:
    smooth = (gaussian(picture(4, 3).numpy() / 255.0, 3.0) - 0.5) * 4 + 0.5
    x = torch.from_numpy(np.clip(smooth, 0, 1) * 255).to(torch.uint8)
    changes = []
    for severity in (1, 5):
        found = corrupted(x, name, severity)
        assert (found.shape, found.dtype) == (x.shape, torch.uint8)
        assert torch.equal(found, corrupted(x, name, severity))
        changes.append(float((found.double() - x.double()).abs().mean()))
    assert min(changes) > 0.0
    # the authors' elastic transforms of high severity shift the three points less
    assert changes[0] < changes[1] or name == "elastic_transform"


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 7), (3, 33)])
def test_every_size(channels: int, size: int) -> None:
    x = picture(2, channels, size)
    for name in ALL:
        assert corrupted(x, name, 5).shape == x.shape


def test_float_images_are_the_same_images() -> None:
    x = picture(2, 1, 8)
    assert torch.equal(corrupted(x.float() / 255, "contrast", 3), corrupted(x, "contrast", 3))


def test_images_are_the_same_whatever_was_drawn_before() -> None:
    first = corrupted(picture(2), "gaussian_noise", 1)
    corrupted(picture(2), "fog", 1)
    assert torch.equal(corrupted(picture(2), "gaussian_noise", 1), first)


def test_contrast_by_hand() -> None:
    """Mean 100: 40 % of the distance stays; rounded down."""
    x = torch.tensor([[[[50, 150], [101, 99]]]], dtype=torch.uint8)
    assert corrupted(x, "contrast", 3).flatten().tolist() == [80, 120, 100, 99]


def test_brightness_by_hand() -> None:
    """HSV's value 0.2 becomes 0.5: the colour times 2.5; black becomes grey; white stays."""
    x = torch.tensor([[51, 0, 255], [20, 0, 255], [0, 0, 255]], dtype=torch.uint8).view(1, 3, 1, 3).expand(1, 3, 3, 3)
    found = corrupted(x, "brightness", 5)[0, :, 0]
    assert found.tolist() == [[127, 76, 255], [50, 76, 255], [0, 76, 255]]


def test_impulse_noise_hits_so_many() -> None:
    found = corrupted(torch.full((40, 3, 32, 32), 128, dtype=torch.uint8), "impulse_noise", 5)
    shares = [float((found == value).double().mean()) for value in (0, 255)]
    assert sum(shares) == pytest.approx(0.07, abs=5 * (0.07 / 122_880) ** 0.5)
    assert shares[0] == pytest.approx(shares[1], abs=5 * (0.07 / 122_880) ** 0.5)


def test_gaussian_noise_has_its_spread() -> None:
    found = corrupted(torch.full((40, 3, 32, 32), 128, dtype=torch.uint8), "gaussian_noise", 1).double()
    assert float(found.std()) == pytest.approx(0.04 * 255, rel=0.02)


def test_shot_noise_has_its_spread() -> None:
    """Poisson: variance brightness / photons."""
    found = corrupted(torch.full((40, 3, 32, 32), 128, dtype=torch.uint8), "shot_noise", 5).double() / 255
    assert float(found.var()) == pytest.approx(128 / 255 / 50, rel=0.03)


def test_gaussian_is_the_sum_of_its_taps() -> None:
    x = np.zeros((1, 1, 9, 9))
    x[0, 0, 4, 4] = 1.0
    found = gaussian(x, 0.5)
    line = np.exp(-(np.arange(-2, 3) ** 2) / 0.5)
    line /= line.sum()
    np.testing.assert_allclose(found[0, 0, 2:7, 2:7], np.outer(line, line), atol=1e-15)


@pytest.mark.parametrize(("degrees", "right", "down"), [(0.0, 1, 0), (90.0, 0, 1), (-90.0, 0, -1)])
def test_motion_goes_one_way(degrees: float, right: int, down: int) -> None:
    """A pixel gets what lies ahead, with the falling half of a Gaussian."""
    x = np.zeros((1, 1, 32, 32))
    x[0, 0, 16, 16] = 1.0
    found = moved(x, 3, 2.0, np.array([degrees]))[0, 0]
    weights = np.exp(-(np.arange(7) ** 2) / 8.0)
    weights /= weights.sum()
    for step in range(7):
        assert found[16 - step * down, 16 - step * right] == pytest.approx(weights[step])
    assert found.sum() == pytest.approx(1.0)


def test_zoom_by_hand() -> None:
    """The 22 pixels 5 ... 26 of 33 become 33: pixel 16 of them lies at 5 + 16 * 21 / 32 = 15.5."""
    x = np.linspace(0, 1, 33)[None, None, None, :].repeat(33, 2)
    found = zoomed(x, 1.5)
    assert found.shape == x.shape
    assert found[0, 0, 5, 16] == pytest.approx(15.5 / 32)
    assert found[0, 0, 5, 0] == pytest.approx(5 / 32)
    assert np.array_equal(zoomed(x, 1.0), x)


def test_sampled_at_its_own_places_is_itself() -> None:
    x = picture(2, 3, 9).numpy() / 255.0
    rows, columns = np.mgrid[:9, :9].astype(float)
    np.testing.assert_allclose(sampled(x, np.stack([columns, rows], -1)[None]), x, atol=1e-14)
    left = sampled(x, np.stack([columns + 1, rows], -1)[None])
    np.testing.assert_allclose(left[..., :-1], x[..., 1:], atol=1e-14)


@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_plasma_spans_zero_to_one(size: int) -> None:
    found = plasma(3, 32, 2.0, np.random.default_rng(0))
    assert found.min(axis=(1, 2)).tolist() == [0.0] * 3
    assert found.max(axis=(1, 2)).tolist() == [1.0] * 3
    assert plasma(1, size, 2.0, np.random.default_rng(0)).shape == (1, size, size)


def test_glass_takes_pixels_from_above_and_left() -> None:
    """Severity 1 blurs with sigma 0.05, which is nothing."""
    rows = torch.arange(32, dtype=torch.uint8).view(1, 1, 32, 1).expand(1, 1, 32, 32)
    moved_by = rows.int() - corrupted(rows, "glass_blur", 1).int()
    assert set(moved_by[:, :, 2:, 2:].unique().tolist()) == {0, 1}
    assert not moved_by[:, :, :2].any()


@pytest.mark.parametrize(
    ("images", "name", "severity", "message"),
    [
        (picture(), "rain", 1, "got rain, 1"),
        (picture(), "fog", 0, "severities 1 to 5; got fog, 0"),
        (picture(), "fog", 6, "got fog, 6"),
        (picture(1, 2), "fog", 1, r"got \[1, 2, 32, 32\]"),
        (picture()[:, :, :5], "fog", 1, r"needs images \[count, 1 or 3, size, size\]"),
    ],
)
def test_bad_arguments(images: Tensor, name: str, severity: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrupted(images, name, severity)


def test_there_are_fifteen() -> None:
    assert len(ALL) == 15
    assert corruptions.SEVERITIES == 5


def test_kept_images_are_made_once_and_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, folder = picture(2, 3, 8), tmp_path / "not" / "there"
    made: list[str] = []

    def counted(images: Tensor, name: str, severity: int) -> Tensor:
        made.append(f"{name} {severity}")
        return corrupted(images, name, severity)

    monkeypatch.setattr(corruptions, "corrupted", counted)
    for images in (x, x.float() / 255, x[:1], x.flip(0)):
        for name, severity in (("fog", 1), ("fog", 5), ("jpeg_compression", 1)):
            for _ in range(2):
                kept = kept_images.corrupted(images, name, severity, folder)
                assert torch.equal(kept, corrupted(images, name, severity))
                assert kept.dtype == torch.uint8
    assert len(made) == len(list(folder.iterdir())) == 12
    monkeypatch.setattr(kept_images, "this_build", lambda: "another")
    kept_images.corrupted(x, "fog", 1, folder)
    assert len(made) == 13, "another build may have other formulas"
    kept_images.corrupted(x, "fog", 1, None)
    assert len(made) == 14
    with pytest.raises(ValueError, match="of severities 1 to 5"):
        kept_images.corrupted(x, "fog", 6, folder)


def test_kept_images_that_are_damaged_are_made_anew(tmp_path: Path) -> None:
    x = picture(2, 1, 8)
    wanted = corrupted(x, "snow", 2)
    kept_images.corrupted(x, "snow", 2, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for content in (b"", whole[:-1], whole + b"x", bytes([whole[0] ^ 1]) + whole[1:], whole[:-1] + b"?"):
        file.write_bytes(content)
        assert torch.equal(kept_images.corrupted(x, "snow", 2, tmp_path), wanted)
        assert file.read_bytes() == whole
    assert torch.equal(kept_images.corrupted(x, "snow", 2, file / "below a file"), wanted), "nowhere to write"
