"""Image sets in memory: the embedded digits, readers for files on disk, batches and augmentation."""

from __future__ import annotations

from bittern.data.augment import RandomCropFlip, normalize
from bittern.data.batches import Batch, Batches
from bittern.data.cifar10 import cifar10
from bittern.data.digits import digits
from bittern.data.idx import read_idx
from bittern.data.images import ImageData, channel_statistics
from bittern.data.mnist import fashion_mnist, mnist

__all__ = [
    "Batch",
    "Batches",
    "ImageData",
    "RandomCropFlip",
    "channel_statistics",
    "cifar10",
    "digits",
    "fashion_mnist",
    "mnist",
    "normalize",
    "read_idx",
]
