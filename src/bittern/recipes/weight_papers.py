# SPDX-License-Identifier: Apache-2.0
"""The records of the methods whose weights alone have few bits, in the order of `bittern.quant.ALL`."""

from __future__ import annotations

import dataclasses
import functools

import torch

from bittern import quant
from bittern.recipes.published import Published
from bittern.recipes.record import Decay, PaperRecipe
from bittern.train.loss import Distillation
from bittern.train.schedule import Cosine, Linear, Steps

_MOMENTUM = functools.partial(torch.optim.SGD, momentum=0.9)


def _alexnet(accuracy: float) -> Published:
    source = "tensorpack examples/DoReFa-Net/alexnet-dorefa.py"
    return Published(accuracy, "ImageNet", "AlexNet", source, twin=58.6, note="a training of other authors")


BWN = PaperRecipe(
    method=quant.BWN,
    task="ImageNet, AlexNet",
    source="arXiv 1603.05279; allenai/XNOR-Net train.lua, opts.lua, README.md",
    published=(Published(56.8, "ImageNet", "AlexNet", "allenai/XNOR-Net README.md"), _alexnet(55.7)),
    epochs=55,
    batch_size=128,
    optimizer=_MOMENTUM,
    learning_rate=1e-2,
    schedule=Steps(((18 / 55, 0.5), (29 / 55, 0.1), (43 / 55, 0.05), (52 / 55, 0.01))),
    decay=Decay(real=5e-4),
    augmentation="random crop, mirrored",
    crop_and_flip=True,
    start="N(0, 2 / fan_in)",
    differences=(
        "The code decays every parameter by 5e-4 until epoch 29 and then none; here real weights decay throughout, "
        "and latent weights never, because the code multiplies their gradient by n, which makes decay n times weaker.",
        "An epoch of the code is 2,500 batches.",
    ),
)

TWN = PaperRecipe(
    method=quant.TWN,
    task="MNIST, LeNet-5",
    source="arXiv 1605.04711; fengfu-chris/caffe-twns examples/mnist/lenet_tn_solver.prototxt, lenet_tn.prototxt",
    epochs=25,
    batch_size=50,
    optimizer=_MOMENTUM,
    learning_rate=1e-2,
    schedule=Steps(((15 / 30, 0.1), (25 / 30, 0.01))),
    decay=Decay(1e-4, 1e-4, 1e-4),
    augmentation="none",
    crop_and_flip=False,
    start="U(-b, b), b = sqrt(3 / fan_in)",
    differences=(
        "The authors' biases learn at twice the rate.",
        "The first and the last layer of the authors' network are ternary too.",
    ),
)

TTQ = PaperRecipe(
    method=quant.TTQ,
    task="CIFAR-10, ResNet-20",
    source="arXiv 1612.01064; czhu95/ternarynet examples/Ternary-Net/tw-cifar10-resnet.py, ternary.py",
    published=(_alexnet(57.7),),
    epochs=400,
    batch_size=128,
    optimizer=_MOMENTUM,
    learning_rate=0.1,
    schedule=Steps(((82 / 400, 0.1), (123 / 400, 0.01), (150 / 400, 0.001))),
    decay=Decay(2e-4, 2e-4),
    augmentation="random crop of 32 from 40 pixels, mirrored",
    crop_and_flip=True,
    start="N(0, 2 / fan_out)",
    differences=(
        "The code's decay falls to a fifth every 480,000 steps.",
        "The code goes on from a trained float network where it is given one.",
    ),
)

ALTERNATING = dataclasses.replace(
    BWN,
    method=quant.Alternating,
    task="settings of BWN",
    source="arXiv 1802.00150, whose first pages were read; allenai/XNOR-Net train.lua, opts.lua",
    published=(),
    start="as the network's real weights",
    differences=(
        "The paper trains language models; its settings were not read, and no code of its authors was found: rates, "
        "schedule and decay are BWN's.",
    ),
)

ONE_BIT = PaperRecipe(
    method=quant.OneBit,
    task="text, LLaMA-7B",
    source="arXiv 2402.11295; xuyuzhuang11/OneBit scripts/llama_7b.sh, scripts/build_start_ckpt.py",
    epochs=50,
    batch_size=128,
    optimizer=functools.partial(torch.optim.AdamW, betas=(0.9, 0.98)),
    learning_rate=4e-4,
    schedule=Cosine(warmup=0.01),
    decay=Decay(1e-2, 1e-2),
    distillation=Distillation(),
    augmentation="none",
    crop_and_flip=False,
    start="+-0.01, the signs of a trained network",
    differences=(
        "The code warms up for 500 steps, about a hundredth of all.",
        "The code decays the two vectors of a layer as well, and compares hidden states with the teacher's too.",
    ),
)

PARETO_Q = PaperRecipe(
    method=quant.ParetoQ,
    task="text, Llama-3.2-1B",
    source="arXiv 2502.02631; facebookresearch/ParetoQ run_train.sh, train.py",
    epochs=1,
    batch_size=2,
    optimizer=torch.optim.AdamW,
    learning_rate=2e-5,
    schedule=Cosine(),
    augmentation="none",
    crop_and_flip=False,
    start="a trained network's",
    differences=("The script is an example on WikiText-2; how many tokens the paper's networks saw is not in it.",),
)

_CARD = "huggingface.co/1bitLLM/bitnet_b1_58-3B README.md"

BIT_NET = PaperRecipe(
    method=quant.BitNet,
    task="text, LLaMA-like of 3B",
    source=f"arXiv 2402.17764; {_CARD}; microsoft/BitNet gpu/model.py; no training code was read",
    published=(
        Published(50.2, "7 zero-shot tasks", "3B", _CARD, twin=49.7, note="the mean, as reported by the authors"),
        Published(49.6, "7 zero-shot tasks", "3B", _CARD, twin=49.7, note="the mean, as trained by others"),
    ),
    epochs=1,
    batch_size=128,
    optimizer=torch.optim.AdamW,
    learning_rate=1.5e-3,
    schedule=Linear(),
    decay=Decay(0.1, 0.1),
    augmentation="none",
    crop_and_flip=False,
    start="not read; here as the network's real weights",
    differences=(
        "Neither how many sequences a batch has nor the optimizer was read; 100B tokens are one pass.",
        "Rates and decay are those of notes on the authors' network of 2B (kevbuh/bitnet SPEC.md): the rate falls from "
        "1.5e-3 to 8e-4 and then from 5e-4 to 0, without decay in that second part; here in one line, with.",
    ),
)
