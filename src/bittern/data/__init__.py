# SPDX-License-Identifier: Apache-2.0
"""Data: the embedded digits, readers for image and text files, folders of classes, batches and augmentation."""

from __future__ import annotations

from bittern.data.augment import RandomCropFlip, normalize
from bittern.data.batches import Batch, Batches
from bittern.data.cifar10 import cifar10
from bittern.data.digits import digits
from bittern.data.folder import FolderData, image_folder
from bittern.data.idx import read_idx
from bittern.data.images import ImageData, channel_statistics
from bittern.data.mnist import fashion_mnist, mnist
from bittern.data.text import TextData, characters, read_characters, read_words, sample_text, windows

__all__ = [
    "Batch",
    "Batches",
    "FolderData",
    "ImageData",
    "RandomCropFlip",
    "TextData",
    "channel_statistics",
    "characters",
    "cifar10",
    "digits",
    "fashion_mnist",
    "image_folder",
    "mnist",
    "normalize",
    "read_characters",
    "read_idx",
    "read_words",
    "sample_text",
    "windows",
]
