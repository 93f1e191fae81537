# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from bittern.data import image_folder
from bittern.data.folder import has_classes


def draw(path: Path, color: object, size: tuple[int, int] = (4, 3), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)  # type: ignore[arg-type]


@pytest.fixture
def colors(tmp_path: Path) -> Path:
    for i in range(5):
        draw(tmp_path / "red" / f"{i}.png", (200 + i, 0, 0))
        draw(tmp_path / "blue" / f"{i}.png", (0, 0, 100 + i))
    (tmp_path / "blue" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_one_folder_is_split_by_class_and_seed(colors: Path) -> None:
    data = image_folder(colors, test_share=0.4)
    assert data.classes == ("blue", "red")
    assert data.counts == (6, 4)
    assert data.test.labels == (0, 0, 1, 1)
    assert not set(data.train.files) & set(data.test.files)
    assert image_folder(colors, test_share=0.4).test.files == data.test.files
    others = [image_folder(colors, test_share=0.4, seed=seed).test.files for seed in range(1, 5)]
    assert any(files != data.test.files for files in others)
    assert data.image_shape == (3, 3, 4)
    assert has_classes(colors)


def test_folders_of_train_and_test(tmp_path: Path) -> None:
    for part, shade in (("train", 10), ("train", 20), ("val", 90)):
        for name in ("a", "b"):
            draw(tmp_path / part / name / "deep" / f"{shade}.png", shade, mode="L")
    data = image_folder(tmp_path)
    assert data.image_shape == (1, 3, 4)
    assert data.counts == (4, 2)
    assert torch.equal(data.first_test_images(1), torch.full((1, 1, 3, 4), 90, dtype=torch.uint8))
    assert data.mean == (pytest.approx(15 / 255),)
    assert data.std == (pytest.approx(5 / 255),)
    (tmp_path / "val" / "c").mkdir()
    draw(tmp_path / "val" / "c" / "x.png", 3, mode="L")
    with pytest.raises(ValueError, match="must hold the same classes; only one has c"):
        image_folder(tmp_path)


def test_images_are_resampled_only_when_a_size_is_given(colors: Path) -> None:
    data = image_folder(colors)
    draw(colors / "red" / "big.png", (250, 0, 0), size=(9, 9))
    with pytest.raises(ValueError, match=r"big.png is 9 x 9 and the first image 4 x 3; give a size"):
        data.read([colors / "red" / "big.png"])
    data = image_folder(colors, 5)
    assert data.read([colors / "red" / "big.png"]).shape == (1, 3, 5, 5)
    assert data.read([colors / "red" / "big.png"])[0, :, 2, 2].tolist() == [250, 0, 0]


def test_transparency_is_black(colors: Path) -> None:
    draw(colors / "red" / "clear.png", (255, 255, 255, 0), mode="RGBA")
    assert image_folder(colors).read([colors / "red" / "clear.png"]).max() == 0


def test_folders_that_cannot_be(colors: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        image_folder(tmp_path / "none")
    with pytest.raises(ValueError, match="must hold a subfolder"):
        image_folder(colors / "red")
    with pytest.raises(ValueError, match=r"test_share must lie in \(0, 1\); got 1"):
        image_folder(colors, test_share=1.0)
    with pytest.raises(ValueError, match="size must be at least 1"):
        image_folder(colors, 0)
    data = image_folder(colors)
    (colors / "red" / "bad.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"bad.png is not an image that can be read"):
        data.read([colors / "red" / "bad.png"])
    (colors / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no images"):
        image_folder(colors)
    (colors / "empty").rmdir()
    draw(colors / "lone" / "1.png", 0)
    with pytest.raises(ValueError, match="at least 2 images, one to test with; got 1"):
        image_folder(colors)
