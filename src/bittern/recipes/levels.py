# SPDX-License-Identifier: Apache-2.0
"""The records of methods whose inputs have levels of their own, FracBNN, EWGS and BiT, and BiBERT's beside BiT's."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from bittern import binary
from bittern.binary.bit import use_input_bits
from bittern.recipes.published import Published
from bittern.recipes.record import Decay, PaperRecipe
from bittern.train.added.added_loss import Point
from bittern.train.added.hidden import HiddenMatching
from bittern.train.loss import Distillation
from bittern.train.schedule import Cosine, Linear, Steps
from bittern.train.stages import GIVEN, Stage

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
        "The code learns from a teacher's logits and hidden states, in several steps: `recipes.bit_stages`.",
        "Its optimizer is BERT's own Adam; other tasks have 6 to 50 epochs and rates to 5e-4.",
    ),
)


def bit_stages(
    points: Sequence[Point], *, epochs: int = BIT.epochs, batch_size: int = BIT.batch_size, seed: int = 0
) -> tuple[Stage, ...]:
    """BiT's steps for `train.train_stages` and a network of `binary.BiT`, from a given teacher that is real.

        stage      inputs                             teacher
        two_bits   2 bits                             the given one
        binary     signs; starts from "two_bits"      stage "two_bits"

    Each learns, without labels, from its teacher's logits and from the mean square between what leaves the `points` of
    both, the blocks of a `text_encoder` or a `vit_small`: ("blocks.0", "blocks.1", ...). The network comes with the
    teacher's weights, as `train.start_from` gives it.

    Differences: the authors match what leaves the embeddings too, which no module here gives. Their first step has
    attention of 2 bits; here the products of attention have in both steps the bits that the network has. Which weights
    the second step starts from is an argument of their script; here it is the first step's. Its schedule and
    optimizer are `BIT`'s.
    Errors: ValueError without points.
    Source: arXiv 2205.13016; facebookresearch/bit kd_learner_glue.py, quant_task_distill_glue.py, scripts/run_glue.sh.
    """
    record = BIT.scaled(epochs=epochs, batch_size=batch_size)
    hidden = HiddenMatching(points=tuple(points))
    recipe = record.recipe(seed=seed, distillation=Distillation(), losses=(hidden,))
    two_bits = functools.partial(use_input_bits, bits=2)
    return (
        Stage(name="two_bits", recipe=recipe, operands=two_bits, teacher=GIVEN),
        Stage(name="binary", recipe=recipe, start="two_bits", teacher="two_bits"),
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
