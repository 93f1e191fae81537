# SPDX-License-Identifier: Apache-2.0
"""Random networks as directed graphs: every piece that packs, wired in any way, for hypothesis to draw and to shrink.

A piece takes the value that it goes on from and returns the one that it leads to; what else it reads is drawn among all
values that fit. Values that nothing reads are put together at the end, so the result depends on every step.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from _graph_drawing import Drawing, Graph
from bittern import binary, ops
from bittern.binary import DoReFa, IRNet, ReCU, XNORNet, XNORNetPlusPlus
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear, RPReLU, RSign
from bittern.nn.binarize import LowBitLayer
from bittern.quantizer import InputScale, Method

METHODS: tuple[Method, ...] = (
    *binary.COMPARED,
    *(partial(DoReFa, weight_bits=w, input_bits=x) for w, x in ((1, 2), (2, 1), (3, 3), (1, 4), (4, 1), (2, 4))),
    *(partial(XNORNetPlusPlus, case=case) for case in (1, 2, 3)),
    *(partial(XNORNet, input_scale=scale) for scale in (InputScale.NONE, InputScale.PER_SAMPLE)),
)

CHANNELS = (8, 24, 1, 3, 16, 64, 65, 72)
"""Some fill words or bytes, some do not."""

MOST_NUMBERS = 10_000
"""Of one sample of a value that a piece goes on from: 8 channels of 34 x 34, or 65 of 9 x 9."""


# -- layers ------------------------------------------------------------------------------------------------


def _low_bit(d: Drawing, v: int, same: bool = False) -> int:
    """A low-bit layer for whatever v is, images, signals or rows; perhaps one whose result has the same shape."""
    channels, *space = d.shape(v)[1:]
    plain = same or d.of(True, True, True, False)
    out = channels if same else d.of(channels, channels, channels, 2 * channels) if plain else d.of(*CHANNELS)
    groups = d.of(*(g for g in (1, 1, 1, 2, 3, 8, channels) if channels % g == out % g == 0)) if space else 1
    stride = d.of(1, 1, 1, 2) if plain and not same else 1
    geometry = [_plain_window(d, stride) if plain else _window(d, n) for n in space]
    kernel, strides, padding, dilation = zip(*geometry, strict=True) if space else ((),) * 4
    method, bias = _method(d, channels // groups * math.prod(kernel)), d.of(False, False, True)
    if not space:
        return d.layer(BinaryLinear(channels, out, bias, method=method), v)
    padded = any(padding) and getattr(method, "func", method) is not DoReFa
    kind: Any = BinaryConv2d if len(space) == 2 else BinaryConv1d
    pad_value = d.of(0, 0, 1, -1) if padded else 0
    sizes = (kernel, strides, padding, dilation, groups, bias)
    return d.layer(kind(channels, out, *sizes, method=method, pad_value=pad_value), v)


def _plain_window(d: Drawing, stride: int) -> tuple[int, int, int, int]:
    """kernel, stride, padding and dilation along a dimension whose size it keeps, or halves."""
    kernel = d.of(1, 3)
    return kernel, stride, kernel // 2, 1


def _window(d: Drawing, size: int) -> tuple[int, int, int, int]:
    """Any others."""
    kernel, dilation = d.of(1, 2, 3, 5), d.of(1, 2)
    reach = dilation * (kernel - 1)
    padding = d.of(*(p for p in (0, reach // 2, reach, reach + 1) if size + 2 * p > reach))
    return kernel, d.of(1, 2, 3), padding, dilation


def _method(d: Drawing, fan_in: int) -> Method:
    """Any method that takes filters of so many weights: some need a spread."""
    method: Method = d.of(*(m for m in METHODS if fan_in > 1 or m not in (IRNet, ReCU)))
    return method


def _again(d: Drawing, v: int) -> int:
    """A layer once more, if there is one that takes v."""
    taking = [s.function for s in d.steps if isinstance(s.function, int) and d.shape(s.inputs[0]) == d.shape(v)]
    return d.again(d.of(*taking), v) if taking else v


def _real(d: Drawing, v: int) -> int:
    channels, *space = d.shape(v)[1:]
    bias, out = d.of(False, True), d.of(channels, *CHANNELS)
    if not space:
        return d.layer(nn.Linear(channels, out, bias), v)
    kernel, stride = d.of(1, 3), d.of(1, 2)
    groups = d.of(1, 1, *(g for g in (2, channels) if channels % g == out % g == 0))
    kind = nn.Conv2d if len(space) == 2 else nn.Conv1d
    return d.layer(kind(channels, out, kernel, stride, kernel // 2, 1, groups, bias), v)


def _norm(d: Drawing, v: int) -> int:
    shape = d.shape(v)
    return d.layer((nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(shape[1]), v)


def _activation(d: Drawing, v: int) -> int:
    channels = d.shape(v)[1]
    choices = (
        nn.ReLU,
        nn.Hardtanh,
        partial(nn.Hardtanh, -0.5, 1.5),
        partial(nn.PReLU, channels),
        nn.PReLU,
        partial(RPReLU, channels),
        nn.ReLU6,
        partial(nn.LeakyReLU, 0.125),
        partial(RSign, channels),
        *(nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU),
        partial(nn.LayerNorm, d.shape(v)[-1]),
        partial(nn.Softmax, 1),
    )
    return d.layer(d.of(*choices)(), v)


def _windows(d: Drawing, v: int) -> int:
    """A pool, whose windows may overlap, reach beyond the image, or skip pixels."""
    space = d.shape(v)[2:]
    flat, ceil = len(space) == 1, d.of(False, True)
    if min(space) > 1 and d.of(True, False):
        kernel = stride = (2,) * len(space)
        padding: tuple[int, ...] = (0,) * len(space)
    else:
        kernel = tuple(d.of(*(k for k in (2, 3, 1, n) if k <= n)) for n in space)
        padding = tuple(d.of(0, k // 2) for k in kernel)
        stride = tuple(d.of(1, 2, k) for k in kernel)
    if d.of(True, False):
        return d.layer((nn.MaxPool1d if flat else nn.MaxPool2d)(kernel, stride, padding, ceil_mode=ceil), v)  # type: ignore[arg-type]
    average: Any = nn.AvgPool1d if flat else nn.AvgPool2d
    return d.layer(average(kernel, stride, padding, ceil, d.of(True, False)), v)


# -- functions ---------------------------------------------------------------------------------------------


def _combined(d: Drawing, v: int) -> int:
    """Two values of one shape, or of shapes that broadcast; v itself among them."""

    def fits(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        return len(one) == len(other) and all(m in (n, 1) for m, n in zip(one, other, strict=True))

    other = d.of(*d.others(v, fits))
    function = d.of(*(operator.add,) * 6, operator.sub, operator.mul)
    return d.call(function.__name__, function, *d.of((v, other), (other, v)))


def _shortcut(d: Drawing, v: int) -> int:
    """The sum with a value of as many channels or half of them, of the same size or twice that."""
    shape = d.shape(v)

    def fits(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        halved = tuple(-(-n // 2) for n in one[2:])
        return len(one) == len(other) and other[1] in (one[1], 2 * one[1]) and other[2:] in (one[2:], halved)

    found = [w for w in d.others(v, fits) if w != v]
    if not found:
        return v
    skip = d.of(*found)
    if d.shape(skip)[2:] != shape[2:]:
        skip = d.layer((nn.AvgPool2d if len(shape) == 4 else nn.AvgPool1d)(2, ceil_mode=True), skip)
    if d.shape(skip)[1] != shape[1]:
        half = shape[1] // 2
        amount = (*(0,) * (2 * len(shape) - 4), half // 2, half - half // 2)
        double = (lambda x: torch.cat([x, x], 1)), (lambda x: F.pad(x, amount))
        skip = d.call("double", d.of(*double), skip)
    if d.of(False, True):
        skip = _norm(d, skip)
    return d.call("add", operator.add, *d.of((v, skip), (skip, v)))


def _side_by_side(d: Drawing, v: int) -> int:
    """Channels of two or three values."""
    others = d.others(v, lambda one, other: one[:1] + one[2:] == other[:1] + other[2:])
    parts = (v, *(d.of(*others) for _ in range(d.of(1, 1, 2))))
    return d.call("cat", lambda *parts: torch.cat(parts, 1), *parts)


def _padded(d: Drawing, v: int) -> int:
    rank, before, after = len(d.shape(v)), d.of(0, 1, 8), d.of(8, 0, 3)
    amount, value = (*(0,) * (2 * (rank - 2)), before, after), d.of(0.0, 0.0, 0.5)
    return d.call(f"pad {amount} {value}", lambda x: F.pad(x, amount, value=value), v)


def _sliced(d: Drawing, v: int) -> int:
    dim = d.of(*range(1, len(d.shape(v))))
    size = d.shape(v)[dim]
    start = d.of(0, size // 2, size - 1)
    index = (*(slice(None),) * dim, slice(start, d.of(None, size), d.of(1, 2)))
    return d.view(f"slice {index}", lambda x: x[index], v)


def _scaled(d: Drawing, v: int) -> int:
    number, function = d.of(0.5, -1.5, 0.1), d.of(operator.mul, operator.add)
    return d.call(f"{function.__name__} {number}", lambda x: function(x, number), v)


def _sign(d: Drawing, v: int) -> int:
    return d.call("sign", ops.sign, v)


def _mean(d: Drawing, v: int) -> int:
    rank = len(d.shape(v))
    dims = d.of(tuple(range(2, rank)), (rank - 1,), tuple(range(1, rank)))
    keep = len(dims) == rank - 1 or d.of(True, False)
    return d.call(f"mean {dims} {keep}", lambda x: x.mean(dims, keepdim=keep), v)


def _adaptive(d: Drawing, v: int) -> int:
    kind: Any = nn.AdaptiveAvgPool2d if len(d.shape(v)) == 4 else nn.AdaptiveAvgPool1d
    return d.layer(kind(d.of(1, 2)), v)


def _flat(d: Drawing, v: int) -> int:
    """A signal of an image, a row of a signal."""
    dim = d.of(*range(len(d.shape(v)) - 2, 0, -1))
    return d.view(f"flatten {dim}", lambda x: x.flatten(dim), v)


def _turned(d: Drawing, v: int) -> int:
    """Channels last and, for a signal, perhaps a low-bit layer over its positions."""
    shape = d.shape(v)
    order = (0, *range(2, len(shape)), 1)
    turned = d.view(f"permute {order}", lambda x: x.permute(order), v)
    if len(shape) == 4 or d.of(True, False):
        return turned
    return d.layer(BinaryLinear(shape[1], 8, method=_method(d, shape[1])), turned)


def _block(d: Drawing, v: int, same: bool = False) -> int:
    """What fuses, and more: a low-bit layer, and a few pieces behind it."""
    v = _low_bit(d, v, same)
    if d.of(False, True):
        v = _norm(d, v)
    orders = (_shortcut, _activation), (_activation, _shortcut), (_shortcut,), (_activation,), (_combined, _shortcut)
    pools = ((_windows,), (_windows, _norm, _activation)) if d.values[v].ndim > 2 and not same else ()
    for piece in d.of((), *orders, *pools, ()):
        v = piece(d, v)
    return v


def _stem(d: Drawing, v: int) -> int:
    """A real layer, and what it takes in or leaves to a pool."""
    v = _real(d, v)
    pieces = (_norm, _activation), (_windows,), (_norm, _windows), (_activation, _windows)
    for piece in d.of((), *pieces, (_norm, _activation, _windows)):
        v = piece(d, v)
    return v


def _branches(d: Drawing, v: int) -> int:
    """Two blocks that go on from one value, and meet."""
    one, other = _block(d, v, same=True), _block(d, v, same=True)
    return _activation(d, d.call("add", operator.add, *d.of((one, other), (other, one), (other, v))))


Piece = Callable[[Drawing, int], int]
ROWS: tuple[Piece, ...] = (
    *(_block, _branches, _combined, _norm, _activation, _side_by_side),
    *(_again, _scaled, _sliced, _padded, _real, _sign),
)
SPACE: tuple[Piece, ...] = (
    *(_block,) * 12,
    *(_branches,) * 4,
    *(_stem,) * 2,
    *(_combined, _windows, _shortcut, _activation, _side_by_side, _norm) * 2,
    *(_again, _scaled, _sliced, _padded, _real, _mean, _adaptive, _flat, _turned, _sign),
)


@st.composite
def graphs(draw: st.DrawFn, views: bool, pieces: int = 9) -> tuple[Graph, tuple[int, ...]]:
    """(a network of up to so many pieces with random parameters, the shape of a sample)."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    sizes = st.sampled_from((*range(1, 10), *range(1, 10), 17, 34))
    size = draw(sizes), draw(sizes)
    d = Drawing(draw, torch.randn(1, draw(st.sampled_from((3, 8, 24, 65))), *size), views)
    if draw(st.booleans()):
        _stem(d, 0)
    for _ in range(draw(st.integers(1, pieces))):
        v = d.of(*(len(d.values) - 1,) * 8, *range(len(d.values)))
        if d.values[v].numel() <= MOST_NUMBERS:
            d.of(*(ROWS if d.values[v].ndim == 2 else SPACE))(d, v)
    _put_together(d)
    model = Graph(d.layers, d.steps)
    scatter(model)
    return model.eval(), d.shape(0)[1:]


def _put_together(d: Drawing) -> None:
    """One result of all values that nothing reads, perhaps with a head."""
    leaves = d.unread()
    if len(leaves) > 1:
        rows = [v if d.values[v].ndim == 2 else d.call("flatten 1", lambda x: x.flatten(1), v) for v in leaves]
        d.call("cat", lambda *rows: torch.cat(rows, 1), *rows)
    last = len(d.values) - 1
    if not d.steps:
        d.call("flatten 1", lambda x: x.flatten(1), last)
    elif d.values[last].ndim == 2 and d.of(False, True):
        head = d.of(nn.Linear, partial(BinaryLinear, method=_method(d, d.shape(last)[1])))
        d.layer(head(d.shape(last)[1], 5), last)


def scatter(model: nn.Module) -> None:
    """Random parameters and statistics: of both signs, with zeros, ones and ties among them."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.copy_(_scattered(module.running_mean, 2))  # type: ignore[union-attr, arg-type]
                module.running_var.uniform_(0.3, 9)  # type: ignore[union-attr]
            for parameter in module.parameters(recurse=False):
                if isinstance(module, (LowBitLayer, nn.Conv1d, nn.Conv2d, nn.Linear)):
                    parameter.masked_fill_(torch.rand_like(parameter) < 0.1, 0)
                else:
                    parameter.copy_(_scattered(parameter, 1))


def _scattered(like: Tensor, deviation: float) -> Tensor:
    numbers = torch.randn_like(like) * deviation
    return torch.where(torch.rand_like(like) < 0.25, numbers.round(), numbers)
