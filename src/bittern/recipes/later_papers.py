# SPDX-License-Identifier: Apache-2.0
"""The records of the methods that came after those of `papers`, in the order of `bittern.binary.ALL`."""

from __future__ import annotations

import functools

import torch

from bittern import binary
from bittern.recipes.published import Published
from bittern.recipes.record import Decay, PaperRecipe
from bittern.train.schedule import Cosine

_MOMENTUM = functools.partial(torch.optim.SGD, momentum=0.9)
_CROP = "random crop of 32 from 40 pixels, mirrored"
_HE = "N(0, 2 / fan_in)"
_WARM_UP = "The code's warm-up rises once in each of 5 epochs."
_BEST = "The authors report the epoch that was best on the test images."
_RBNN = "lmbxmu/RBNN readme.md"
_RESTE = "DravenALG/ReSTE README.md"

RESTE = PaperRecipe(
    method=binary.ReSTE,
    task="CIFAR-10, ResNet-20",
    source="arXiv 2308.06689; DravenALG/ReSTE main.py, utils/arguments.py, README.md",
    published=(
        Published(86.75, "CIFAR-10", "ResNet-20", _RESTE),
        Published(
            87.92, "CIFAR-10", "ResNet-20", _RESTE, note="a shortcut for each convolution", like="resnet20_cifar"
        ),
        Published(92.55, "CIFAR-10", "VGG-small", _RESTE, like="vgg_small"),
        Published(92.63, "CIFAR-10", "ResNet-18", _RESTE),
        Published(60.88, "ImageNet", "ResNet-18", _RESTE),
        Published(65.05, "ImageNet", "ResNet-34", _RESTE),
    ),
    epochs=1000,
    batch_size=256,
    optimizer=_MOMENTUM,
    learning_rate=0.1,
    schedule=Cosine(warmup=5 / 1000),
    decay=Decay(1e-4, 1e-4, 1e-4),
    augmentation=_CROP,
    crop_and_flip=True,
    start=f"{_HE}, the linear layer too",
    differences=(
        "The authors' networks have a ReLU between each binary convolution and its norm, and no Hardtanh.",
        _WARM_UP,
        _BEST,
    ),
)

RBNN = PaperRecipe(
    method=binary.RBNN,
    task="CIFAR-10, ResNet-20",
    source="arXiv 2009.13055; lmbxmu/RBNN cifar/main.py, cifar/utils/options.py, readme.md",
    published=(
        Published(86.5, "CIFAR-10", "ResNet-20", _RBNN),
        Published(87.8, "CIFAR-10", "ResNet-20", _RBNN, note="shortcuts as in Bi-Real Net", like="resnet20_cifar"),
        Published(91.3, "CIFAR-10", "VGG-small", _RBNN, like="vgg_small"),
        Published(92.2, "CIFAR-10", "ResNet-18", _RBNN),
        Published(59.9, "ImageNet", "ResNet-18", _RBNN),
        Published(63.1, "ImageNet", "ResNet-34", _RBNN),
    ),
    epochs=1000,
    batch_size=256,
    optimizer=_MOMENTUM,
    learning_rate=0.1,
    schedule=Cosine(warmup=5 / 1000),
    decay=Decay(1e-4, 1e-4, 1e-4),
    augmentation=_CROP,
    crop_and_flip=True,
    start=f"{_HE}, the linear layer too",
    differences=(_WARM_UP, _BEST),
)
