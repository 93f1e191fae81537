# SPDX-License-Identifier: Apache-2.0
"""The records of the methods that came after those of `papers`, in the order of `bittern.binary.ALL`."""

from __future__ import annotations

import functools

import torch

from bittern import binary
from bittern.recipes.papers import resnet20, vgg_small
from bittern.recipes.published import Published
from bittern.recipes.record import Decay, PaperRecipe
from bittern.train.added.weights import WaveRegularizer
from bittern.train.loss import Distillation, SquaredHinge
from bittern.train.schedule import Cosine, Exponential, Linear, Steps

_MOMENTUM = functools.partial(torch.optim.SGD, momentum=0.9)
_CROP = "random crop of 32 from 40 pixels, mirrored"
_HE = "N(0, 2 / fan_in)"
_WARM_UP = "The code's warm-up rises once in each of 5 epochs."
_BEST = "The authors report the epoch that was best on the test images."
_RBNN = "lmbxmu/RBNN readme.md"
_SIMAN = "lmbxmu/SiMaN README.md"
_BIPER = "edmav4/BiPer README.md"
_BNEXT = "hpi-xnor/BNext README.md"
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

SIMAN = PaperRecipe(
    method=binary.SiMaN,
    task="CIFAR-10, ResNet-20",
    source="arXiv 2102.07981; lmbxmu/SiMaN cifar/main.py, cifar/utils/options.py, README.md",
    published=(
        Published(87.4, "CIFAR-10", "ResNet-20", _SIMAN, like="resnet20_cifar"),
        Published(92.5, "CIFAR-10", "VGG-small", _SIMAN, like="vgg_small"),
        Published(92.5, "CIFAR-10", "ResNet-18", _SIMAN),
        Published(60.1, "ImageNet", "ResNet-18", _SIMAN),
        Published(63.9, "ImageNet", "ResNet-34", _SIMAN),
    ),
    epochs=400,
    batch_size=256,
    optimizer=_MOMENTUM,
    learning_rate=0.1,
    schedule=Cosine(warmup=5 / 400),
    decay=Decay(real=5e-4, elementwise=5e-4),
    augmentation=_CROP,
    crop_and_flip=True,
    start=_HE,
    differences=("The code does not decay the learned scales of binary convolutions either.", _WARM_UP, _BEST),
)

BNN_PLUS = PaperRecipe(
    method=binary.BNNPlus,
    task="CIFAR-10, VGG-like",
    source="arXiv 1812.11800, abstract; the other settings are those of BNN",
    published=(vgg_small(91.31),),
    epochs=500,
    batch_size=50,
    optimizer=torch.optim.Adam,
    learning_rate=1e-3,
    schedule=Exponential(end=3e-4),
    loss=SquaredHinge(),
    glorot_rates=True,
    augmentation="not read",
    crop_and_flip=False,
    start="not read; here U(-1, 1)",
    differences=(
        "The paper's own settings were not read; these are BNN's.",
        "Of the paper's regularizer, train.SignRegularizer, no weight was read, so it is left out.",
    ),
)

BIPER = PaperRecipe(
    method=binary.BiPer,
    task="CIFAR-10, ResNet-18",
    source="arXiv 2404.01278; edmav4/BiPer cifar10/main_stage2.py, README.md",
    published=(
        Published(93.75, "CIFAR-10", "ResNet-18", _BIPER),
        Published(87.5, "CIFAR-10", "ResNet-20", _BIPER, like="resnet20_cifar"),
        Published(92.46, "CIFAR-10", "VGG-small", _BIPER, like="vgg_small"),
        Published(61.4, "ImageNet", "ResNet-18", _BIPER),
        Published(65.73, "ImageNet", "ResNet-34", _BIPER),
    ),
    epochs=300,
    batch_size=256,
    optimizer=_MOMENTUM,
    learning_rate=3.7e-3,
    schedule=Cosine(warmup=5 / 300),
    decay=Decay(1.6e-4, 1.6e-4, 1.6e-4),
    losses=(WaveRegularizer(weight=0.0468),),
    augmentation=_CROP,
    crop_and_flip=True,
    start=f"{_HE} in ResNet-20; the weights of a first stage",
    differences=(
        "This is the second stage; `recipes.biper_stages` has both. The first has weights sin(20 W), 600 epochs, a "
        "rate of 0.021 and a decay of 1.6e-3.",
        "Both add a multiple of the mean of sin(20 W)^2 of each layer to the loss: 0.037 in the first, 0.0468 here.",
        _WARM_UP,
        _BEST,
    ),
)

REBNN = PaperRecipe(
    method=binary.ReBNN,
    task="ImageNet, ReAct-ResNet-18",
    source="arXiv 2302.00956; SteveTsui/ReBNN README.md, which names ReActNet's settings",
    published=(Published(66.9, "ImageNet", "ReAct-ResNet-18", "SteveTsui/ReBNN README.md"),),
    epochs=128,
    batch_size=512,
    optimizer=torch.optim.Adam,
    learning_rate=2.5e-3,
    schedule=Linear(),
    first_decay=Decay(real=1e-5),
    distillation=Distillation(),
    augmentation="random resized crop (area 0.08 to 1), lighting 0.1, mirrored",
    crop_and_flip=True,
    start="the first stage's weights, which start as torch's",
    differences=("Its own training code was not read; rates, epochs and decays are ReActNet's.",),
)

BNEXT = PaperRecipe(
    method=binary.BNext,
    task="ImageNet, BNext",
    source="arXiv 2211.12933; hpi-xnor/BNext src/train_assistant_group_amp.py, src/script/BNext-Tiny, README.md",
    published=(
        Published(72.4, "ImageNet", "BNext-T", _BNEXT, like="bnext_tiny"),
        Published(76.1, "ImageNet", "BNext-S", _BNEXT, like="bnext_small"),
        Published(78.3, "ImageNet", "BNext-M", _BNEXT, like="bnext_middle"),
        Published(80.6, "ImageNet", "BNext-L", _BNEXT, like="bnext_large"),
    ),
    epochs=512,
    batch_size=512,
    optimizer=torch.optim.AdamW,
    learning_rate=1e-3,
    schedule=Cosine(warmup=5 / 512),
    decay=Decay(1e-8, 1e-8, 1e-3),
    augmentation="random resized crop (area 0.08 to 1), RandAugment, mirrored",
    crop_and_flip=True,
    start="N(0, 0.001^2)",
    differences=(
        "The several teachers whose outputs the authors' loss takes are not here.",
        "The code makes signs gradually: the T of clip(v / T, -1, 1) is 1 at first and times 0.9 after each epoch.",
        "The code decays the last layer by 1e-3 and thresholds by 1e-8.",
    ),
)

DSQ = PaperRecipe(
    method=binary.DSQ,
    task="CIFAR-10, ResNet-20",
    source="arXiv 1908.05033, abstract and definition; the settings are IR-Net's",
    published=(resnet20(84.11), vgg_small(91.72)),
    epochs=400,
    batch_size=128,
    optimizer=_MOMENTUM,
    learning_rate=0.1,
    schedule=Cosine(),
    decay=Decay(1e-4, 1e-4),
    augmentation="not read",
    crop_and_flip=True,
    start="not read; here as the network's real weights",
    differences=("The paper's own settings were not read; these are IR-Net's, without a decay of alpha and u.",),
)

_AB = "Ruichen0424/AB-BNN README.md"

AB_BNN = PaperRecipe(
    method=binary.ABBNN,
    task="CIFAR-10, ReAct-ResNet-18 without norms",
    source="arXiv 2403.03739; Ruichen0424/AB-BNN Train_Cifar_step1.ipynb, Train_Cifar_step2.ipynb, README.md",
    published=(
        Published(91.94, "CIFAR-10", "ReAct-ResNet-18", _AB, note="without norms"),
        Published(89.44, "CIFAR-10", "ReActNet-A", _AB, note="without norms"),
        Published(61.39, "ImageNet", "ReAct-ResNet-18", _AB, note="without norms"),
        Published(65.19, "ImageNet", "ReAct-ResNet-34", _AB, note="without norms"),
        Published(66.89, "ImageNet", "ReActNet-A", _AB, note="without norms"),
    ),
    epochs=256,
    batch_size=256,
    optimizer=torch.optim.Adam,
    learning_rate=1e-3,
    schedule=Linear(),
    first_decay=Decay(real=5e-6),
    augmentation="random crop of 32 from 40 pixels (reflected), mirrored",
    crop_and_flip=True,
    start="the first stage's weights, which start as torch's",
    differences=(
        "The authors clip gradients to 0.001 times the size of what they change, per filter, but for the last layer's.",
        "Their networks have no norm: `models.ab_resnet18`. Labels alone teach them.",
        "The abstract says 92.30 % on CIFAR-10. " + _BEST,
        "In the first stage the shifts in front of signs decay too.",
    ),
)

BMXNET = PaperRecipe(
    method=binary.BMXNet,
    task="CIFAR-10, 5 layers",
    source="arXiv 1705.09864; hpi-xnor/BMXNet smd_hpi/examples/binary-imagenet1k: train_cifar10.py, common/fit.py",
    epochs=100,
    batch_size=256,
    optimizer=_MOMENTUM,
    learning_rate=0.5,
    schedule=Steps(tuple((epoch / 100, 0.5 ** (epoch // 10)) for epoch in range(10, 100, 10))),
    decay=Decay(1e-4, 1e-4),
    augmentation="not read",
    crop_and_flip=True,
    start=_HE,
    differences=(
        "MXNet decays the factors of norms too.",
        "Of the text of the paper, and of its figures, nothing was read.",
    ),
)
