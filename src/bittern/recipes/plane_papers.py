# SPDX-License-Identifier: Apache-2.0
"""The records of methods whose inputs or weights are sums of planes, in the order of `bittern.binary.ALL`."""

from __future__ import annotations

import dataclasses
import functools

import torch

from bittern import binary
from bittern.recipes.papers import XNOR_NET
from bittern.recipes.published import Published
from bittern.recipes.record import Decay, PaperRecipe
from bittern.train.schedule import Cosine

_ADABIN = "huawei-noah/Efficient-Computing BinaryNetworks/AdaBin/README.md"

HORQ = dataclasses.replace(
    XNOR_NET,
    method=binary.HORQ,
    task="settings of XNOR-Net",
    source="arXiv 1708.08687, of which the abstract was read; allenai/XNOR-Net train.lua, opts.lua",
    published=(),
    differences=(
        "Neither the paper's settings nor code of its authors were found: rates, schedule and start are XNOR-Net's, "
        "whose first order the method is.",
    ),
)

ABC_NET = dataclasses.replace(
    XNOR_NET,
    method=binary.ABCNet,
    task="settings of XNOR-Net",
    source="arXiv 1711.11294, of which the abstract was read; allenai/XNOR-Net train.lua, opts.lua",
    published=(
        Published(
            42.7,
            "ImageNet",
            "ResNet-18",
            "arXiv 2103.00841, table 5 of the text as submitted",
            twin=69.6,
            note="one base and one activation",
        ),
    ),
    start="as the network's real weights",
    differences=(
        "Neither the paper's settings nor code of its authors were found: rates and schedule are XNOR-Net's.",
    ),
)

ADABIN = PaperRecipe(
    method=binary.AdaBin,
    task="CIFAR-10, ResNet-20",
    source="arXiv 2208.08084; huawei-noah/Efficient-Computing BinaryNetworks/AdaBin/cifar10: main.py, train.sh",
    published=(
        Published(88.1, "CIFAR-10", "ResNet-20", _ADABIN),
        Published(92.3, "CIFAR-10", "VGG-small", _ADABIN),
        Published(53.9, "ImageNet", "AlexNet", _ADABIN),
        Published(63.1, "ImageNet", "ResNet-18", _ADABIN),
        Published(66.4, "ImageNet", "ResNet-18", _ADABIN, note="in two steps as ReActNet"),
        Published(66.4, "ImageNet", "ResNet-34", _ADABIN),
    ),
    epochs=400,
    batch_size=128,
    optimizer=functools.partial(torch.optim.SGD, momentum=0.9),
    learning_rate=0.1,
    schedule=Cosine(),
    decay=Decay(1e-4, 1e-4, 1e-4),
    augmentation="random crop of 32 from 40 pixels, mirrored",
    crop_and_flip=True,
    start="N(0, 2 / fan_in), the linear layer too",
    differences=(
        "The authors' networks have Maxout, two learned slopes a channel, where those here have Hardtanh, and a norm "
        "in front of the last layer.",
        "The authors report the epoch that was best on the test images.",
    ),
)
