# SPDX-License-Identifier: Apache-2.0
"""One operator in place of each layer that Bittern packs, while torch exports the model around it.

The layers would otherwise be exported as the real arithmetic of their training graph, from which their bits would have
to be guessed again. The operator says which layer was called on what; it has a shape and is never computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from bittern.nn.activation import DPReLU, RSign, ShiftedPReLU
from bittern.nn.binarize import LowBitLayer
from bittern.nn.conv import BinaryConv1d, BinaryConv2d
from bittern.nn.linear import BinaryLinear
from bittern.ops import window_positions

LAYERS: tuple[type[nn.Module], ...] = (BinaryConv1d, BinaryConv2d, BinaryLinear, ShiftedPReLU, DPReLU, RSign)
"""What is packed as a layer; anything else is what its operators are."""

_LIBRARY = torch.library.Library("bittern_front", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "layer(Tensor x, str name, int out, int[] kernel, int[] stride, int[] padding, int[] dilation) -> Tensor"
)


def _shape_alone(
    x: Tensor,
    name: str,
    out: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """out 0: the shape of x; no kernel: a linear layer of so many outputs; else a convolution."""
    if not out:
        return torch.empty_like(x)
    if not kernel:
        return x.new_empty((*x.shape[:-1], out))
    sizes = zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    space = [window_positions(*entry) for entry in sizes]
    for positions in space:
        torch._check(positions >= 1, lambda: f"no window of {list(kernel)} fits into {list(x.shape)}")  # type: ignore[no-untyped-call]
    return x.new_empty((x.shape[0], out, *space))


torch.library.register_fake("bittern_front::layer", _shape_alone, lib=_LIBRARY)
OPERATOR = torch.ops.bittern_front.layer.default


def put_in(model: nn.Module) -> None:
    """Make every layer of `LAYERS` in a model, which is a copy, call the operator instead.

    Low-bit layers call it in place of their product: what they do around it, such as padding by values, is exported.
    """
    for name, module in layers_of(model):
        setattr(module, _replaced(module), partial(_call, name, module))


def remove_from(model: nn.Module) -> None:
    """Let the layers of a model compute again."""
    for _, module in layers_of(model):
        vars(module).pop(_replaced(module), None)


def layers_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, layer) of all that are packed as layers, but for subclasses with a forward or product of their own."""
    for name, module in model.named_modules():
        known = next((kind for kind in LAYERS if isinstance(module, kind)), None)
        if known is not None and all(getattr(type(module), n, None) is getattr(known, n, None) for n in _OWN):
            yield name, module


def computed(layer: nn.Module, x: Tensor) -> Tensor:
    """What the operator stands for, on numbers that are known."""
    return getattr(type(layer), _replaced(layer))(layer, x)  # type: ignore[no-any-return]


_OWN = ("forward", "product", "operand")
"""Methods that make a layer what it is."""


def _replaced(layer: nn.Module) -> str:
    return "product" if isinstance(layer, LowBitLayer) else "forward"


def _call(name: str, layer: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(layer, LowBitLayer):
        return OPERATOR(x, name, 0, [], [], [], [])  # type: ignore[no-any-return]
    shape, geometry = layer.method.shape, layer.geometry
    kernel = list(shape.weight[2:])
    sizes = ([*geometry.stride], [*geometry.padding], [*geometry.dilation])
    return OPERATOR(x, name, shape.out_channels, kernel, *sizes)  # type: ignore[no-any-return]
