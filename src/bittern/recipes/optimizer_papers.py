# SPDX-License-Identifier: Apache-2.0
"""The records of papers that propose a way to train, and no method of their own."""

from __future__ import annotations

import dataclasses
import functools

import torch

from bittern import binary
from bittern.nn import is_latent_free
from bittern.optim import BayesBiNN, Bop, Case, Cases
from bittern.recipes.papers import REACTNET
from bittern.recipes.published import Published
from bittern.recipes.record import Decay, PaperRecipe
from bittern.train.schedule import Constant, Cosine, Steps

ADAM_BNN = dataclasses.replace(
    REACTNET,
    called="AdamBNN",
    task="ImageNet, ReActNet-A",
    source="arXiv 2106.11309; liuzechun/AdamBNN step1 and step2: train.py, run.sh, README.md",
    published=(Published(70.5, "ImageNet", "ReActNet-A", "liuzechun/AdamBNN README.md"),),
    epochs=256,
    batch_size=256,
    learning_rate=1.25e-3,
    first_decay=Decay(real=5e-6),
    differences=(
        "The teacher is a ResNet-34 trained on ImageNet.",
        "In its first stage the code decays thresholds and shifts too, and not the last layer; here real weights.",
        "The paper's reasons: Adam's second moment revives weights whose gradients died where activations saturate; "
        "weight decay bears on how stable and how sluggish the signs are.",
    ),
)

BOP = PaperRecipe(
    called="Bop",
    method=binary.SignWeights,
    task="CIFAR-10, BinaryNet",
    source="arXiv 1906.02107; plumerai/rethinking-bnn-optimization bnn_optimization/models/binarynet.py, README.md",
    published=(Published(91.3, "CIFAR-10", "BinaryNet", "plumerai/rethinking-bnn-optimization README.md"),),
    epochs=500,
    batch_size=50,
    optimizer=Cases(
        Case(
            functools.partial(Bop, threshold=1e-8),
            is_latent_free,
            lr=1e-4,
            schedule=Steps(((0.2, 0.1), (0.4, 1e-2), (0.6, 1e-3), (0.8, 1e-4))),
        ),
        Case(torch.optim.Adam),
    ),
    learning_rate=1e-2,
    schedule=Constant(),
    augmentation="resized and mirrored (the code's resize_and_flip)",
    crop_and_flip=True,
    start="-1 or +1 at random",
    differences=(
        "The learning rate is Adam's, for all that is no sign; Bop's gamma has a rate and a schedule of its own.",
        "The authors' network has binary first and last layers and a norm behind the last one.",
    ),
)

BAYES_BINN = PaperRecipe(
    called="BayesBiNN",
    method=binary.SignWeights,
    task="CIFAR-10, VGG-like",
    source="arXiv 2002.10778; team-approx-bayes/BayesBiNN main_cifar10.py, optimizers/BayesBiNN.py",
    epochs=500,
    batch_size=50,
    optimizer=Cases(
        Case(functools.partial(BayesBiNN, train_set_size=450_000), is_latent_free),
        Case(torch.optim.Adam),
    ),
    learning_rate=3e-4,
    schedule=Cosine(),
    augmentation="random crop of 32 from 40 pixels, mirrored",
    crop_and_flip=True,
    start="-1 or +1 at random, lambda ten times that",
    differences=(
        "All parameters of the authors' network are signs and its norms learn nothing; here Adam trains the rest.",
        "train_set_size is the authors': 45,000 images, ten times for their augmentation, whatever the data here.",
        "They hold 5,000 training images back; the rate ends at 1e-16, here at 0.",
    ),
)

OF_OPTIMIZERS: tuple[PaperRecipe, ...] = (ADAM_BNN, BOP, BAYES_BINN)
"""In this order; each is found by what it is called."""
