# SPDX-License-Identifier: Apache-2.0
"""Cases of `binary_block`: every activation, every way to find a residual, borders, groups and odd sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from _conv_cases import WINDOWS, Conv, depthwise, generator, grouped
from bittern.ops import Activation, ResidualRule
from bittern.ops.binary_conv2d.geometry import output_size


@dataclass(frozen=True)
class Block:
    """One fused convolution."""

    conv: Conv
    activation: Activation = Activation.NONE
    residual: ResidualRule | None = None
    residual_channels: int = 0
    """0: as many as the outputs."""
    threshold: bool = True
    affine: bool = False
    """Whether the residual has a map."""
    factor: bool = False
    input_scale: bool = False
    light: bool = False

    def __str__(self) -> str:
        rule = "" if self.residual is None else f"-residual{tuple(self.residual)}x{self.residual_channels}"
        options = "-threshold" * self.threshold + "-affine" * self.affine + "-factor" * self.factor
        options += "-input_scale" * self.input_scale
        return f"{self.conv}-{self.activation.name}{rule}{options}".replace(" ", "")

    def make(self) -> tuple[Any, ...]:
        x, w, channels, stride, padding, dilation, groups, pad_value, _ = self.conv.make()
        draw = generator(str(self) + "tail")
        out = self.conv.out

        def rows(n: int) -> Tensor:
            return torch.randn((n, out), generator=draw)

        names = self.activation.parameters
        parameters = rows(len(names)) if names else None
        if self.activation is Activation.HARDTANH:
            parameters = torch.stack([-rows(1)[0].abs(), rows(1)[0].abs()])
        epilogue = rows(4)
        epilogue[1:3] *= 0.2
        threshold = rows(1)[0] if self.threshold else None
        size = output_size(*self.conv.size, *self.conv.kernel, stride, padding, dilation)
        rule = self.residual or ResidualRule()
        addend = None if self.residual is None else self._residual(draw, size, rule.pool)
        affine = rows(2) if self.affine else None
        factor = torch.randn((*size, out), generator=draw) if self.factor else None
        scale = torch.randn((self.conv.batch, *size), generator=draw) if self.input_scale else None
        geometry = (channels, stride, padding, dilation, groups, pad_value)
        tail = (int(self.activation), parameters, threshold, addend, *rule, affine, factor, scale)
        return x, w, *geometry, epilogue, *tail

    def _residual(self, draw: torch.Generator, size: tuple[int, int], pool: int) -> Tensor:
        height, width = (n * pool - (pool > 1 and n > 1) for n in size)  # odd: the last window is not full
        channels = self.residual_channels or self.conv.out
        return torch.randn((self.conv.batch, height, width, channels), generator=draw)


def blocks() -> Iterator[Block]:
    """All of them."""
    for activation in Activation:
        yield Block(Conv(64, 16, (5, 6)), activation)
        yield Block(Conv(65, 19, (4, 3)), activation, ResidualRule(), light=True)
        yield Block(Conv(128, 64, (9, 8)), activation, ResidualRule(last=True))
        yield Block(depthwise(144, size=(5, 6)), activation)
        yield Block(depthwise(65, size=(4, 3)), activation, ResidualRule(), factor=True)
        yield Block(Conv(16, 16, (9, 33)), activation, ResidualRule())
        yield Block(Conv(32, 35, (7, 16)), activation, ResidualRule(last=True), affine=True)
        yield Block(Conv(5, 16, (6, 31)), activation)
        yield Block(grouped(17, 8, 8, size=(5, 6)), activation)
        yield Block(grouped(16, 4, 4, size=(4, 3)), activation, ResidualRule(last=True))
    rules = (
        (ResidualRule(pool=2), 0),
        (ResidualRule(pool=3), 0),
        (ResidualRule(repeats=True), 24),
        (ResidualRule(pool=2, repeats=True), 16),
        (ResidualRule(shift=8), 32),
        (ResidualRule(pool=2, shift=16), 16),
        (ResidualRule(shift=-3, last=True), 50),
    )
    for rule, channels in rules:
        yield Block(Conv(64, 48, (7, 5), stride=(1, 1)), Activation.RPRELU, rule, channels)
        yield Block(Conv(130, 48, (6, 5), stride=(2, 2)), Activation.PRELU, rule, channels, affine=True)
        yield Block(Conv(16, 48, (10, 33), stride=(2, 2)), Activation.HARDTANH, rule, channels)
        yield Block(depthwise(48, size=(7, 5)), Activation.HARDTANH, rule, channels, affine=True)
    for pad_value in (0, 1, -1):
        yield Block(Conv(100, 32, (3, 4), pad_value=pad_value), Activation.RELU, threshold=False, light=True)
        yield Block(Conv(64, 32, (2, 1), (5, 3), padding=(3, 4), pad_value=pad_value), Activation.RELU)
        yield Block(Conv(128, 32, (8, 9), (3, 3), (2, 1), (2, 1), (1, 2), 2, pad_value), Activation.HARDTANH)
        yield Block(Conv(48, 24, (5, 4), groups=3, pad_value=pad_value), Activation.RPRELU, ResidualRule())
        yield Block(Conv(48, 36, (5, 4), groups=12, pad_value=pad_value), Activation.RPRELU, ResidualRule())
        for kernel, padding, stride, dilation in WINDOWS:
            window = {"kernel": kernel, "padding": padding, "stride": stride, "dilation": dilation}
            yield Block(depthwise(100, size=(9, 7), **window, pad_value=pad_value), Activation.HARDTANH)
    yield Block(Conv(64, 16, (6, 7), batch=0), Activation.RELU, ResidualRule())
    yield Block(Conv(64, 130, (1, 1), (1, 1), padding=(0, 0), batch=9), Activation.HARDTANH)
    yield Block(Conv(64, 32, (4, 5)), Activation.HARDTANH, ResidualRule(), factor=True, light=True)
    yield Block(Conv(65, 19, (4, 3), batch=3), Activation.RPRELU, factor=True)
    yield Block(Conv(48, 24, (5, 4), groups=3), Activation.NONE, ResidualRule(last=True), factor=True)
    yield Block(Conv(256, 256, (3, 3), (1, 1), padding=(0, 0)), Activation.PRELU, factor=True)
    yield Block(Conv(512, 512, (3, 3), (1, 1), padding=(0, 0), batch=1), Activation.RPRELU, ResidualRule())
    for conv in (Conv(64, 35, (4, 5)), Conv(16, 48, (6, 33), batch=3), depthwise(70, size=(5, 6)), grouped(16, 4, 4)):
        yield Block(conv, Activation.HARDTANH, ResidualRule(), input_scale=True)
        yield Block(conv, input_scale=True, light=conv.out == 35)
        yield Block(conv, Activation.RPRELU, input_scale=True, factor=True)
    yield Block(
        Conv(256, 64, (9, 8), batch=3), Activation.PRELU, ResidualRule(last=True), affine=True, input_scale=True
    )
    yield Block(Conv(130, 48, (6, 5), stride=(2, 2)), Activation.RELU, ResidualRule(pool=2), 24, input_scale=True)
