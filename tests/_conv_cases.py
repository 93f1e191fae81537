# SPDX-License-Identifier: Apache-2.0
"""Geometries of binary convolutions, packed words and epilogues: what the cases of several ops are made of."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bittern import ops


def generator(label: str) -> torch.Generator:
    """Random numbers that depend on the label alone."""
    return torch.Generator().manual_seed(zlib.crc32(label.encode()))


def words(label: str, *shape: int, bits: int) -> Tensor:
    """Random packed signs: int64 [*shape, ceil(bits / 64)]."""
    return ops.pack_signs.reference(torch.randn((*shape, bits), generator=generator(label)))


def epilogue(label: str, out_channels: int) -> Tensor:
    """Random finite rows offset, scale, alpha, beta, with some zeros of both signs."""
    rows = torch.randn((4, out_channels), generator=generator(label + "epilogue"))
    rows[:, ::7] = 0.0
    rows[3, 3::5] = -0.0
    return rows


@dataclass(frozen=True)
class Conv:
    """Geometry of one convolution."""

    channels: int = 64
    out: int = 5
    size: tuple[int, int] = (6, 7)
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pad_value: int = 0
    batch: int = 2
    folded: bool = False

    def __str__(self) -> str:
        pairs = (self.size, self.kernel, self.stride, self.padding, self.dilation)
        numbers = "-".join(f"{a}x{b}" for a, b in pairs)
        tail = f"g{self.groups}-p{self.pad_value:+d}-n{self.batch}{'-epilogue' * self.folded}"
        return f"{self.channels}to{self.out}-{numbers}-{tail}"

    def make(self) -> tuple[Any, ...]:
        label = str(self)
        x = words(label + "x", self.batch, *self.size, bits=self.channels)
        w = words(label + "w", self.out, *self.kernel, bits=self.channels // self.groups)
        folded = epilogue(label, self.out) if self.folded else None
        geometry = (list(self.stride), list(self.padding), list(self.dilation))
        return x, w, self.channels, *geometry, self.groups, self.pad_value, folded


DEPTHWISE = (2, 7, 63, 64, 65, 100, 144, 255, 257, 960)
"""Channels of depthwise convolutions, at and around whole words."""

WINDOWS = (
    ((3, 3), (2, 2), (2, 2), (1, 1)),
    ((3, 3), (0, 0), (2, 1), (1, 1)),
    ((3, 3), (2, 1), (1, 2), (2, 2)),
    ((5, 5), (2, 2), (1, 1), (1, 1)),
    ((7, 7), (3, 3), (2, 2), (1, 1)),  # wider than one of the images
    ((2, 5), (1, 2), (3, 3), (1, 1)),
    ((1, 1), (1, 1), (1, 1), (1, 1)),
)
"""Kernel, padding, stride and dilation of depthwise convolutions."""


def depthwise(channels: int, **options: Any) -> Conv:
    """Every channel a group."""
    return Conv(channels, channels, groups=channels, **options)


GROUPED = ((32, 4, 4), (16, 8, 8), (9, 16, 16), (3, 32, 32), (5, 2, 64), (33, 1, 2), (4, 12, 12), (3, 16, 8))
"""Groups, and the inputs and outputs of each: those of the kernel for small groups, and others."""


def grouped(groups: int, inputs: int, outputs: int, **options: Any) -> Conv:
    """Small groups."""
    return Conv(groups * inputs, groups * outputs, groups=groups, **options)


FEW = (
    (16, 16, (32, 32)),
    (3, 5, (3, 33)),
    (8, 1, (5, 1)),
    (17, 18, (7, 15)),
    (32, 33, (9, 16)),
    (64, 64, (8, 8)),
    (112, 15, (4, 31)),
)
"""Channels, outputs and size of images of which the kernels for few channels take many pixels at a time."""
