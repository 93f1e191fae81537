# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bittern.data import ImageData, channel_statistics, fashion_mnist, mnist

IdxBytes = Callable[..., bytes]
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture
def folder(tmp_path: Path, idx_bytes: IdxBytes) -> Path:
    rng = np.random.default_rng(0)
    arrays = (
        rng.integers(0, 256, (6, 4, 5)),
        rng.integers(0, 10, 6),
        rng.integers(0, 256, (3, 4, 5)),
        rng.integers(0, 10, 3),
    )
    for name, values in zip(FILES, arrays, strict=True):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(values)))
    return tmp_path


@pytest.mark.parametrize(
    ("read", "name", "first"), [(mnist, "mnist", "0"), (fashion_mnist, "fashion_mnist", "T-shirt/top")]
)
def test_reads_a_folder(folder: Path, read: Callable[[Path], ImageData], name: str, first: str) -> None:
    data = read(folder)
    assert (data.name, data.classes[0], len(data.classes)) == (name, first, 10)
    assert data.train_images.shape == (6, 1, 4, 5)
    assert data.test_images.shape == (3, 1, 4, 5)
    assert data.train_labels.dtype == torch.int64
    assert (data.mean, data.std) == channel_statistics(data.train_images)


def test_plain_files_read_the_same(folder: Path) -> None:
    zipped = mnist(folder)
    for name in FILES:
        packed = folder / f"{name}.gz"
        (folder / name).write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    plain = mnist(folder)
    assert torch.equal(zipped.train_images, plain.train_images)
    assert torch.equal(zipped.test_labels, plain.test_labels)


def test_missing_folder_and_file_say_what_is_expected(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"does not exist.*t10k-labels-idx1-ubyte"):
        fashion_mnist(folder / "nowhere")
    (folder / f"{FILES[2]}.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-images-idx3-ubyte or .*lacks it.*train-images-idx3-ubyte"):
        mnist(folder)


def test_images_and_labels_that_do_not_belong_together(folder: Path, idx_bytes: IdxBytes) -> None:
    (folder / FILES[1]).write_bytes(idx_bytes(np.zeros(5)))
    with pytest.raises(ValueError, match="one label per image"):
        mnist(folder)
    (folder / FILES[1]).write_bytes(idx_bytes(np.full(6, 10)))
    with pytest.raises(ValueError, match=r"0 \.\.\. 9"):
        mnist(folder)
    (folder / FILES[1]).write_bytes(idx_bytes(np.zeros((6, 1))))
    with pytest.raises(ValueError, match="1 dimension"):
        mnist(folder)


@pytest.mark.data
def test_real_fashion_mnist(real_data: Callable[[str], Path]) -> None:
    data = fashion_mnist(real_data("fashion_mnist"))
    assert data.train_labels.bincount().tolist() == [6000] * 10
    assert data.test_labels.bincount().tolist() == [1000] * 10
    assert data.image_shape == (1, 28, 28)
    assert (round(data.mean[0], 4), round(data.std[0], 4)) == (0.2860, 0.3530)


@pytest.mark.data
def test_real_mnist(real_data: Callable[[str], Path]) -> None:
    data = mnist(real_data("mnist"))
    assert (len(data.train_labels), len(data.test_labels)) == (60000, 10000)
    assert (round(data.mean[0], 4), round(data.std[0], 4)) == (0.1307, 0.3081)
