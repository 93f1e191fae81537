# SPDX-License-Identifier: Apache-2.0
"""Binary convolutions in groups against torch's float32 ones, channels-last: with numbers as results, and with signs.

Inside a packed network the layer behind reads signs wherever it can, so both are rows. What is timed is a step of a
packed program, which writes to memory that is there already.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

from bittern.bench.core.rows import OpRow
from bittern.bench.core.timing import compare
from bittern.ops import BitImages, Isa, PreparedBlock, pack_signs, run_steps

KERNEL = 3
DEPTHWISE_TARGETS = {"numbers": 2.5, "signs": 8.0}
GROUPED_TARGETS = {"numbers": 5.0, "signs": 5.0}


class Grouped(NamedTuple):
    """A 3x3 convolution with as many outputs as inputs, padded with zeros."""

    channels: int
    groups: int
    size: int
    stride: int = 1

    @property
    def targets(self) -> dict[str, float]:
        """By the kind of result."""
        return DEPTHWISE_TARGETS if self.groups == self.channels else GROUPED_TARGETS

    def __str__(self) -> str:
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        size = f"{self.size}x{self.size}"
        return f"binary_conv2d {KERNEL}x{KERNEL} {self.channels} in {self.groups} groups at {size}{stride}"


MOBILE = (
    Grouped(96, 96, 112, 2),
    Grouped(144, 144, 56),
    Grouped(384, 384, 14),
    Grouped(512, 512, 14),
    Grouped(960, 960, 7),
    Grouped(128, 32, 28),
    Grouped(128, 16, 28),
    Grouped(512, 32, 14),
    Grouped(128, 4, 28),
)
"""Depthwise layers of MobileNet V1 and V2 at 224 x 224, and layers as those of ResNeXt and ShuffleNet."""


def grouped_rows(isa: Isa, shapes: tuple[Grouped, ...], budget_s: float) -> list[tuple[str, Callable[[], OpRow]]]:
    """Subject and measurement of every row."""
    return [
        (f"{shape}, {result}", partial(_measure, isa, shape, result, target, budget_s))
        for shape in shapes
        for result, target in shape.targets.items()
    ]


def _measure(isa: Isa, shape: Grouped, result: str, target: float, budget_s: float) -> OpRow:
    channels, groups, size, stride = shape
    x = torch.randn(1, channels, size, size).contiguous(memory_format=torch.channels_last)
    w = torch.randn(channels, channels // groups, KERNEL, KERNEL).contiguous(memory_format=torch.channels_last)
    rows = torch.stack([torch.zeros(channels), *torch.rand(3, channels)])
    words = [pack_signs(t.permute(0, 2, 3, 1)) for t in (w, x)]
    block = PreparedBlock(words[0], channels, (stride,) * 2, (1, 1), (1, 1), groups, 0, rows, isa=isa)
    out = block.output_size(size, size)
    real = torch.empty(1, *out, channels) if result == "numbers" else None
    bits = BitImages.empty(1, *out, channels) if result == "signs" else None
    step = block.step(BitImages.of(words[1], channels), real=real, bits=bits)
    compared = compare(
        lambda: run_steps(isa, step), lambda: F.conv2d(x, w, stride=stride, padding=1, groups=groups), budget_s=budget_s
    )
    macs = out[0] * out[1] * channels * (channels // groups) * KERNEL * KERNEL
    return OpRow(
        f"{shape}, {result}",
        isa.label,
        "fp32 channels-last conv",
        compared.latency_us,
        compared.baseline_latency_us,
        compared.speedup,
        macs / compared.latency_us.median / 1e3,
        "GMAC/s",
        None,
        target,
    )
