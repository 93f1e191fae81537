# SPDX-License-Identifier: Apache-2.0
"""The problems of the benchmark, one a file."""

from __future__ import annotations

from bittern.bench.tracks.problem import Problem
from bittern.bench.tracks.problems.blood_cells import BLOOD_CELLS
from bittern.bench.tracks.problems.cifar10 import CIFAR10_JPEG75
from bittern.bench.tracks.problems.digits import DIGITS
from bittern.bench.tracks.problems.fashion_mnist import FASHION_MNIST
from bittern.bench.tracks.problems.intents import INTENTS
from bittern.bench.tracks.problems.motions import MOTIONS
from bittern.bench.tracks.problems.point_digits import POINT_DIGITS
from bittern.bench.tracks.problems.spam import SPAM
from bittern.bench.tracks.problems.spoken_digits import SPOKEN_DIGITS
from bittern.bench.tracks.problems.wand import WAND

PROBLEMS: tuple[Problem, ...] = (
    DIGITS,
    FASHION_MNIST,
    CIFAR10_JPEG75,
    INTENTS,
    SPAM,
    SPOKEN_DIGITS,
    WAND,
    MOTIONS,
    POINT_DIGITS,
    BLOOD_CELLS,
)
"""In the order of the tables. A problem of your own is an object like these."""

__all__ = [
    "BLOOD_CELLS",
    "CIFAR10_JPEG75",
    "DIGITS",
    "FASHION_MNIST",
    "INTENTS",
    "MOTIONS",
    "POINT_DIGITS",
    "PROBLEMS",
    "SPAM",
    "SPOKEN_DIGITS",
    "WAND",
]
