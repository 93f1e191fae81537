# SPDX-License-Identifier: Apache-2.0
"""The records of the methods that train whole numbers of 2 to 8 bits, in the order of `bittern.quant.ALL`."""

from __future__ import annotations

import dataclasses
import functools

import torch

from bittern import quant
from bittern.recipes.published import Published
from bittern.recipes.record import Decay, PaperRecipe
from bittern.train.schedule import Cosine, Steps

_MOMENTUM = functools.partial(torch.optim.SGD, momentum=0.9)
_OTHERS = "a training of other authors"
_FIRST_AND_LAST = "The paper's first and last layer have 8 bits; here they stay real."

PACT = PaperRecipe(
    method=quant.PACT,
    task="CIFAR-10, ResNet-20",
    source="arXiv 1805.06085, of which excerpts were read; App0lyon/PACT README.md, which lists the paper's settings",
    published=(
        Published(90.8, "CIFAR-10", "ResNet-20", "KwangHoonAn/PACT README.md", note="4 bits, the paper's figure there"),
        Published(88.9, "CIFAR-10", "ResNet-20", "KwangHoonAn/PACT README.md", note="2 bits, the paper's figure there"),
        Published(90.89, "CIFAR-10", "ResNet-20", "KwangHoonAn/PACT README.md", note=f"4 bits, {_OTHERS}"),
    ),
    epochs=200,
    batch_size=128,
    optimizer=_MOMENTUM,
    learning_rate=0.1,
    schedule=Steps(((60 / 200, 0.1), (120 / 200, 0.01))),
    decay=Decay(2e-4, 2e-4, 2e-4),
    augmentation="random crop of 32 from 40 pixels, mirrored",
    crop_and_flip=True,
    start="a trained network's",
    differences=(_FIRST_AND_LAST, "How many images a batch of the paper has was not read."),
)

LSQ = PaperRecipe(
    method=quant.LSQ,
    task="ImageNet, ResNet-18",
    source=f"arXiv 1902.08153, whose first pages were read; hustzxd/LSQuantization README.md, {_OTHERS}",
    published=(
        Published(
            70.26, "ImageNet", "ResNet-18", "hustzxd/LSQuantization README.md", twin=69.76, note=f"4 bits, {_OTHERS}"
        ),
        Published(
            70.36, "ImageNet", "ResNet-18", "ProhetTeam/cls_quant_config LSQ/README.md", note=f"4 bits, {_OTHERS}"
        ),
        Published(
            66.31, "ImageNet", "ResNet-18", "ProhetTeam/cls_quant_config LSQ/README.md", note=f"2 bits, {_OTHERS}"
        ),
    ),
    epochs=90,
    batch_size=512,
    optimizer=_MOMENTUM,
    learning_rate=1e-2,
    schedule=Cosine(),
    decay=Decay(1e-4, 1e-4),
    augmentation="random resized crop, mirrored",
    crop_and_flip=True,
    start="a trained network's",
    differences=(_FIRST_AND_LAST, "Whether steps are decayed was not read; here they are not."),
)

TQT = dataclasses.replace(
    LSQ,
    method=quant.TQT,
    task="settings of LSQ",
    source="arXiv 1903.08066, of which excerpts were read; LSQ's settings",
    published=(),
    epochs=5,
    differences=(
        "The paper's rates were not read; it trains on for less than 5 epochs at 8 bits. Rates, schedule and decay are "
        "LSQ's.",
        _FIRST_AND_LAST,
    ),
)

LSQ_PLUS = dataclasses.replace(
    LSQ,
    method=quant.LSQPlus,
    task="settings of LSQ",
    source="arXiv 2004.09576, of which excerpts were read; LSQ's settings",
    published=(
        Published(90.3, "CIFAR-10", "ResNet-18", "ZouJiu1/LSQplus README.md", twin=92.6, note=f"8 bits, {_OTHERS}"),
    ),
    differences=("The paper's settings were not read: rates, schedule and decay are LSQ's.", _FIRST_AND_LAST),
)

INTEGER_ONLY = dataclasses.replace(
    LSQ,
    method=quant.IntegerOnly,
    task="settings of LSQ",
    source="arXiv 1712.05877, which was not read itself; gemmlowp doc/quantization.md; LSQ's settings",
    published=(),
    differences=(
        "The paper's settings were not read: rates, schedule and decay are LSQ's.",
        "The paper quantizes every layer; here the first and the last stay real.",
    ),
)

FQN = dataclasses.replace(
    LSQ,
    method=quant.FQN,
    task="settings of LSQ",
    source="arXiv 1712.05877 for the grids; Fully Quantized Network for Object Detection; neither read itself",
    published=(),
    differences=(
        "The paper's settings were not read: rates, schedule and decay are LSQ's.",
        "The paper fine-tunes detectors whose batch norms are frozen (bittern.nn.freeze_norms) and quantizes every "
        "layer; here the first and the last stay real.",
    ),
)

DYNAMIC_FIXED_POINT = dataclasses.replace(
    LSQ,
    method=quant.DynamicFixedPoint,
    task="settings of LSQ",
    source="arXiv 1604.03168, which was not read itself; pmgysel/caffe; LSQ's settings",
    published=(),
    differences=(
        "The paper's settings were not read: rates, schedule and decay are LSQ's.",
        "The paper quantizes every layer; here the first and the last stay real.",
    ),
)
