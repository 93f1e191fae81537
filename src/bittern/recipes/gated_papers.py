# SPDX-License-Identifier: Apache-2.0
"""The records of methods whose outputs are scaled by what they see of the input."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from bittern import binary
from bittern.recipes.published import Published
from bittern.recipes.record import Decay, PaperRecipe
from bittern.train.added.added_loss import AddedLoss
from bittern.train.added.attention import AttentionMatching
from bittern.train.added.logits import LogitsMatching
from bittern.train.loss import Distillation
from bittern.train.schedule import Steps
from bittern.train.stages import GIVEN, Stage

TRANSFER_POINTS = tuple(f"blocks.{i}" for i in range(8))
"""Modules of `bittern.models.real_to_binary_net` at whose outputs attention is matched."""
_ZOO = "larq/zoo larq_zoo/literature/real_to_bin_nets.py"

REAL_TO_BINARY = PaperRecipe(
    method=binary.RealToBinary,
    task="ImageNet, Real-to-Binary net",
    source="arXiv 2003.11535; larq/zoo larq_zoo/training: multi_stage_experiments.py, learning_schedules.py",
    published=(Published(65.01, "ImageNet", "Real-to-Binary net", f"{_ZOO}, Larq's own training"),),
    epochs=75,
    batch_size=256,
    optimizer=torch.optim.Adam,
    learning_rate=2e-4,
    first_rate=1e-3,
    schedule=Steps(((40 / 75, 0.3), (60 / 75, 0.09), (70 / 75, 0.027)), warmup=5 / 75),
    first_decay=Decay(real=2e-5),
    distillation=Distillation(weight=0.8 / 1.8),
    augmentation="not read",
    crop_and_flip=True,
    start="the first stage's weights, which start as Glorot says",
    differences=(
        "Only Larq's code was read. These are its last two stages; `recipes.real_to_binary_stages` has all three, "
        "whose teachers are the networks before them.",
        "There the loss of the last stage is cross-entropy plus 0.8 times the teacher's divergence, of which this is "
        "5/9: the same steps of Adam. The teacher is the network of the stage before, and in that stage one with real "
        "weights and tanh for signs, whose attention is matched as well; here one teacher serves both, by logits.",
        "The penalty is 1e-5 times the square, so a decay of 2e-5; there it counts R and E of the gates too.",
        "Larq's own figure comes from a cosine with a warm-up of 10 epochs in the last stage.",
    ),
)


def real_to_binary_stages(
    *,
    epochs: int = 75,
    batch_size: int = 256,
    seed: int = 0,
    points: Sequence[str] = TRANSFER_POINTS,
    teacher_points: Sequence[str] | None = TRANSFER_POINTS,
) -> tuple[Stage, ...]:
    """The three stages of Real-to-Binary for `train.train_stages` and `models.real_to_binary_net`, as Larq trains it.

        stage      operands                         teacher          added losses                     rate
        real       real weights, tanh for signs     the given one    30 attention, 3 logits           1e-3
        inputs     real weights, signs              stage "real"     30 attention, 3 logits           1e-3
        binary     signs; starts from "inputs"      stage "inputs"   0.8 logits                       2e-4

    The given teacher is a ResNet-18 with real weights and activations that was trained before. Schedules keep their
    shares of other numbers of epochs. points: modules of another network than that one at whose outputs [batch,
    channels, *space] attention is matched; empty where it has none, which leaves logits. teacher_points: the given
    teacher's modules that stand for them; None: the first stage has no teacher and learns from labels alone.

    Differences: as `REAL_TO_BINARY` says of decay; attention is Larq's form, to which the weight of 30 belongs.
    Raises: ValueError for another number of teacher_points than of points.
    """
    if teacher_points is not None and len(teacher_points) != len(points):
        raise ValueError(
            f"real_to_binary_stages: teacher_points are {len(points)} names of modules, or None; got {teacher_points!r}"
        )
    first, last = REAL_TO_BINARY.scaled(epochs=epochs, batch_size=batch_size).stages(seed=seed, distillation=None)

    def matching(theirs: Sequence[str]) -> tuple[AddedLoss, ...]:
        both = tuple(zip(points, theirs, strict=True))
        attention = (AttentionMatching(weight=30.0, points=both, form="larq"),) if both else ()
        return (*attention, LogitsMatching(weight=3.0))

    real = first if teacher_points is None else dataclasses.replace(first, losses=matching(teacher_points))
    inputs = dataclasses.replace(first, losses=matching(points))
    binary_ = dataclasses.replace(last, losses=(LogitsMatching(weight=0.8),))
    return (
        Stage(name="real", recipe=real, operands="tanh", teacher=None if teacher_points is None else GIVEN),
        Stage(name="inputs", recipe=inputs, operands="real_weights", teacher="real"),
        Stage(name="binary", recipe=binary_, start="inputs", teacher="inputs"),
    )
