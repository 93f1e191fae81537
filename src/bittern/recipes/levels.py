# SPDX-License-Identifier: Apache-2.0
"""The records of methods whose inputs have levels of their own, FracBNN, EWGS and BiT, and BiBERT's beside BiT's."""

from __future__ import annotations

import torch

from bittern import binary
from bittern.recipes.published import Published
from bittern.recipes.record import Decay, PaperRecipe
from bittern.train.schedule import Cosine, Linear, Steps

_CROP = "random crop of 32 from 40 pixels, mirrored"
_HE = "N(0, 2 / fan_in)"

_GATED = "gated: inputs of 1.4 bits on average"

FRACBNN = PaperRecipe(
    method=binary.FracBNN,
    task="CIFAR-10, ResNet-20 with thermometer inputs",
    source="arXiv 2012.12206; cornell-zhang/FracBNN cifar10.py, README.md",
    published=(
        Published(89.1, "CIFAR-10", "ResNet-20", "cornell-zhang/FracBNN README.md", note=_GATED),
        Published(71.7, "ImageNet", "FracBNN", "cornell-zhang/FracBNN README.md", note=_GATED),
    ),
    epochs=250,
    batch_size=128,
    optimizer=torch.optim.Adam,
    learning_rate=1e-3,
    schedule=Steps(((0.4, 0.1), (0.6, 0.01), (0.8, 0.001))),
    first_decay=Decay(1e-5, 1e-5, 1e-5),
    augmentation=_CROP,
    crop_and_flip=True,
    start=_HE,
    differences=(
        "In its first stage the code's rate falls linearly to 0.",
        "The code pulls its gates' thresholds towards a target, by 5e-6 of the squared distance; here are no gates.",
        "Its network encodes images by a thermometer; norms and RPReLUs of its own stand between convolutions.",
    ),
)

EWGS = PaperRecipe(
    method=binary.EWGS,
    task="CIFAR-10, ResNet-20",
    source="arXiv 2104.00903; cvlab-yonsei/EWGS CIFAR10/train_quant.py, run.sh; no figures were read",
    epochs=400,
    batch_size=256,
    optimizer=torch.optim.Adam,
    learning_rate=1e-3,
    schedule=Cosine(),
    decay=Decay(1e-4, 1e-4, 1e-4),
    augmentation=_CROP,
    crop_and_flip=True,
    start="a trained real network's; here as the network's real weights",
    differences=(
        "The code gives limits and output scales an Adam of their own, at 1e-5 and without decay; here all share one.",
        "The code sets delta anew every 10 epochs from the trace of the Hessian, or keeps 0.001, as here.",
    ),
)

BIT = PaperRecipe(
    method=binary.BiT,
    task="SST-2, BERT-base",
    source="arXiv 2205.13016; facebookresearch/bit utils_glue.py, scripts/run_glue.sh, README.md",
    published=(
        Published(89.9, "SST-2", "BERT-base", "facebookresearch/bit README.md", twin=93.2),
        Published(86.4, "QNLI", "BERT-base", "facebookresearch/bit README.md", twin=92.1),
        Published(79.5, "MNLI", "BERT-base", "facebookresearch/bit README.md", twin=84.9, note="matched"),
    ),
    epochs=10,
    batch_size=8,
    optimizer=torch.optim.AdamW,
    learning_rate=1e-4,
    schedule=Linear(warmup=0.1),
    decay=Decay(0.01, 0.01),
    augmentation="none",
    crop_and_flip=False,
    start="a network's of more bits, distilled in steps; here as the network's real weights",
    differences=(
        "The code learns from a teacher's logits and hidden states, in several steps.",
        "Its optimizer is BERT's own Adam; other tasks have 6 to 50 epochs and rates to 5e-4.",
    ),
)

BIBERT = PaperRecipe(
    method=binary.BiBERT,
    task="SST-2, BERT-base",
    source="arXiv 2203.06390; htqin/BiBERT quant_task_glue.py, scripts/train_sst2.sh; figures from "
    "facebookresearch/bit README.md",
    published=(
        Published(88.7, "SST-2", "BERT-base", "facebookresearch/bit README.md", twin=93.2),
        Published(72.6, "QNLI", "BERT-base", "facebookresearch/bit README.md", twin=92.1),
        Published(66.1, "MNLI", "BERT-base", "facebookresearch/bit README.md", twin=84.9, note="matched"),
    ),
    epochs=10,
    batch_size=16,
    optimizer=torch.optim.AdamW,
    learning_rate=1e-4,
    schedule=Linear(warmup=0.1),
    decay=Decay(0.01, 0.01),
    augmentation="none",
    crop_and_flip=False,
    start="a real network's that was tuned for the task; here as the network's real weights",
    differences=(
        "The code learns from a teacher's logits, hidden states, and products of queries, of keys and of values.",
        "Its optimizer is BERT's own Adam; other tasks have 5 to 50 epochs.",
    ),
)
