# SPDX-License-Identifier: Apache-2.0
"""The problems of the benchmark, one a file."""

from __future__ import annotations

from bittern.bench.tracks.problem import Problem
from bittern.bench.tracks.problems.cifar10 import CIFAR10_JPEG75
from bittern.bench.tracks.problems.digits import DIGITS
from bittern.bench.tracks.problems.fashion_mnist import FASHION_MNIST

PROBLEMS: tuple[Problem, ...] = (DIGITS, FASHION_MNIST, CIFAR10_JPEG75)
"""In the order of the tables. A problem of your own is an object like these."""

__all__ = ["CIFAR10_JPEG75", "DIGITS", "FASHION_MNIST", "PROBLEMS"]
