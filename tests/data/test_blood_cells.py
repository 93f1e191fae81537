# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bittern.data import blood_cells


def jpeg(size: tuple[int, int] = (640, 480), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    image = Image.new(mode, size)
    if mode == "RGB" and size == (640, 480):
        image.paste((200, 0, 0), (320, 0, 640, 240))
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


WHOLE = jpeg()


def write(folder: Path, images: tuple[bytes, ...] = (WHOLE, WHOLE), **changes: np.ndarray) -> Path:
    arrays = {
        "jpeg": np.frombuffer(b"".join(images), np.uint8),
        "offsets": np.cumsum([0, *map(len, images)]),
        "boxes": np.array([[0, 4, 16, 24], [320, 0, 640, 480], [1, 1, 2, 2]], np.int16),
        "labels": np.array([0, 1, 2], np.uint8),
        "box_offsets": np.array([0, 0, 3], np.int32),
        "split": np.array([0, 2], np.int8),
        "class_names": np.array(["RBC", "WBC", "Platelets"]),
    }
    np.savez(folder / "bccd.npz", **(arrays | changes))
    return folder


def test_reads_and_shrinks(tmp_path: Path) -> None:
    data = blood_cells(write(tmp_path), 4)
    assert data.images.shape == (2, 3, 120, 160)
    assert data.images[1, :, 20, 100].tolist() == pytest.approx([200, 0, 0], abs=4)
    assert data.images[1, :, 90, 100].tolist() == pytest.approx([0, 0, 0], abs=4)
    assert [len(boxes) for boxes in data.boxes] == [0, 3]
    assert data.boxes[1].tolist()[:2] == [[0, 1, 4, 6], [80, 0, 160, 120]]
    assert (data.labels[1].tolist(), data.part.tolist()) == ([0, 1, 2], [0, 2])
    assert blood_cells(tmp_path, 1).images.shape == (2, 3, 480, 640)


BOXES = np.array([[0, 4, 16, 24], [320, 0, 640, 480], [1, 1, 2, 2]], np.int16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": np.array([0, 9, 10])}, "offsets rise from 0 to the end of jpeg"),
        ({"box_offsets": np.array([0, 4, 3], np.int32)}, "box_offsets rise"),
        ({"box_offsets": np.array([0, 3], np.int32)}, "as many offsets as images"),
        ({"labels": np.array([0, 1, 3], np.uint8)}, "labels name a class"),
        ({"labels": np.array([0, 1], np.uint8)}, "four numbers and a label"),
        ({"boxes": BOXES[:, :3].copy()}, "four numbers and a label"),
        ({"split": np.array([0, -1], np.int8)}, "split is 0, 1 or 2"),
        ({"boxes": BOXES + np.int16(1)}, r"box 1 of .* must lie in an image of 640 x 480"),
        ({"boxes": BOXES[:, [2, 1, 0, 3]]}, r"stored row by row|box 0 of .* hold a pixel"),
        ({"boxes": BOXES - np.int16(1)}, "box 0 of"),
    ],
)
def test_refuses_damage(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        blood_cells(write(tmp_path, **changes))


@pytest.mark.parametrize("bad", [b"no jpeg", WHOLE[: len(WHOLE) // 2], jpeg((640, 479)), jpeg(mode="L")])
def test_refuses_other_images(tmp_path: Path, bad: bytes) -> None:
    with pytest.raises(ValueError, match=r"blood_cells: image 1 of .* is damaged"):
        blood_cells(write(tmp_path, (WHOLE, bad)))


def test_refuses_arguments(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"needs bccd\.npz"):
        blood_cells(tmp_path)
    for shrink in (0, 3, 7):
        with pytest.raises(ValueError, match=f"shrink must divide 640 and 480; got {shrink}"):
            blood_cells(write(tmp_path), shrink)


@pytest.mark.data
def test_real_cells(real_data: Callable[[str], Path]) -> None:
    data = blood_cells(real_data("bccd_detection"), 8)
    assert data.part.bincount().tolist() == [205, 87, 72]
    assert sum(len(boxes) for boxes in data.boxes) == 4888
