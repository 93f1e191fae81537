# SPDX-License-Identifier: Apache-2.0
"""The records of the methods whose weights alone have few bits, in the order of `bittern.quant.ALL`."""

from __future__ import annotations

import dataclasses
import functools

import torch

from bittern import quant
from bittern.nn import is_latent_weight
from bittern.optim import Case, Cases, IntegerSGD, LayerRates
from bittern.recipes.published import Published
from bittern.recipes.record import Decay, PaperRecipe
from bittern.train.loss import Distillation, SumOfSquares
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

_WAGE_LOG = "boluoweifenda/WAGE log/2018-01-30(vgg7 2888).txt"

WAGE = PaperRecipe(
    method=quant.WAGE,
    task="CIFAR-10, VGG7",
    source=f"arXiv 1802.04680, whose text was not read; {_WAGE_LOG}, source/Top.py, source/getData.py",
    published=(Published(92.74, "CIFAR-10", "VGG7", _WAGE_LOG, note="after the last epoch", like="vgg7"),),
    epochs=300,
    batch_size=128,
    optimizer=Cases(Case(IntegerSGD, is_latent_weight), Case(torch.optim.Adam, lr=1e-3)),
    learning_rate=8.0,
    schedule=Steps(((200 / 300, 1 / 8), (250 / 300, 1 / 64))),
    loss=SumOfSquares(error_bits=8),
    augmentation="random crop of 32 from 40 pixels, mirrored",
    crop_and_flip=True,
    start="U(-L, L), L = max(sqrt(3 / fan_in), 0.75)",
    differences=(
        "The authors' network, models.vgg7, has only weights of this method; Adam trains what other networks have "
        "beside them.",
        "The code maps pixels to [-1, 1]; here they are normalized by their mean and deviation, and clipped at the "
        "first layer.",
        "The code read clips weights to +-0.5 after each update, the paper, as others tell it, to +-(1 - 2^-7); "
        "IntegerSGD(limit=0.5) is the code's.",
        "Errors are shifted by their maximum, so the sum over a batch, the code's, and the mean, here, train alike.",
    ),
)

GFPQ = PaperRecipe(
    method=quant.GFPQ,
    task="ImageNet, SqueezeNet 1.1, fine-tuned",
    source="arXiv 2111.03759 (MQBench), whose text was not read; aovoc/nnieqat-pytorch README.md",
    published=(
        Published(
            57.73, "ImageNet", "SqueezeNet 1.1", "aovoc/nnieqat-pytorch README.md", twin=57.83, note="both fine-tuned"
        ),
    ),
    epochs=5,
    batch_size=128,
    optimizer=_MOMENTUM,
    learning_rate=1e-4,
    schedule=Cosine(),
    augmentation="none",
    crop_and_flip=False,
    start="a trained network's",
    differences=("Epochs, batch, rate and schedule of the fine-tuning were not read; these are this library's.",),
)

MSFP = dataclasses.replace(
    GFPQ,
    method=quant.MSFP,
    task="a trained network, fine-tuned",
    source="arXiv 2310.10537 (MX formats); MSFP, NeurIPS 2020, of which summaries were read",
    published=(),
    differences=(
        "Brainwave fine-tunes for a few epochs; rates and schedules were not read, and these are this library's.",
    ),
)

UI8 = PaperRecipe(
    method=quant.UI8,
    task="ImageNet, ResNet-50",
    source="arXiv 1912.12607, of which summaries were read",
    epochs=100,
    batch_size=256,
    optimizer=LayerRates(_MOMENTUM),
    learning_rate=0.1,
    schedule=Cosine(),
    decay=Decay(1e-4, 1e-4),
    augmentation="random crop, mirrored",
    crop_and_flip=True,
    start="as the network's real weights",
    differences=(
        "Epochs, batch, rate, schedule, decay and augmentation of the authors were not read; these are those of common "
        "trainings of ResNet-50.",
    ),
)
