# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bittern.data import cifar10

module = importlib.import_module("bittern.data.cifar10")  # the package's attribute is the function
RECORDS = 4


@pytest.fixture
def binary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "RECORDS_PER_FILE", RECORDS)
    rng = np.random.default_rng(0)
    for name in (*module.TRAIN_FILES, *module.TEST_FILES):
        records = rng.integers(0, 256, (RECORDS, 3073), dtype=np.uint8)
        records[:, 0] = rng.integers(0, 10, RECORDS)
        (tmp_path / name).write_bytes(records.tobytes())
    return tmp_path


def jpeg(side: int = 32, color: tuple[int, int, int] = (200, 30, 90), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), color).convert(mode).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_archive(path: Path, train: list[bytes], test: list[bytes], **changes: np.ndarray) -> Path:
    parts: dict[str, np.ndarray] = {}
    for name, images in (("train", train), ("test", test)):
        parts[f"{name}_jpeg"] = np.frombuffer(b"".join(images), np.uint8)
        parts[f"{name}_offsets"] = np.cumsum([0, *map(len, images)]).astype(np.int64)
        parts[f"y_{name}"] = np.arange(len(images), dtype=np.uint8)
    np.savez(path, **(parts | changes))
    return path


def test_reads_the_binary_version(binary_folder: Path) -> None:
    data = cifar10(binary_folder)
    assert data.name == "cifar10"
    assert data.train_images.shape == (5 * RECORDS, 3, 32, 32)
    assert data.test_images.shape == (RECORDS, 3, 32, 32)
    raw = (binary_folder / "data_batch_2.bin").read_bytes()
    assert data.train_labels[RECORDS] == raw[0]
    # red first, rows first
    assert data.train_images[RECORDS, 0, 1, 2] == raw[1 + 32 + 2]
    assert data.train_images[RECORDS, 2, 0, 5] == raw[1 + 2 * 1024 + 5]


def test_reads_the_folder_as_the_official_archive_unpacks(binary_folder: Path) -> None:
    inner = binary_folder / "cifar-10-batches-bin"
    inner.mkdir()
    for path in binary_folder.glob("*.bin"):
        path.rename(inner / path.name)
    assert len(cifar10(binary_folder).train_labels) == 5 * RECORDS


def test_refuses_truncated_and_missing_files(binary_folder: Path) -> None:
    path = binary_folder / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"data_batch_3.bin must have 12292 bytes; got 12291"):
        cifar10(binary_folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks data_batch_3.bin"):
        cifar10(binary_folder)


def test_refuses_a_label_without_a_class(binary_folder: Path) -> None:
    path = binary_folder / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(ValueError, match=r"0 \.\.\. 9"):
        cifar10(binary_folder)


@pytest.mark.parametrize("place", ["data_batch_1", "cifar-10-batches-py/data_batch_1"])
def test_never_unpickles(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"cbuiltins\nexit\n(tR.")  # a pickle that ends the process
    with pytest.raises(ValueError, match=r"pickle files can run code.*binary version"):
        cifar10(tmp_path)


def test_missing_folder_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"does not exist.*data_batch_1.bin"):
        cifar10(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds none of them.*test_batch.bin"):
        cifar10(tmp_path)


def test_reads_an_archive_of_jpegs(tmp_path: Path) -> None:
    colors = [(200, 30, 90), (0, 0, 0), (255, 255, 255)]
    write_archive(tmp_path / "cifar10_small.npz", [jpeg(color=c) for c in colors], [jpeg()])
    data = cifar10(tmp_path)
    assert data.name == "cifar10_jpeg"
    assert data.train_labels.tolist() == [0, 1, 2]
    wanted = torch.tensor(colors).view(3, 3, 1, 1).expand(3, 3, 32, 32)
    assert (data.train_images.int() - wanted).abs().max() <= 2


@pytest.mark.parametrize(
    ("train", "changes", "message"),
    [
        ([jpeg(side=33)], {}, "train image 0 of .* RGB of 32 x 32"),
        ([jpeg(), jpeg(mode="L")], {}, "train image 1 .* got L"),
        ([jpeg(), b"\xff\xd8 not a picture"], {}, "train image 1 .* is damaged"),
        ([jpeg(), jpeg()[:-200]], {}, "train image 1 .* is damaged"),
        ([jpeg()], {"train_offsets": np.array([0, 5], np.int64)}, "must rise"),
        ([jpeg()], {"train_offsets": np.array([0, -1, len(jpeg())], np.int64)}, "must rise"),
        ([jpeg()], {"train_offsets": np.array([], np.int64)}, "must rise"),
        ([jpeg()], {"train_offsets": np.array([0, len(jpeg())], np.int32)}, "int64"),
        ([jpeg()], {"y_train": np.array([{}], dtype=object)}, "uint8"),
        ([jpeg()], {"y_train": np.zeros(2, np.uint8)}, "one label per image"),
    ],
)
def test_refuses_a_damaged_archive(
    tmp_path: Path, train: list[bytes], changes: dict[str, np.ndarray], message: str
) -> None:
    write_archive(tmp_path / "cifar10_small.npz", train, [jpeg()], **changes)
    with pytest.raises(ValueError, match=message):
        cifar10(tmp_path)


def test_refuses_two_archives(tmp_path: Path) -> None:
    for name in ("cifar10_a.npz", "cifar10_b.npz"):
        write_archive(tmp_path / name, [jpeg()], [jpeg()])
    with pytest.raises(ValueError, match=r"one archive; got cifar10_a.npz, cifar10_b.npz"):
        cifar10(tmp_path)


@pytest.mark.data
@pytest.mark.slow
def test_real_archive(real_data: Callable[[str], Path]) -> None:
    data = cifar10(real_data("cifar10_jpeg75"))
    assert data.train_labels.bincount().tolist() == [5000] * 10
    assert data.test_labels.bincount().tolist() == [1000] * 10
    assert data.test_images.shape == (10000, 3, 32, 32)
