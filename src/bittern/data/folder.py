# SPDX-License-Identifier: Apache-2.0
"""Folders of classes: one subfolder of image files per class, read when they are needed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bittern.data.batches import generator_for
from bittern.data.image_file import GREY, fitted, is_image_name, opaque, read_frame
from bittern.data.images import ImageData, channel_statistics

TRAIN, TEST = "train", ("test", "val")
MEASURED = 2000
"""Training images, evenly spread, from which mean and standard deviation are taken."""


@dataclass(frozen=True, eq=False, slots=True)
class FolderPart:
    """Files and their labels, indices into the classes."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True, eq=False, slots=True)
class FolderData:
    """A labelled set of image files. `mean` and `std` are per channel, in units of brightness."""

    name: str
    classes: tuple[str, ...]
    train: FolderPart
    test: FolderPart
    image_shape: tuple[int, int, int]
    """(channels, height, width)."""
    resized: bool
    """Whether images of another size are resampled; otherwise they are an error."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def counts(self) -> tuple[int, int]:
        """Training and test images."""
        return len(self.train), len(self.test)

    def first_test_images(self, count: int) -> Tensor:
        """At most `count` of them, uint8 [count, channels, height, width]. Raises: ValueError, OSError."""
        return self.read(self.test.files[:count])

    def in_memory(self) -> ImageData:
        """All images read at once, which takes as much memory as they have pixels. Raises: ValueError, OSError."""
        parts: dict[str, Any] = {}
        for name, part in (("train", self.train), ("test", self.test)):
            parts |= {f"{name}_images": self.read(part.files), f"{name}_labels": torch.tensor(part.labels)}
        return ImageData(name=self.name, classes=self.classes, mean=self.mean, std=self.std, **parts)

    def read(self, files: Sequence[Path]) -> Tensor:
        """uint8 [len(files), channels, height, width].

        Colours are converted, the camera's rotation is applied, transparency becomes black; another size is resampled
        (area-weighted when shrinking, without keeping proportions) where the data set is `resized`.

        Raises: ValueError naming the file that is no image, or has another size; OSError.
        """
        return torch.stack([self._read_one(file) for file in files])

    def describe(self) -> str:
        """What must be the same for a run to go on: the files' names, their labels and the images' shape."""
        crc = 0
        for part in (self.train, self.test):
            for file, label in zip(part.files, part.labels, strict=True):
                crc = zlib.crc32(f"{file.parent.name}/{file.name} {label}\n".encode(), crc)
        return f"{self.name} {list(self.counts)} of {list(self.image_shape)}, files {crc:08x}"

    def _read_one(self, file: Path) -> Tensor:
        channels, height, width = self.image_shape
        image = opaque(read_frame(file).image)
        if image.size != (width, height) and not self.resized:
            raise ValueError(
                f"{file} is {image.width} x {image.height} and the first image {width} x {height}; give a size, "
                "to which all are resampled"
            )
        values = torch.from_numpy(np.array(fitted(image, self.image_shape)))
        return values.unsqueeze(0) if channels == 1 else values.permute(2, 0, 1)


def image_folder(folder: str | Path, size: int | None = None, *, test_share: float = 0.2, seed: int = 0) -> FolderData:
    """Find the images of `folder`/train/CLASS and `folder`/test/CLASS (or val), or of `folder`/CLASS.

    Without a test folder a share of each class, at least one image, is held out, drawn with `seed`. Images are read in
    each step, and as RGB, or grey where the first one is. size: all become size x size; None: they must have the size
    of the first one.

    Raises: FileNotFoundError; ValueError for a folder without classes, a class without enough images, classes that
    differ between train and test, a share outside (0, 1).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"image_folder: no folder {folder}; give one with a subfolder of images for each class")
    if not 0.0 < test_share < 1.0:
        raise ValueError(f"image_folder: test_share must lie in (0, 1); got {test_share}")
    if size is not None and size < 1:
        raise ValueError(f"image_folder: size must be at least 1 pixel, or None; got {size}")
    classes, train, test = _parts(folder, test_share, seed)
    first = opaque(read_frame(train.files[0]).image)
    height, width = (size, size) if size is not None else (first.height, first.width)
    shape = (1 if first.mode in GREY else 3, height, width)
    found = FolderData(folder.name, classes, train, test, shape, size is not None)
    some = [train.files[i * len(train) // MEASURED] for i in range(MEASURED)] if len(train) > MEASURED else train.files
    mean, std = channel_statistics(found.read(some))
    if not any(std):
        raise ValueError(
            f"image_folder: all images of {folder} are of one brightness; nothing can be learned from them"
        )
    # a channel that never changes is 0 after normalization, whatever it is divided by
    return FolderData(folder.name, classes, train, test, shape, size is not None, mean, tuple(s or 1.0 for s in std))


def has_classes(folder: Path) -> bool:
    """Whether `image_folder` would find two classes or more there."""
    place = folder / TRAIN if (folder / TRAIN).is_dir() else folder
    return sum(any(_is_image(file) for file in inside.iterdir()) for inside in _subfolders(place)) > 1


def _parts(folder: Path, test_share: float, seed: int) -> tuple[tuple[str, ...], FolderPart, FolderPart]:
    if not (folder / TRAIN).is_dir():
        classes, whole = _files(folder)
        return classes, *_split(folder, classes, whole, test_share, seed)
    tests = [folder / name for name in TEST if (folder / name).is_dir()]
    classes, train = _files(folder / TRAIN)
    if not tests:
        return classes, *_split(folder / TRAIN, classes, train, test_share, seed)
    others, test = _files(tests[0])
    if others != classes:
        differ = ", ".join(sorted(set(classes) ^ set(others))[:3])
        raise ValueError(
            f"image_folder: {folder / TRAIN} and {tests[0]} must hold the same classes; only one has {differ}"
        )
    return classes, train, test


def _split(
    folder: Path, classes: tuple[str, ...], whole: FolderPart, test_share: float, seed: int
) -> tuple[FolderPart, FolderPart]:
    """Training and test part; each class is split on its own."""
    labels = torch.tensor(whole.labels)
    held_out: set[int] = set()
    for label, name in enumerate(classes):
        members = (labels == label).nonzero().flatten()
        if len(members) < 2:
            raise ValueError(f"image_folder: {folder / name} must hold at least 2 images, one to test with; got 1")
        order = torch.randperm(len(members), generator=generator_for(seed, "split", label))
        count = min(max(1, round(test_share * len(members))), len(members) - 1)
        held_out.update(members[order[:count]].tolist())
    chosen = [[i for i in range(len(whole)) if (i in held_out) == test] for test in (False, True)]
    train, test = (
        FolderPart(tuple(whole.files[i] for i in part), tuple(whole.labels[i] for i in part)) for part in chosen
    )
    return train, test


def _files(folder: Path) -> tuple[tuple[str, ...], FolderPart]:
    """The classes, by name, and all their images. Raises: ValueError."""
    found = {
        inside.name: sorted(file for file in inside.rglob("*") if _is_image(file)) for inside in _subfolders(folder)
    }
    if not found:
        raise ValueError(f"image_folder: {folder} must hold a subfolder of images for each class; it has no subfolder")
    empty = [name for name, files in found.items() if not files]
    if empty:
        raise ValueError(f"image_folder: {folder / empty[0]} holds no images; put some there, or take it away")
    files = tuple(file for inside in found.values() for file in inside)
    return tuple(found), FolderPart(files, tuple(i for i, inside in enumerate(found.values()) for _ in inside))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_image(file: Path) -> bool:
    return is_image_name(file) and not file.name.startswith(".") and file.is_file()
