# SPDX-License-Identifier: Apache-2.0
"""How near the layers of a packed network come to what counting alone allows.

The peak is measured: the kernels' own counting loop on operands in the first-level cache (`_native.count_in_cache`), on
one thread. A layer's products are those of its convolution; its time is all that its native call does: gathering,
borders, residual, activation, the next layer's bits, and a few microseconds of Python around it. Isolated kernels run
several times per call, so for them Python does not count; they take turns with the counting loop, because clocks drift
by a tenth within a second, and their share is that of the median pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from bittern import _native
from bittern.bench.core.timing import Spread, compare, latency
from bittern.deploy.engine.describe import product_macs, shape_words
from bittern.deploy.engine.engine import Engine
from bittern.deploy.engine.groups.block import Block
from bittern.deploy.engine.groups.group import Group
from bittern.ops import BitImages, Isa, PreparedBlock, pack_signs, run_steps

Profile = Sequence[tuple[Group, float]]
KERNEL = 3
PEAK_CALL_US = 1000.0
"""One call of the counting loop: so long that starting it does not count."""
PEAK_SAMPLES = 101
KERNEL_BUDGET_S = 1.0
CALLS = 8
"""Steps of an isolated kernel in one native call."""
PROFILE_REPEATS = 31
KERNEL_TARGET = 0.85
KERNEL_TARGET_CHANNELS = (128, 512)
KERNELS = ((56, 64), (28, 128), (14, 256), (7, 512))
"""(height and width, channels) of the 3x3 convolutions of ResNet-18's stages."""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A layer, alone or in its network."""

    subject: str
    shape: str
    does: str
    latency_us: float
    macs: int
    """As `describe.product_macs` counts them."""
    of_peak: float
    target: float | None = None

    @property
    def gmac_s(self) -> float:
        return self.macs / self.latency_us / 1e3


def peak_gmac_s(isa: Isa) -> Spread:
    """1e9 products per second that the counting loop of an instruction set does on one thread."""
    count, products = _counting_loop(isa)
    time_us = latency(count, samples=PEAK_SAMPLES)
    return Spread(*(products / t / 1e3 for t in (time_us.median, time_us.max, time_us.min)))


def _counting_loop(isa: Isa) -> tuple[Callable[[], object], int]:
    """A call of the counting loop, and the products that it does."""
    once = latency(lambda: _native.count_in_cache(isa, 1), samples=3).min
    repeats = max(1, round(PEAK_CALL_US / once))
    return partial(_native.count_in_cache, isa, repeats), _native.count_in_cache(isa, repeats)


def layers(engine: Engine, profile: Profile, peak: Spread) -> Iterator[LayerRow]:
    """Every fused block of a program, in the order in which it runs, from what `Engine.profile` found."""
    for group, time_us in profile:
        if not isinstance(group, Block):
            continue
        macs = product_macs(engine.forms, group.node)
        share = macs / time_us / 1e3 / peak.max
        yield LayerRow(group.name, shape_words(engine.forms, group), group.does(), time_us, macs, share)


def kernels(isa: Isa, sizes: Sequence[tuple[int, int]] = KERNELS) -> Iterator[LayerRow]:
    """3x3 convolutions alone, with a residual that is updated in place and the next layer's bits."""
    count, products = _counting_loop(isa)
    for size, channels in sizes:
        block = _random_block(isa, channels)
        x, bits = (_random_images(size, channels) for _ in range(2))
        real = torch.zeros(1, size, size, channels)
        steps = np.concatenate([block.step(x, real, real, bits)] * CALLS)
        compared = compare(partial(run_steps, isa, steps), count, budget_s=KERNEL_BUDGET_S)
        macs = size * size * channels * channels * KERNEL * KERNEL
        least, most = KERNEL_TARGET_CHANNELS
        yield LayerRow(
            f"kernel, {channels} channels",
            f"{KERNEL}x{KERNEL} {channels} -> {channels} at {size}x{size}",
            "residual, sign",
            compared.latency_us.median / CALLS,
            macs,
            compared.speedup.median * CALLS * macs / products,
            KERNEL_TARGET if least <= channels <= most else None,
        )


def _random_block(isa: Isa, channels: int) -> PreparedBlock:
    words = pack_signs(torch.randn(channels, KERNEL, KERNEL, channels))
    none, one = torch.zeros(channels), torch.ones(channels)
    scale = torch.full((channels,), 1 / (KERNEL * KERNEL * channels))
    epilogue = torch.stack([none, scale, one, none])
    return PreparedBlock(
        words, channels, (1, 1), (1, 1), (1, 1), 1, 0, epilogue, threshold=torch.zeros(channels), isa=isa
    )


def _random_images(size: int, channels: int) -> BitImages:
    images = BitImages.empty(1, size, size, channels, border=KERNEL // 2)
    images.view().copy_(pack_signs(torch.randn(1, size, size, channels)))
    return images
