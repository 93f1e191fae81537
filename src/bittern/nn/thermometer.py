# SPDX-License-Identifier: Apache-2.0
"""Thermometer encoding: images as signs, so that a first layer can be binary too (FracBNN, 2012.12206)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOST = 255
"""The largest value of a pixel in a byte."""


class Thermometer(nn.Module):
    """Each number as a row of signs, as many of them +1 as it is high.

    x in 0 ... 1 [batch, channels, *space] -> [batch, channels * n, *space] of +1 and -1, n = round(255 / resolution):
    the i-th of a channel's n is +1 where i < round_half_even(255 x / resolution). No gradient passes.
    Errors: ValueError for a resolution outside 1 ... 255 or an input without channels.
    Source: arXiv 2012.12206; cornell-zhang/FracBNN utils/quantization.py, whose resolution is 8.
    """

    def __init__(self, resolution: int = 8) -> None:
        super().__init__()
        if not isinstance(resolution, int) or not 1 <= resolution <= MOST:
            raise ValueError(f"Thermometer: resolution must be an integer from 1 to {MOST}; got {resolution!r}")
        self.resolution = resolution
        self.signs = round(MOST / resolution)
        """How many one number becomes."""
        self.register_buffer("_below", torch.arange(float(self.signs)), persistent=False)
        self._below: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2:
            raise ValueError(f"Thermometer: expected an input [batch, channels, *space]; got {list(x.shape)}")
        level = torch.round(x.detach() * float(MOST) / float(self.resolution)).unsqueeze(2)
        below = self._below.to(x.dtype).view(-1, *(1,) * (x.ndim - 2))
        return torch.where(below < level, 1.0, -1.0).to(x.dtype).flatten(1, 2)

    def extra_repr(self) -> str:
        return f"resolution={self.resolution}"
