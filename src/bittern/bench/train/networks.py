# SPDX-License-Identifier: Apache-2.0
"""The networks whose steps are timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from bittern.models import mlp, resnet20_cifar, vgg_small
from bittern.quantizer import Method


@dataclass(frozen=True, slots=True)
class Network:
    """A network in float or with a method, and the batch of a step."""

    name: str
    build: Callable[[Method | None], nn.Module]
    """None: the float twin."""
    input_shape: tuple[int, int, int]
    batch: int
    classes: int = 10


NETWORKS = (
    Network("resnet20_cifar", resnet20_cifar, (3, 32, 32), 64),
    Network("vgg_small", vgg_small, (3, 32, 32), 16),
    Network("mlp", mlp, (1, 28, 28), 256),
)
"""Batches that let a step of each take a fraction of a second on one core."""
