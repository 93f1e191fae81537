# SPDX-License-Identifier: Apache-2.0
"""A float network to quantize, with examples; other processes import it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn

from bittern.bench.integers.networks import Examples, Network, Test
from bittern.bench.speed.peers import CHANNELS_LAST

SHAPE = (3, 8, 8)


def build(data: Path | None) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 4)).eval()


def examples(data: Path | None, *, labelled: bool = True) -> Examples:
    """Labels are the float network's answers, but for the first quarter."""
    generator = torch.Generator().manual_seed(1)
    calibration, inputs = (torch.randn(count, *SHAPE, generator=generator) for count in (1024, 64))
    with torch.no_grad():
        labels = build(data)(inputs).argmax(1)
    labels[:16] = (labels[:16] + 1) % 4
    return Examples(calibration, Test(inputs, labels) if labelled else None)


LABELLED = Network("small", "Small", build, SHAPE, examples, {CHANNELS_LAST.name: 2.0})
UNLABELLED = Network("noise", "Noise", build, SHAPE, partial(examples, labelled=False))
NEEDY = Network("needy", "Needy", build, SHAPE, examples, needs=("no_such_folder",))
