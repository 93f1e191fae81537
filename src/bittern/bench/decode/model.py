# SPDX-License-Identifier: Apache-2.0
"""A transformer in the shape of Llama (arXiv:2302.13971), with random weights and a cache of keys and values.

Its linear layers are plain `nn.Linear`, so that `quantize` freezes them as it does those of a published model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

THETA = 10_000.0
"""Base of the rotary angles."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The defaults have 187 million weights in linear layers, of which each token reads all."""

    layers: int = 12
    width: int = 1024
    heads: int = 16
    hidden: int = 2816
    words: int = 32_000
    context: int = 512


LLAMA = Shape()


class Decoder(nn.Module):
    """Pre-norm blocks with RMS norms, rotary positions and gated MLPs, and a head of its own."""

    def __init__(self, shape: Shape = LLAMA) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.words, shape.width)
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.words, bias=False)

    def forward(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Tokens [1, time] that stand from `start` on, behind those whose keys are cached -> logits [words]."""
        x = self.tokens(tokens)
        turns = _turns(start, tokens.shape[1], self.shape.width // self.shape.heads, x)
        for block in self.blocks:
            x = block(x, turns, start)
        logits: Tensor = self.head(self.norm(x[:, -1]))[0]
        return logits


class _Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm1, self.norm2 = nn.RMSNorm(shape.width), nn.RMSNorm(shape.width)
        self.query, self.key, self.value, self.project = (_linear(shape.width, shape.width) for _ in range(4))
        self.gate, self.up = (_linear(shape.width, shape.hidden) for _ in range(2))
        self.down = _linear(shape.hidden, shape.width)
        self.cache: Tensor
        cache = torch.zeros(2, 1, shape.heads, shape.context, shape.width // shape.heads)
        self.register_buffer("cache", cache, persistent=False)

    def forward(self, x: Tensor, turns: Tensor, start: int) -> Tensor:
        time, width = x.shape[1:]
        seen = self.norm1(x)
        query, key, value = (
            layer(seen).view(1, time, self.heads, -1).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        end = start + time
        keys, values = self.cache[:, :, :, :end]
        keys[:, :, start:], values[:, :, start:] = _turned(key, turns), value
        mixed = F.scaled_dot_product_attention(_turned(query, turns), keys, values, is_causal=start == 0)
        x = x + self.project(mixed.transpose(1, 2).reshape(1, time, width))
        seen = self.norm2(x)
        mlp: Tensor = self.down(F.silu(self.gate(seen)) * self.up(seen))
        return x + mlp


def _linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def _turns(start: int, time: int, size: int, like: Tensor) -> Tensor:
    """Cosines and sines [2, time, size / 2] of positions from `start` on."""
    speeds = THETA ** (-torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(start, start + time), speeds)
    return torch.stack([angles.cos(), angles.sin()]).to(like.dtype)


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """Pairs of x [..., time, size], half of it apart, turned by the angles of their positions."""
    cos, sin = turns
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
