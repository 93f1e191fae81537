# SPDX-License-Identifier: Apache-2.0
"""BinaryViT: a pyramid of transformer blocks with a shortcut at every product (Le and Li 2023, arXiv 2306.16678).

A low-bit product P that keeps its width stands in RPReLU(norm(P(x)) + x); one that widens e times has x beside it
repeated e times, one that narrows the means of e neighbouring features. With y = norm(x), and s = y, or where r > 1 the
means of y over r x r tokens behind such a product:

    q = product(y), k = product(s), v = product(s);   c = RPReLU(norm(attention(q, k, v)) + q + up(k) + up(v))
    x <- x + scaled(product(c));   y = norm(x);   x <- x + scaled(narrow(widen(y))) + means(y)

up repeats tokens r x r times; scaled multiplies features by learned numbers, 0.1 at the start, and shifts them;
means(y) are those of y over 3 and over 5 tokens in a row and in a column, each scaled so, by 0 at the start. Between
stages tokens are halved by a 2 x 2 product, whose shortcut has means over 2 x 2. Learned positions stand behind each
change of size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.attention_method import Attended, made_by
from bittern.models._classifier import TokenClassifier
from bittern.models._layers import check_arguments, linear, maps_behind, materialize
from bittern.nn.activation import RPReLU
from bittern.nn.conv import BinaryConv2d
from bittern.quantizer import Method

PATCH = 4
WIDTHS, DEPTHS, HEADS = (64, 128, 256, 512), (3, 4, 8, 4), (1, 2, 4, 8)
REDUCTIONS, EXPANSIONS = (8, 4, 1, 1), (8, 8, 4, 4)
POSITION_STD = 0.02
SCALE = 0.1
"""Of what is added to the tokens, at the start."""
WINDOWS = ((3, 1), (1, 3), (5, 1), (1, 5))
"""Tokens over which means are taken."""


class Scaled(nn.Module):
    """a_c x + b_c of tokens [batch, tokens, width]; b = 0 at the start."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.full((width,), start)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class TokenRPReLU(nn.Module):
    """RPReLU of tokens [batch, tokens, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.activation = RPReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(x.transpose(1, 2)).transpose(1, 2)
        return y


class Product(nn.Module):
    """RPReLU(norm(P x) + x'), x' being x, repeated or averaged to the width of P x."""

    def __init__(self, before: int, after: int, method: Method | None) -> None:
        super().__init__()
        self.product, self.norm, self.activation = (
            linear(before, after, method),
            nn.LayerNorm(after),
            TokenRPReLU(after),
        )
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.norm(self.product(x)) + self._shortcut(x))
        return y

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.after >= self.before:
            return x.repeat(1, 1, self.after // self.before)
        return x.view(*x.shape[:2], self.after, self.before // self.after).mean(3)


class BinaryViTBlock(nn.Module):
    """Tokens [batch, side * side, width] -> the same, as the module says."""

    def __init__(
        self,
        width: int,
        heads: int,
        side: int,
        reduction: int,
        expansion: int,
        method: Method | None,
        attention: Attended | None,
    ) -> None:
        super().__init__()
        self.heads, self.side, self.reduction = heads, side, reduction
        self.norm1, self.norm2, self.mixed_norm = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key, self.value, self.project = (Product(width, width, method) for _ in range(4))
        self.reduce = Product(width, width, method) if reduction > 1 else None
        self.products = None if attention is None else made_by("binary_vit_small", attention, width, heads)
        self.mixed_activation = TokenRPReLU(width)
        self.up, self.down = Product(width, expansion * width, method), Product(expansion * width, width, method)
        self.scaled1, self.scaled2 = Scaled(width, SCALE), Scaled(width, SCALE)
        self.means = nn.ModuleList(Scaled(width, 0.0) for _ in WINDOWS)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scaled1(self.project(self._attended(self.norm1(x))))
        y = self.norm2(x)
        result: Tensor = x + self.scaled2(self.down(self.up(y)))
        image = _image(y, self.side)
        for scaled, (high, wide) in zip(self.means, WINDOWS, strict=True):
            mean = F.avg_pool2d(image, (high, wide), 1, (high // 2, wide // 2))
            result = result + scaled(_tokens(mean))
        return result

    def _attended(self, y: Tensor) -> Tensor:
        q, s = self.query(y), y
        if self.reduce is not None:
            s = self.reduce(_tokens(F.avg_pool2d(_image(y, self.side), self.reduction)))
        k, v = self.key(s), self.value(s)
        if self.products is None:
            split = (x.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in (q, k, v))
            mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        else:
            mixed, _ = self.products(q, k, v)
        result: Tensor = self.mixed_activation(self.mixed_norm(mixed) + q + self._grown(k) + self._grown(v))
        return result

    def _grown(self, x: Tensor) -> Tensor:
        """Tokens of the reduced image, each as often as it stands for others."""
        if self.reduction == 1:
            return x
        small = _image(x, self.side // self.reduction)
        return _tokens(F.interpolate(small, scale_factor=self.reduction, mode="nearest"))


class Halving(nn.Module):
    """Tokens [batch, side * side, before] -> [batch, (side / 2)^2, after], and their positions added."""

    def __init__(self, before: int, after: int, side: int, method: Method | None) -> None:
        super().__init__()
        self.side, self.times = side, after // before
        self.norm0, self.norm, self.activation = nn.LayerNorm(before), nn.LayerNorm(after), TokenRPReLU(after)
        self.product = _halving_conv(before, after, method)
        self.positions = nn.Parameter(torch.randn(1, (side // 2) ** 2, after) * POSITION_STD)

    def forward(self, x: Tensor) -> Tensor:
        image = _image(self.norm0(x), self.side)
        skip = _tokens(F.avg_pool2d(image, 2)).repeat(1, 1, self.times)
        y: Tensor = self.activation(self.norm(_tokens(self.product(image))) + skip) + self.positions
        return y


class BinaryViT(TokenClassifier):
    """x [batch, in_channels, size, size] -> logits [batch, num_classes].

    Patches of 4 x 4 by a convolution (float), a norm and positions; stages; a norm, the mean over tokens, a linear
    layer (float). Products of queries, keys and values stay real, or are those of an `AttentionMethod`.
    """

    def __init__(
        self,
        method: Method | None,
        num_classes: int,
        in_channels: int,
        input_size: int,
        *,
        widths: tuple[int, ...] = WIDTHS,
        depths: tuple[int, ...] = DEPTHS,
        heads: tuple[int, ...] = HEADS,
        reductions: tuple[int, ...] = REDUCTIONS,
        expansions: tuple[int, ...] = EXPANSIONS,
        attention: Attended | None = None,
    ) -> None:
        super().__init__()
        side = input_size // PATCH
        self.patches, self.norm0 = nn.Conv2d(in_channels, widths[0], PATCH, PATCH), nn.LayerNorm(widths[0])
        self.positions = nn.Parameter(torch.randn(1, side**2, widths[0]) * POSITION_STD)
        layers: list[nn.Module] = []
        ends: list[int] = []
        for stage, width in enumerate(widths):
            if stage:
                layers.append(Halving(widths[stage - 1], width, side, method))
                side //= 2
            sizes = (width, heads[stage], side, reductions[stage], expansions[stage])
            layers += [BinaryViTBlock(*sizes, method, attention) for _ in range(depths[stage])]
            ends.append(len(layers))
        self.blocks, self.stage_ends = nn.Sequential(*layers), tuple(ends)
        self.norm = nn.LayerNorm(widths[-1])
        self.head = nn.Linear(widths[-1], num_classes)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves each stage, [batch, tokens, width]; the last behind the norm."""
        tokens = self.norm0(_tokens(self.patches(x))) + self.positions
        return maps_behind(self.blocks, self.stage_ends, tokens, self.norm)


def binary_vit_small(
    method: Method | None = None,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    input_size: int = 224,
    attention: Attended | None = None,
) -> BinaryViT:
    """BinaryViT of 3, 4, 8 and 4 blocks for x [batch, in_channels, input_size, input_size].

    method: a Quantizer class or a partial of one; None: the same network with float layers. attention: an
    AttentionMethod class, which gives the products of attention operands of one bit (the paper's are BiT's,
    `bittern.binary.attention.ElasticAttention`, with ReActNet's signs); None: they stay real.

    Differences: the authors' linear layers centre weights as `binary.BiBERT` and have inputs as `binary.ReActNet`; a
    method here gives both. No stochastic depth. Their network with real layers was read, and its configuration.
    Raises: TypeError when `method` is no class; ValueError for a size below 1, and images of no multiple of 32 pixels.
    Source: arXiv 2306.16678; Phuoc-Hoan-Le/BinaryViT transformer/modeling_vit_extra_res_pyramid.py, utils_quant.py,
    configs/binaryvit-small-patch4-224.
    """
    owner = "binary_vit_small"
    check_arguments(owner, method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    if input_size % (8 * PATCH):
        raise ValueError(f"{owner}: input_size must be a multiple of {8 * PATCH}; got {input_size}; resize the images")
    model = BinaryViT(method, num_classes, in_channels, input_size, attention=attention)
    materialize(model, in_channels, input_size)
    return model


def _halving_conv(before: int, after: int, method: Method | None) -> nn.Module:
    if method is None:
        return nn.Conv2d(before, after, 2, 2, bias=False)
    return BinaryConv2d(before, after, 2, 2, method=method)


def _image(tokens: Tensor, side: int) -> Tensor:
    """[batch, side * side, width] -> [batch, width, side, side]."""
    batch, _, width = tokens.shape
    return tokens.transpose(1, 2).reshape(batch, width, side, side)


def _tokens(image: Tensor) -> Tensor:
    """The inverse of `_image`."""
    return image.flatten(2).transpose(1, 2)
