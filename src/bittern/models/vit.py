# SPDX-License-Identifier: Apache-2.0
"""A small vision transformer whose linear layers are low-bit (Dosovitskiy et al. 2021, arXiv 2010.11929)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.attention_method import Attended, made_by
from bittern.models._classifier import TokenClassifier
from bittern.models._layers import check_arguments, linear, maps_behind
from bittern.quantizer import Method

POSITION_STD = 0.02
"""Of the learned positions at the start, as in the paper's code."""


class EncoderBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); tokens [batch, tokens, width].

    Low-bit: the four projections of the attention and the two layers of the perceptron. A norm stands behind each of
    the six, since the sums of signs have no scale of their own; products of queries, keys and values stay real, or are
    those of an `AttentionMethod`.
    """

    def __init__(self, width: int, heads: int, method: Method | None, attention: Attended | None) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (linear(width, width, method) for _ in range(3))
        self.query_norm, self.key_norm, self.value_norm = (nn.LayerNorm(width) for _ in range(3))
        self.project, self.project_norm = linear(width, width, method), nn.LayerNorm(width)
        self.up, self.up_norm = linear(width, 2 * width, method), nn.LayerNorm(2 * width)
        self.activation = nn.Hardtanh()
        self.down, self.down_norm = linear(2 * width, width, method), nn.LayerNorm(width)
        self.products = None if attention is None else made_by("vit_small", attention, width, heads)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        query, key = self.query_norm(self.query(y)), self.key_norm(self.key(y))
        value = self.value_norm(self.value(y))
        if self.products is None:
            query, key, value = self._split(query), self._split(key), self._split(value)
            mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        else:
            mixed, _ = self.products(query, key, value)
        x = x + self.project_norm(self.project(mixed))
        hidden = self.activation(self.up_norm(self.up(self.norm2(x))))
        result: Tensor = x + self.down_norm(self.down(hidden))
        return result

    def _split(self, x: Tensor) -> Tensor:
        """[batch, tokens, width] -> [batch, heads, tokens, width / heads]."""
        batch, tokens, width = x.shape
        return x.view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)


class ViT(TokenClassifier):
    """x [batch, in_channels, size, size] -> logits [batch, num_classes].

    Patches by a convolution (float) -> learned positions -> blocks -> norm -> mean over the patches -> linear (float).
    Differences: no class token; a norm behind every layer; Hardtanh in place of GELU, whose small negative values
    leave little to a sign's gradient.
    """

    def __init__(
        self,
        method: Method | None,
        num_classes: int,
        in_channels: int,
        input_size: int,
        *,
        patch: int,
        width: int,
        heads: int,
        depth: int,
        attention: Attended | None = None,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, width, patch, patch)
        self.positions = nn.Parameter(torch.randn(1, (input_size // patch) ** 2, width) * POSITION_STD)
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads, method, attention) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves each block, [batch, patches, width]; the last behind the norm."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return maps_behind(self.blocks, range(1, len(self.blocks) + 1), tokens, self.norm)


def vit_small(
    method: Method | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    input_size: int = 32,
    patch: int | None = None,
    width: int = 64,
    heads: int = 4,
    depth: int = 4,
    attention: Attended | None = None,
) -> ViT:
    """A transformer of `depth` blocks for x [batch, in_channels, input_size, input_size].

    method: a Quantizer class or a partial of one; None: the same network with float layers. patch: side of a patch;
    None: the largest of 1, 2 and 4 that leaves at least four patches a side. attention: an AttentionMethod class, as
    `bittern.binary.attention.ElasticAttention`, which gives the products of attention operands of one bit; None: they
    stay real.

    Raises: TypeError when `method` is no class; ValueError for a size below 1, a patch that does not divide the size
    of the images, and a number of heads that does not divide the width.
    """
    owner = "vit_small"
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "input_size": input_size, "width": width}
    side = default_patch(input_size) if patch is None else patch
    check_arguments(owner, method, **sizes, heads=heads, depth=depth, patch=side)
    if width % heads:
        raise ValueError(f"{owner}: heads must divide width; got {heads} and {width}")
    check_patch(owner, input_size, side)
    sizes = {"patch": side, "width": width, "heads": heads, "depth": depth}
    return ViT(method, num_classes, in_channels, input_size, **sizes, attention=attention)


def default_patch(input_size: int) -> int:
    """The largest of 1, 2 and 4 that divides the size into at least four; 1 where none does."""
    fitting = [patch for patch in (4, 2) if input_size % patch == 0 and input_size // patch >= 4]
    return fitting[0] if fitting else 1


def check_patch(owner: str, input_size: int, patch: int) -> None:
    """Raises: ValueError."""
    if input_size % patch:
        raise ValueError(f"{owner}: patch must divide input_size; got {patch} and {input_size}")
