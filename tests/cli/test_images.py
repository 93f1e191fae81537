# SPDX-License-Identifier: Apache-2.0
"""Image files as inputs of a network."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from bittern.cli.images import Change, image_files, read_image


def _save(path: Path, pixels: object, **options: object) -> Path:
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.fixture
def colours() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_colours_come_as_they_are(tmp_path: Path, colours: npt.NDArray[np.uint8]) -> None:
    x, changes = read_image(_save(tmp_path / "a.png", colours), (3, 5, 7))
    assert changes == ()
    assert x.dtype == torch.float32
    assert torch.equal(x, torch.from_numpy(colours).permute(2, 0, 1) / 255.0)


def test_colours_become_grey_and_grey_becomes_colours(tmp_path: Path, colours: npt.NDArray[np.uint8]) -> None:
    path = _save(tmp_path / "a.png", colours)
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L"))
    assert torch.equal(read_image(path, (1, 5, 7)).pixels, torch.from_numpy(grey.copy()).unsqueeze(0) / 255.0)
    three = read_image(_save(tmp_path / "b.png", grey), (3, 5, 7)).pixels
    assert torch.equal(three, torch.from_numpy(grey.copy()).expand(3, 5, 7) / 255.0)


def test_larger_images_are_averaged(tmp_path: Path) -> None:
    blocks = np.kron(np.array([[10, 20], [30, 40]]), np.ones((4, 4)))
    assert torch.equal(
        read_image(_save(tmp_path / "a.png", blocks), (1, 2, 2)).pixels * 255, torch.tensor([[[10.0, 20], [30, 40]]])
    )


def test_smaller_images_are_enlarged(tmp_path: Path) -> None:
    x = read_image(_save(tmp_path / "a.png", [[0, 255]]), (1, 4, 6)).pixels
    assert x.shape == (1, 4, 6)
    assert bool((x[0, :, 1:] >= x[0, :, :-1]).all())


def test_inversion(tmp_path: Path, colours: npt.NDArray[np.uint8]) -> None:
    path = _save(tmp_path / "a.png", colours)
    assert torch.equal(read_image(path, (3, 5, 7), invert=True).pixels, 1.0 - read_image(path, (3, 5, 7)).pixels)


def test_transparency_becomes_black(tmp_path: Path) -> None:
    pixels = [[[255, 255, 255, 0], [255, 255, 255, 255], [200, 100, 50, 255]]]
    x = read_image(_save(tmp_path / "a.png", pixels), (3, 1, 3)).pixels * 255
    assert x.permute(1, 2, 0).tolist() == [[[0, 0, 0], [255, 255, 255], [200, 100, 50]]]


def test_camera_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    x = read_image(_save(tmp_path / "a.png", [[10, 20, 30]], exif=exif), (1, 3, 1)).pixels * 255
    assert x.flatten().tolist() == [10, 20, 30]


def test_more_than_eight_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="more than 8 bits per channel"):
        read_image(tmp_path / "a.png", (1, 4, 4))


def test_other_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the network takes 2 channels"):
        read_image(_save(tmp_path / "a.png", [[1]]), (2, 1, 1))


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no image file"):
        read_image(tmp_path / "none.png", (1, 8, 8))
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match="is not an image that can be read"):
        read_image(tmp_path / "text.png", (1, 8, 8))
    whole = _save(tmp_path / "a.png", np.arange(10_000).reshape(100, 100) % 251).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is not an image that can be read"):
        read_image(tmp_path / "cut.png", (1, 8, 8))


def test_header_that_claims_gigapixels_is_refused(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match="is not an image that can be read"):
        read_image(tmp_path / "a.png", (1, 8, 8))


def _changes(path: Path, shape: tuple[int, ...]) -> tuple[Change, ...]:
    return read_image(path, shape).changes


def test_every_bending_is_told(tmp_path: Path, colours: npt.NDArray[np.uint8]) -> None:
    grey, rgb = _save(tmp_path / "grey.png", colours[:, :, 0]), _save(tmp_path / "rgb.png", colours)
    assert _changes(grey, (1, 5, 7)) == _changes(rgb, (3, 5, 7)) == ()
    assert _changes(rgb, (1, 5, 7)) == (Change("made grey", "RGB"),)
    assert _changes(grey, (3, 5, 7)) == (Change("made RGB", "L"),)
    assert _changes(rgb, (3, 10, 14)) == (Change("resized to 14 x 10", "7 x 5"),)
    assert _changes(rgb, (3, 8, 8)) == (Change("resized to 8 x 8", "7 x 5"), Change("proportions changed", "7 x 5"))


def test_only_transparency_that_hides_something_is_told(tmp_path: Path) -> None:
    opaque = np.full((2, 2, 4), 255)
    holes = opaque.copy()
    holes[0, 0, 3] = 0
    assert _changes(_save(tmp_path / "a.png", opaque), (3, 2, 2)) == ()
    assert _changes(_save(tmp_path / "b.png", holes), (3, 2, 2)) == (Change("transparent parts made black", "RGBA"),)


def test_frames_that_are_left_out_are_told(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), (0, 0, shade)) for shade in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert _changes(tmp_path / "a.gif", (3, 2, 2)) == (Change("only the first frame taken", "2 frames"),)


def test_a_folder_stands_for_the_images_in_it(tmp_path: Path) -> None:
    lone = _save(tmp_path / "lone.png", [[1]])
    folder = tmp_path / "pictures"
    for name in ("b/2.JPG", "a/1.png"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    (folder / "readme.txt").touch()
    (folder / ".hidden.png").touch()
    found, left_out = image_files([lone, folder])
    assert found == [lone, folder / "a" / "1.png", folder / "b" / "2.JPG"]
    assert left_out == 1
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    with pytest.raises(ValueError, match=r"holds no image files \(1 other files\)"):
        image_files([tmp_path / "texts"])
