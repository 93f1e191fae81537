# SPDX-License-Identifier: Apache-2.0
"""What the networks share: a convolution that is low-bit or float, and shortcuts without parameters."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bittern.nn._layer_checks import check_method
from bittern.nn._probe import eval_mode
from bittern.nn.binarize import LowBitLayer
from bittern.nn.conv import BinaryConv1d, BinaryConv2d
from bittern.nn.linear import BinaryLinear
from bittern.quantizer import Method, SignCode, input_codes
from bittern.start import GlorotNormal, HeNormal

GATE_REDUCTION = 8
"""Channels of a `ChannelGate` over those of its hidden layer."""
THUMBNAIL = 50
"""Images smaller than this keep their size in the first layers of networks that have other ones for such images."""


def conv(in_channels: int, out_channels: int, kernel: int, stride: int, method: Method | None) -> nn.Module:
    """A convolution without bias, padded to keep the size at stride 1: low-bit, or float when `method` is None."""
    padding = kernel // 2
    if method is None:
        return nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
    return BinaryConv2d(in_channels, out_channels, kernel, stride, padding, method=method)


def padded_conv(
    in_channels: int,
    out_channels: int,
    method: Method | None,
    pad_value: int,
    *,
    stride: int = 1,
    dilation: int = 1,
) -> nn.Module:
    """A 3x3 convolution without bias that keeps the size at stride 1, padded with signs of `pad_value`.

    Where the input is a sum of terms that are all signs (HORQ, ABC-Net), each is padded so. Padded with 0 where it is
    float, where the inputs of its method are no signs (DoReFa's levels have no -1), and where signs stand beside a term
    of ones (AdaBin): that term has no -1 either, and one value pads all.
    """
    sizes = (in_channels, out_channels, 3, stride, dilation, dilation)
    if method is None:
        return nn.Conv2d(*sizes, bias=False)
    layer = BinaryConv2d(*sizes, method=method)
    if not all(isinstance(code, SignCode) for code in input_codes(layer.method)):
        return layer
    return BinaryConv2d(*sizes, method=method, pad_value=pad_value)


def conv1d(in_channels: int, out_channels: int, kernel: int, method: Method | None) -> nn.Module:
    """A 1-d convolution of stride 1 without bias, padded to keep the length: low-bit, or float without a method."""
    padding = kernel // 2
    if method is None:
        return nn.Conv1d(in_channels, out_channels, kernel, 1, padding, bias=False)
    return BinaryConv1d(in_channels, out_channels, kernel, 1, padding, method=method)


def linear(in_features: int, out_features: int, method: Method | None) -> nn.Module:
    """A linear layer without bias: low-bit, or float when `method` is None."""
    if method is None:
        return nn.Linear(in_features, out_features, bias=False)
    return BinaryLinear(in_features, out_features, method=method)


def halve() -> nn.Module:
    """Mean over 2x2 pixels; an odd size is rounded up, as by a 3x3 convolution of stride 2."""
    return nn.AvgPool2d(2, ceil_mode=True)


def maps_behind(
    blocks: nn.Sequential, places: Collection[int], x: Tensor, end: nn.Module | None = None
) -> tuple[Tensor, ...]:
    """What the blocks in turn make of x, at `places`: 0 is x itself, n what leaves the n-th block.

    end: what the last one goes through.
    """
    maps = [x] if 0 in places else []
    for place, block in enumerate(blocks, 1):
        x = block(x)
        if place in places:
            maps.append(x)
    return tuple(maps) if end is None else (*maps[:-1], end(maps[-1]))


class ChannelGate(nn.Module):
    """Squeeze and excitation (Hu et al. 2017, arXiv 1709.01507): x [batch, in, h, w] -> factors [batch, out, 1, 1].

    Mean over the image -> linear, to an eighth of the channels -> ReLU -> linear -> `gate`, all float.
    """

    def __init__(self, channels: int, out_channels: int, gate: nn.Module) -> None:
        super().__init__()
        hidden = max(1, channels // GATE_REDUCTION)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.act = nn.ReLU()
        self.excite = nn.Conv2d(hidden, out_channels, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gate(self.excite(self.act(self.squeeze(self.pool(x)))))
        return y


class PadChannels(nn.Module):
    """Zero channels on both sides: [batch, c, h, w] -> [batch, c + 2 * each_side, h, w]."""

    def __init__(self, each_side: int) -> None:
        super().__init__()
        self.each_side = each_side

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, self.each_side, self.each_side))

    def extra_repr(self) -> str:
        return str(self.each_side)


def start_weights(model: nn.Module, rule: HeNormal | GlorotNormal) -> None:
    """Start the convolutions of `model` by `rule`, low-bit ones too unless their method starts otherwise (BNN).

    Where authors of networks and of methods both start by fans, which of the rules it is is the network's.
    """
    for module in model.modules():
        if isinstance(module, LowBitLayer) and not isinstance(module.method.start, HeNormal | GlorotNormal | None):
            module.method.start(module.weight)
        elif isinstance(module, LowBitLayer | nn.Conv1d | nn.Conv2d):
            rule(module.weight)


def check_arguments(owner: str, method: Method | None, **sizes: int) -> None:
    """Refuse a method that is no class, and sizes below 1. Raises: TypeError, ValueError."""
    if method is not None:
        check_method(owner, method)
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{owner}: {name} must be an integer of at least 1; got {size!r}")


def materialize(model: nn.Module, in_channels: int, input_size: int) -> None:
    """`materialize_on` for square images."""
    materialize_on(model, torch.zeros(1, in_channels, input_size, input_size))


def materialize_on(model: nn.Module, example: Tensor) -> None:
    """Give parameters that depend on the size of a layer's output (XNOR-Net++) that size, by one forward.

    Does nothing when every parameter has its size.
    """
    if not any(is_lazy(p) for p in model.parameters()):
        return
    with eval_mode(model), torch.no_grad():
        model(example)
