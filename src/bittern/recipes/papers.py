# SPDX-License-Identifier: Apache-2.0
"""The records of the methods that benchmarks compare, in the order of `bittern.binary.COMPARED`."""

from __future__ import annotations

import functools

import torch

from bittern import binary
from bittern.recipes.published import Published
from bittern.recipes.record import Decay, PaperRecipe
from bittern.train.loss import CrossEntropy, Distillation, SquaredHinge
from bittern.train.schedule import Cosine, Exponential, Linear, Steps

_MOMENTUM = functools.partial(torch.optim.SGD, momentum=0.9)
_CROP = "random crop of 32 from 40 pixels, mirrored"
_RESIZED = "random resized crop (area 0.08 to 1), lighting 0.1, mirrored"
_HE = "N(0, 2 / fan_in)"
_CIFAR_TABLE = "arXiv 2103.00841, table 1 of the text as submitted"
_IMAGENET_TABLE = "arXiv 2103.00841, table 5 of the text as submitted"
"""Of FDA's authors, who print the float networks too."""


def resnet20(accuracy: float) -> Published:
    return Published(accuracy, "CIFAR-10", "ResNet-20", _CIFAR_TABLE, twin=92.10, like="resnet20_cifar")


def vgg_small(accuracy: float) -> Published:
    return Published(accuracy, "CIFAR-10", "VGG-small", _CIFAR_TABLE, twin=94.10, like="vgg_small")


def _resnet18(accuracy: float) -> Published:
    return Published(accuracy, "ImageNet", "ResNet-18", _IMAGENET_TABLE, twin=69.6)


_XNOR_PYTORCH = "jiecaoyu/XNOR-Net-PyTorch README.md"
_RESNET_E = "hpi-xnor/BMXNet-v2-wiki CurrentBestResults.md"

BNN = PaperRecipe(
    method=binary.BNN,
    task="CIFAR-10, VGG-like",
    source="arXiv 1602.02830; MatthieuCourbariaux/BinaryNet Train-time/cifar10.py",
    published=(
        Published(88.6, "CIFAR-10", "VGG-like", "MatthieuCourbariaux/BinaryNet Train-time/README.md"),
        vgg_small(89.90),
        _resnet18(42.2),
        Published(60.0, "ImageNet", "ResNetE-18", _RESNET_E, note="clip 1.3, 120 epochs of RAdam", like="resnet_e18"),
        Published(63.2, "ImageNet", "ResNetE-34", _RESNET_E, note="clip 1.3, 120 epochs of RAdam", like="resnet_e34"),
    ),
    epochs=500,
    batch_size=50,
    optimizer=torch.optim.Adam,
    learning_rate=1e-3,
    schedule=Exponential(end=3e-4),
    loss=SquaredHinge(),
    glorot_rates=True,
    augmentation="none",
    crop_and_flip=False,
    start="U(-1, 1)",
    differences=(
        "The authors' network has a norm behind its last layer, on whose outputs the loss works.",
        "Its norms have eps = 1e-4; those here torch's 1e-5.",
        "The authors hold 5,000 training images back and report the epoch that was best on them.",
    ),
)

XNOR_NET = PaperRecipe(
    method=binary.XNORNet,
    task="ImageNet, AlexNet",
    source="arXiv 1603.05279; allenai/XNOR-Net train.lua, opts.lua, README.md",
    published=(
        Published(43.3, "ImageNet", "AlexNet", "allenai/XNOR-Net README.md", like="alexnet"),
        Published(44.87, "ImageNet", "AlexNet", _XNOR_PYTORCH, twin=57.1, like="alexnet"),
        Published(86.28, "CIFAR-10", "NIN", _XNOR_PYTORCH, twin=89.67, like="nin"),
        resnet20(85.23),
        vgg_small(89.80),
        _resnet18(51.2),
    ),
    epochs=55,
    batch_size=800,
    optimizer=torch.optim.Adam,
    learning_rate=1e-3,
    schedule=Steps(((18 / 55, 0.5), (29 / 55, 0.1), (43 / 55, 0.05), (52 / 55, 0.01))),
    decay=Decay(real=5e-4),
    augmentation="random crop, mirrored",
    crop_and_flip=True,
    start=_HE,
    differences=(
        "The code decays every parameter by 5e-4 until epoch 29 and then none; here real weights decay throughout, "
        "and latent weights never, because the code multiplies their gradient by n, which makes decay n times weaker.",
        "An epoch of the code is 1,500 batches.",
    ),
)

DOREFA = PaperRecipe(
    method=binary.DoReFa,
    task="SVHN, 7 convolutions",
    source="arXiv 1606.06160; tensorpack/tensorpack examples/DoReFa-Net/svhn-digit-dorefa.py",
    published=(
        Published(
            96.8,
            "SVHN",
            "7 convolutions",
            "tensorpack/tensorpack examples/DoReFa-Net/svhn-digit-dorefa.py",
            twin=97.1,
            up_to=96.9,
            note="weights and inputs of 1 bit, gradients of 4",
        ),
        resnet20(84.44),
        vgg_small(90.20),
        _resnet18(52.5),
    ),
    epochs=200,
    batch_size=128,
    optimizer=functools.partial(torch.optim.Adam, eps=1e-5),
    learning_rate=1e-3,
    schedule=Steps(((0.5, 0.5),)),
    decay=Decay(real=1e-7),
    augmentation="resized to 40 x 40, brightness, contrast",
    crop_and_flip=False,
    start=f"{_HE}, truncated in the code",
    differences=(
        "The code decays the last layer alone; here all real weights.",
        "The code trains with weights, inputs and gradients of 1, 2 and 4 bits; set them as options of the method.",
        "The code clips |x| before it quantizes, where the paper and the method clip x.",
    ),
)

BIREAL_NET = PaperRecipe(
    method=binary.BiRealNet,
    task="ImageNet, Bi-Real-18",
    source="arXiv 1808.00278; liuzechun/Bi-Real-net pytorch_implementation/BiReal18_34/train.py",
    published=(
        Published(56.4, "ImageNet", "Bi-Real-18", "liuzechun/Bi-Real-net README.md", note="trained as the paper says"),
        _resnet18(56.4),
    ),
    epochs=256,
    batch_size=512,
    optimizer=torch.optim.Adam,
    learning_rate=1e-3,
    schedule=Linear(),
    loss=CrossEntropy(label_smoothing=0.1),
    augmentation=_RESIZED,
    crop_and_flip=True,
    start="0.001 U(0, 1) in the code; a trained real network in the paper; here as the network's real weights",
    differences=(
        "The paper takes a real network with clip(-1, 1), trained in three steps, and goes on with SGD for 20 epochs.",
        "The code steps its schedule before the first epoch, which runs at 255/256 of the rate.",
    ),
)

XNOR_NET_PLUS_PLUS = PaperRecipe(
    method=binary.XNORNetPlusPlus,
    task="ImageNet, ResNet-18",
    source="arXiv 1909.13863; 1adrianb/binary-networks-pytorch examples/imagenet.py",
    epochs=90,
    batch_size=256,
    optimizer=torch.optim.AdamW,
    learning_rate=1e-3,
    schedule=Steps(((40 / 90, 0.1), (70 / 90, 0.01), (80 / 90, 0.001))),
    first_decay=Decay(1e-2, 1e-2, 1e-2),
    augmentation="random resized crop (area 0.08 to 1), mirrored",
    crop_and_flip=True,
    start="N(0, 2 / fan_out) in the code; here as the network's real weights",
    differences=(
        "Only the code of the first author's library was read, not the paper's own settings, which may differ.",
        "The code names milestones at epochs 100 and 110 too, which its default of 90 epochs does not reach.",
    ),
)

REACTNET = PaperRecipe(
    method=binary.ReActNet,
    task="ImageNet, ReAct-ResNet-18",
    source="arXiv 2003.03488; liuzechun/ReActNet resnet/1_step1 and resnet/2_step2: train.py, run.sh",
    published=(
        Published(65.5, "ImageNet", "ReAct-ResNet-18", "liuzechun/ReActNet README.md, of two versions", up_to=65.9),
        Published(69.4, "ImageNet", "ReActNet-A", "liuzechun/ReActNet README.md"),
    ),
    epochs=128,
    batch_size=512,
    optimizer=torch.optim.Adam,
    learning_rate=2.5e-3,
    schedule=Linear(),
    first_decay=Decay(real=1e-5),
    distillation=Distillation(),
    augmentation=_RESIZED,
    crop_and_flip=True,
    start="the first stage's weights, which start as torch's",
    differences=(
        "The teacher is a ResNet-34 trained on ImageNet.",
        "In its first stage the code decays thresholds and shifts too, and not the last layer; here real weights.",
        "The code offers 256 epochs at 1e-3 as well; MobileNet's rates are half of these with batches of 256.",
    ),
)

RECU = PaperRecipe(
    method=binary.ReCU,
    task="CIFAR-10, ResNet-18",
    source="arXiv 2103.12369; z-hXu/ReCU cifar/main.py, cifar/run.sh",
    published=(
        Published(92.8, "CIFAR-10", "ResNet-18", "z-hXu/ReCU README.md"),
        Published(87.5, "CIFAR-10", "ResNet-20", "z-hXu/ReCU README.md", like="resnet20_cifar"),
        Published(92.2, "CIFAR-10", "VGG-small", "z-hXu/ReCU README.md", like="vgg_small"),
        Published(60.98, "ImageNet", "ResNet-18", "z-hXu/ReCU README.md"),
    ),
    epochs=600,
    batch_size=256,
    optimizer=_MOMENTUM,
    learning_rate=0.1,
    schedule=Cosine(warmup=5 / 600),
    decay=Decay(5e-4, 5e-4, 5e-4),
    augmentation=_CROP,
    crop_and_flip=True,
    start=f"{_HE}; VGG-small N(0, 2 / fan_out)",
    differences=("The code's warm-up rises once in each of 5 epochs.",),
)

FDA = PaperRecipe(
    method=binary.FDA,
    task="CIFAR-10, ResNet-20 and VGG-small",
    source="arXiv 2103.00841, section 3.1; no training code was read",
    published=(resnet20(86.20), vgg_small(92.54), _resnet18(60.2)),
    epochs=400,
    batch_size=128,
    optimizer=_MOMENTUM,
    learning_rate=0.1,
    schedule=Cosine(),
    decay=Decay(1e-4, 1e-4, 1e-4),
    augmentation="random crop, mirrored",
    crop_and_flip=True,
    start="not given; here as the network's real weights",
    differences=(
        "The paper does not name the schedule; a cosine is BiBench's and IR-Net's.",
        "The paper does not say what decays; here every parameter, as torch's SGD does by itself.",
    ),
)

IR_NET = PaperRecipe(
    method=binary.IRNet,
    task="CIFAR-10, ResNet-20",
    source="arXiv 1909.10788; htqin/IR-Net CIFAR-10/ResNet20/1w1a/trainer.py",
    published=(
        Published(86.5, "CIFAR-10", "ResNet-20", "htqin/IR-Net README.md", like="resnet20_cifar"),
        Published(90.4, "CIFAR-10", "VGG-small", "htqin/IR-Net README.md", like="vgg_small"),
        Published(91.5, "CIFAR-10", "ResNet-18", "htqin/IR-Net README.md"),
        Published(58.1, "ImageNet", "ResNet-18", "htqin/IR-Net README.md"),
        resnet20(85.40),
        vgg_small(90.40),
        _resnet18(58.1),
    ),
    epochs=400,
    batch_size=128,
    optimizer=_MOMENTUM,
    learning_rate=0.1,
    schedule=Cosine(),
    decay=Decay(1e-4, 1e-4, 1e-4),
    augmentation=_CROP,
    crop_and_flip=True,
    start=f"{_HE}, the linear layer too; VGG-small N(0, 2 / fan_out)",
    differences=(),
)
