# SPDX-License-Identifier: Apache-2.0
"""A small MLP-Mixer whose mixing layers are low-bit (Tolstikhin et al. 2021, arXiv 2105.01601)."""

from __future__ import annotations

from torch import Tensor, nn

from bittern.models._classifier import TokenClassifier
from bittern.models._layers import check_arguments, linear, maps_behind
from bittern.models.vit import check_patch, default_patch
from bittern.quantizer import Method


class Mixing(nn.Module):
    """linear -> norm -> Hardtanh -> linear -> norm over the last dimension; both linear layers low-bit."""

    def __init__(self, size: int, hidden: int, method: Method | None) -> None:
        super().__init__()
        self.up, self.up_norm = linear(size, hidden, method), nn.LayerNorm(hidden)
        self.activation = nn.Hardtanh()
        self.down, self.down_norm = linear(hidden, size, method), nn.LayerNorm(size)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down_norm(self.down(self.activation(self.up_norm(self.up(x)))))
        return y


class MixerBlock(nn.Module):
    """Mixes the patches of each channel, then the channels of each patch; x [batch, patches, width]."""

    def __init__(self, patches: int, width: int, method: Method | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.patches = Mixing(patches, 2 * patches, method)
        self.channels = Mixing(width, 2 * width, method)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.patches(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        y: Tensor = x + self.channels(self.norm2(x))
        return y


class Mixer(TokenClassifier):
    """x [batch, in_channels, size, size] -> logits [batch, num_classes].

    Patches by a convolution (float) -> blocks -> norm -> mean over the patches -> linear (float).
    Differences: a norm behind every layer, since the sums of signs have no scale of their own, and Hardtanh in place of
    GELU; both hidden sizes are twice the size that is mixed.
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
        depth: int,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, width, patch, patch)
        count = (input_size // patch) ** 2
        self.blocks = nn.Sequential(*(MixerBlock(count, width, method) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves each block, [batch, patches, width]; the last behind the norm."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return maps_behind(self.blocks, range(1, len(self.blocks) + 1), tokens, self.norm)


def mixer_small(
    method: Method | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    input_size: int = 32,
    patch: int | None = None,
    width: int = 64,
    depth: int = 4,
) -> Mixer:
    """A mixer of `depth` blocks for x [batch, in_channels, input_size, input_size].

    Arguments and errors: as `vit_small`, without heads.
    """
    owner = "mixer_small"
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "input_size": input_size, "width": width}
    side = default_patch(input_size) if patch is None else patch
    check_arguments(owner, method, **sizes, depth=depth, patch=side)
    check_patch(owner, input_size, side)
    return Mixer(method, num_classes, in_channels, input_size, patch=side, width=width, depth=depth)
