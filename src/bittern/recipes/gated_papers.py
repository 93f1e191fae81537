# SPDX-License-Identifier: Apache-2.0
"""The records of methods whose outputs are scaled by what they see of the input."""

from __future__ import annotations

import torch

from bittern import binary
from bittern.recipes.published import Published
from bittern.recipes.record import Decay, PaperRecipe
from bittern.train.loss import Distillation
from bittern.train.schedule import Steps

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
        "Only Larq's code was read. These are its last two stages; a teacher with real weights and inputs is trained "
        "before them.",
        "There the loss of the last stage is cross-entropy plus 0.8 times the teacher's divergence, of which this is "
        "5/9: the same steps of Adam. The teacher is the network of the stage before, and in that stage one with real "
        "weights and tanh for signs, whose attention is matched as well; here one teacher serves both, by logits.",
        "The penalty is 1e-5 times the square, so a decay of 2e-5; there it counts R and E of the gates too.",
        "Larq's own figure comes from a cosine with a warm-up of 10 epochs in the last stage.",
    ),
)
