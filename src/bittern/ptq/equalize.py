# SPDX-License-Identifier: Apache-2.0
"""Cross-layer equalisation: neighbouring layers share their channels' ranges, and the float function stays what it is.

Between two layers stands f with f(s x) = s f(x) for s > 0: ReLU, leaky and parametric ReLU, or nothing. Channel i of
the first is divided by s_i, weights and bias, and the next layer's weights of that input channel are multiplied by it:

    s_i = sqrt(r1_i / r2_i)        r1_i = max |W1[i]|, r2_i = max |W2[:, i]|, so that both become sqrt(r1_i r2_i)

Chains of more layers, with depthwise ones in between, take pair after pair until no s_i differs from 1 by more than
1 %. A channel whose weights are all 0 on either side stays as it is.

ReLU6 does not commute with s_i: behind the division its channel is cut at 6 / s_i. A `Layer` says at which number each
channel is cut behind it (`most`), and gets them back as they must be. The paper takes ReLU in the place of ReLU6
instead, which is another function wherever x > 6.

High biases: where a channel lies far above 0, c_i = max(0, beta_i - 3 gamma_i) moves from its bias into the next
layer's, b1 - c and b2 + W2 c. That is exact where the first layer's output is at least c_i, for all but 0.13 % of a
normal distribution, and where the next layer pads no zeros: at a padded border it adds W2 c for the whole kernel.
beta, gamma: mean and deviation of the first layer's output, which a batch norm states as its bias and weight.

Source: Nagel et al., arXiv:1906.04721.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SETTLED = 0.01
MOST_SWEEPS = 100
DEVIATIONS = 3.0


class Layer(NamedTuple):
    """A convolution or linear layer of a chain."""

    weight: Tensor
    """[out, in / groups, *kernel]."""
    bias: Tensor | None = None
    groups: int = 1
    most: Tensor | float | None = None
    """Where the activation behind it cuts, one number or one a channel: 6 for ReLU6, None for one that does not."""


class Equalized(NamedTuple):
    """The layers anew, and by how much each one's output channels were divided: [out] each, of the last layer ones."""

    layers: tuple[Layer, ...]
    divisors: tuple[Tensor, ...]


def equalize(layers: Sequence[Layer]) -> Equalized:
    """A chain of layers, each the only reader of the one before, with their ranges shared; the formulas are above.

    Raises: ValueError for fewer than two layers, channels that do not meet, and weights with NaN or infinity.
    """
    _check(layers)
    weights = [layer.weight.detach().clone() for layer in layers]
    divisors = [torch.ones(w.shape[0], dtype=w.dtype) for w in weights]
    for _ in range(MOST_SWEEPS):
        largest = 0.0
        for i in range(len(layers) - 1):
            s = _share(_out_range(weights[i]), _in_range(weights[i + 1], layers[i + 1].groups))
            weights[i] = weights[i] / _column(s, weights[i])
            weights[i + 1] = _times_inputs(weights[i + 1], s, layers[i + 1].groups)
            divisors[i] = divisors[i] * s
            largest = max(largest, float((s - 1.0).abs().max()))
        if largest <= SETTLED:
            break
    found = zip(layers, weights, divisors, strict=True)
    return Equalized(tuple(_layer(layer, weight, s) for layer, weight, s in found), tuple(divisors))


def _layer(layer: Layer, weight: Tensor, s: Tensor) -> Layer:
    bias = None if layer.bias is None else layer.bias.detach() / s
    return Layer(weight, bias, layer.groups, None if layer.most is None else layer.most / s)


def absorbed_bias(mean: Tensor, deviation: Tensor) -> Tensor:
    """c = max(0, mean - 3 deviation) of each channel. Raises: ValueError for a deviation below 0, and NaN."""
    if not bool((deviation >= 0).all() and mean.isfinite().all()):
        raise ValueError("absorbed_bias: means must be finite and deviations at least 0; got others")
    return (mean - DEVIATIONS * deviation).clamp(min=0.0)


def absorb_high_bias(first: Layer, second: Layer, c: Tensor) -> tuple[Layer, Layer]:
    """b1 - c, and b2 + W2 c, where W2 is summed over its kernel; a bias that lacks is zeros.

    Raises: ValueError for a c that has not a number for each channel between the two, a negative one, and a first layer
    whose activation cuts (`most`), which a move changes.
    """
    _check((first, second))
    channels = first.weight.shape[0]
    if c.shape != (channels,) or not bool((c >= 0).all()):
        raise ValueError(f"absorb_high_bias: c must have {channels} numbers of at least 0; got {list(c.shape)}")
    if first.most is not None:
        raise ValueError("absorb_high_bias: the activation between must be a ReLU; got one that cuts (most)")
    zeros = torch.zeros(channels, dtype=first.weight.dtype)
    before = zeros if first.bias is None else first.bias
    moved = _times_inputs(second.weight, c.to(second.weight.dtype), second.groups).flatten(1).sum(1)
    after = moved if second.bias is None else second.bias + moved
    return first._replace(bias=before - c), second._replace(bias=after)


def _share(first: Tensor, second: Tensor) -> Tensor:
    """sqrt(r1 / r2), where both are above 0; the roots apart, so that no quotient overflows."""
    s = first.sqrt() / second.sqrt()
    return torch.where((first > 0) & (second > 0), s, torch.ones_like(s))


def _out_range(weight: Tensor) -> Tensor:
    return weight.flatten(1).abs().amax(1)


def _in_range(weight: Tensor, groups: int) -> Tensor:
    """max |W| over all that reads an input channel, [in]."""
    by_group = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return by_group.abs().amax((1, 3)).flatten()


def _times_inputs(weight: Tensor, s: Tensor, groups: int) -> Tensor:
    """W with each input channel times its number; s: [in]."""
    by_group = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return (by_group * s.view(groups, 1, weight.shape[1], 1)).reshape(weight.shape)


def _column(s: Tensor, weight: Tensor) -> Tensor:
    return s.view(-1, *[1] * (weight.ndim - 1))


def _check(layers: Sequence[Layer]) -> None:
    if len(layers) < 2:
        raise ValueError(f"equalize: must have at least two layers; got {len(layers)}")
    for i, layer in enumerate(layers):
        shape = list(layer.weight.shape)
        if layer.weight.ndim < 2 or layer.weight.numel() == 0 or shape[0] % layer.groups:
            raise ValueError(
                f"equalize: weight {i} must be [out, in / groups, *kernel]; got {shape}, {layer.groups} groups"
            )
        if not bool(layer.weight.isfinite().all()):
            raise ValueError(f"equalize: weight {i} must be finite; it holds NaN or infinity")
        if i and shape[1] * layer.groups != layers[i - 1].weight.shape[0]:
            made = layers[i - 1].weight.shape[0]
            raise ValueError(
                f"equalize: layer {i} must read the {made} channels of layer {i - 1}; got {shape[1] * layer.groups}"
            )
