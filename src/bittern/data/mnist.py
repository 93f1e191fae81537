# SPDX-License-Identifier: Apache-2.0
"""MNIST and Fashion-MNIST from a folder with their four idx files."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from bittern.data.idx import read_idx
from bittern.data.images import ImageData, channel_statistics

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DIGITS = tuple(str(d) for d in range(10))
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""In the order of the labels 0 ... 9 (github.com/zalandoresearch/fashion-mnist, README)."""


def mnist(folder: str | Path) -> ImageData:
    """Read MNIST (LeCun, Cortes, Burges) from `folder`: uint8 images [count, 1, height, width], ten digits.

    The folder holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
    t10k-labels-idx1-ubyte, each plain or with the ending .gz.

    Raises: FileNotFoundError for a missing folder or file; ValueError for a damaged one.
    """
    return _read("mnist", Path(folder), DIGITS)


def fashion_mnist(folder: str | Path) -> ImageData:
    """Read Fashion-MNIST (1708.07747) from `folder`: uint8 images [count, 1, height, width], ten kinds of clothing.

    The files have the names of MNIST's: see `mnist`.

    Raises: FileNotFoundError for a missing folder or file; ValueError for a damaged one.
    """
    return _read("fashion_mnist", Path(folder), FASHION)


def _read(name: str, folder: Path, classes: tuple[str, ...]) -> ImageData:
    train_images, train_labels, test_images, test_labels = (_read_file(name, folder, file) for file in FILES)
    mean, std = channel_statistics(train_images)
    return ImageData(
        name=name,
        classes=classes,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        mean=mean,
        std=std,
    )


def _read_file(name: str, folder: Path, file: str) -> Tensor:
    """Images as [count, 1, height, width] uint8, labels as [count] int64."""
    found = [path for path in (folder / file, folder / f"{file}.gz") if path.is_file()]
    if not found:
        what = "lacks it" if folder.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"{name}: needs {file} or {file}.gz, but the folder {folder} {what}; "
            f"put these files there, plain or with .gz: {', '.join(FILES)}"
        )
    values = read_idx(found[0])
    dims = 3 if "images" in file else 1
    if values.ndim != dims or values.numel() == 0:
        raise ValueError(f"{name}: {found[0]} must hold {dims} dimension(s), not empty; got {list(values.shape)}")
    return values.unsqueeze(1) if dims == 3 else values.long()
