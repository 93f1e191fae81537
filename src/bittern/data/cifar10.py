# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 from a folder: the binary version, or an archive of JPEGs. Never the pickled version.

Binary version (www.cs.toronto.edu/~kriz/cifar.html): data_batch_1.bin ... data_batch_5.bin and test_batch.bin, each
10000 records of one label byte and 3072 pixel bytes (1024 red, 1024 green, 1024 blue, rows first).

Archive (cifar10_*.npz): train_jpeg and test_jpeg, uint8, the JPEG files back to back; train_offsets and test_offsets,
int64, image i is jpeg[offsets[i]:offsets[i + 1]]; y_train and y_test, uint8. JPEG is lossy: accuracy on such an
archive must not be set beside figures on the real CIFAR-10.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bittern.data.images import ImageData, channel_statistics
from bittern.data.npz import read_npz

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
PIXEL_BYTES = 3 * SIDE * SIDE
RECORDS_PER_FILE = 10_000
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILES = ("test_batch.bin",)
BINARY_FOLDER = "cifar-10-batches-bin"
PICKLED = "data_batch_1"
LAYOUT = f"{', '.join(TRAIN_FILES + TEST_FILES)} (the binary version), or one cifar10_*.npz archive of JPEGs"

Bytes = npt.NDArray[np.uint8]


def cifar10(folder: str | Path) -> ImageData:
    """Read CIFAR-10 from `folder`, or from its subfolder cifar-10-batches-bin: uint8 images [count, 3, 32, 32].

    An archive of JPEGs is decoded once, in a few seconds, and its set is named "cifar10_jpeg": it is lossy.
    The python version is pickled, and unpickling runs code from the file: it is refused.

    Raises: FileNotFoundError for a missing folder or file; ValueError for the python version, a damaged file, or
    a folder that holds more than one archive.
    """
    folder = Path(folder)
    for place in (folder, folder / BINARY_FOLDER):
        if (place / TRAIN_FILES[0]).is_file():
            return _read_binary(place)
    archives = sorted(folder.glob("cifar10_*.npz"))
    if len(archives) > 1:
        listed = ", ".join(path.name for path in archives)
        raise ValueError(f"cifar10: {folder} must hold one archive; got {listed}; move the others away")
    if archives:
        return _read_archive(archives[0])
    if (folder / PICKLED).exists() or (folder / "cifar-10-batches-py").exists():
        raise ValueError(
            f"cifar10: {folder} holds the python version, whose pickle files can run code; "
            f"put the binary version there instead: {LAYOUT}"
        )
    what = "holds none of them" if folder.is_dir() else "does not exist"
    raise FileNotFoundError(f"cifar10: the folder {folder} {what}; put there: {LAYOUT}")


def _read_binary(folder: Path) -> ImageData:
    train_images, train_labels = _read_records(folder, TRAIN_FILES)
    test_images, test_labels = _read_records(folder, TEST_FILES)
    return _image_data("cifar10", train_images, train_labels, test_images, test_labels)


def _read_records(folder: Path, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    record_bytes = 1 + PIXEL_BYTES
    parts = []
    for name in names:
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"cifar10: {folder} lacks {name}; put there: {LAYOUT}")
        wanted, got = RECORDS_PER_FILE * record_bytes, path.stat().st_size
        if got != wanted:
            raise ValueError(f"cifar10: {path} must have {wanted} bytes; got {got}; download it again")
        parts.append(torch.from_numpy(np.fromfile(path, dtype=np.uint8, count=wanted)).view(-1, record_bytes))
    records = torch.cat(parts)
    return records[:, 1:].reshape(-1, 3, SIDE, SIDE).contiguous(), records[:, 0].long()


def _read_archive(path: Path) -> ImageData:
    arrays = read_npz(
        path,
        {
            "train_jpeg": np.dtype(np.uint8),
            "train_offsets": np.dtype(np.int64),
            "y_train": np.dtype(np.uint8),
            "test_jpeg": np.dtype(np.uint8),
            "test_offsets": np.dtype(np.int64),
            "y_test": np.dtype(np.uint8),
        },
    )
    return _image_data(
        "cifar10_jpeg",
        _decode(path, "train", arrays["train_jpeg"], arrays["train_offsets"]),
        torch.from_numpy(arrays["y_train"]).long(),
        _decode(path, "test", arrays["test_jpeg"], arrays["test_offsets"]),
        torch.from_numpy(arrays["y_test"]).long(),
    )


def _decode(path: Path, part: str, jpeg: Bytes, offsets: npt.NDArray[np.int64]) -> Tensor:
    """Images [count, 3, 32, 32] uint8 from JPEG files laid back to back."""
    from PIL import Image

    in_order = len(offsets) > 1 and offsets[0] == 0 and offsets[-1] == len(jpeg) and bool((np.diff(offsets) > 0).all())
    if not in_order:
        raise ValueError(
            f"cifar10: {part}_offsets of {path} must rise from 0 to the {len(jpeg)} bytes of {part}_jpeg; "
            "the archive is damaged: fetch it again"
        )
    pixels = np.empty((len(offsets) - 1, SIDE, SIDE, 3), dtype=np.uint8)
    for index in range(len(pixels)):
        data = jpeg[offsets[index] : offsets[index + 1]].tobytes()
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                # checked before decoding: a header may claim gigapixels
                if image.size != (SIDE, SIDE) or image.mode != "RGB":
                    raise ValueError(f"must be RGB of {SIDE} x {SIDE}; got {image.mode} of {image.size}")
                pixels[index] = np.asarray(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"cifar10: {part} image {index} of {path} is damaged: {error}") from error
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _image_data(
    name: str, train_images: Tensor, train_labels: Tensor, test_images: Tensor, test_labels: Tensor
) -> ImageData:
    mean, std = channel_statistics(train_images)
    return ImageData(name, CLASSES, train_images, train_labels, test_images, test_labels, mean, std)
