# SPDX-License-Identifier: Apache-2.0
"""Shape rules that several kinds share. They are plain integer arithmetic: nothing is computed or allocated."""

from __future__ import annotations

from bittern.deploy.form import Form, Shape, Tensors, need, need_real
from bittern.deploy.kinds.kind import integers
from bittern.deploy.program import Node
from bittern.ops import window_positions


def same(node: Node, tensors: Tensors, x: Form) -> Form:
    """The result is as its input."""
    need_real(node, x)
    return x


def per_channel(node: Node, tensors: Tensors, x: Form) -> Form:
    """Vectors along dimension 1."""
    need_real(node, x)
    length = next(iter(tensors.values())).shape[-1]
    need(node, length == x.shape[1], f"it takes {length} channels")
    return x


def broadcast(node: Node, a: Shape, b: Shape) -> Shape:
    """Shape of an elementwise result."""
    size = max(len(a), len(b))
    pairs = list(zip((1,) * (size - len(a)) + a, (1,) * (size - len(b)) + b, strict=True))
    need(node, all(m == n or 1 in (m, n) for m, n in pairs), f"{list(a)} and {list(b)} cannot be combined")
    return tuple(n if m == 1 else m for m, n in pairs)


def window(node: Node, size: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool = False) -> int:
    """Number of positions of a sliding window."""
    positions = window_positions(size, kernel, stride, padding, dilation, ceil=ceil)
    need(node, positions > 0, f"a window of {kernel} does not fit into {size}")
    return positions


def windows(node: Node, x: Form, kernel: list[int]) -> Shape:
    """Output size of a convolution over the space of x."""
    need(node, len(x.shape) == 2 + len(kernel), f"it takes {2 + len(kernel)} dimensions; got {list(x.shape)}")
    stride, padding, dilation = (integers(node, key) for key in ("stride", "padding", "dilation"))
    sizes = zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    return tuple(window(node, *entry) for entry in sizes)


def pool_windows(node: Node, x: Form, ceil: bool) -> Shape:
    """Output size of a pool over the space of x."""
    kernel, stride, padding = (integers(node, key) for key in ("kernel", "stride", "padding"))
    need(node, len(kernel) == len(stride) == len(padding) == len(x.shape) - 2, f"a pool over {list(x.shape)}")
    need(node, all(2 * p <= k for p, k in zip(padding, kernel, strict=True)), "padding is at most half the kernel")
    sizes = zip(x.shape[2:], kernel, stride, padding, strict=True)
    return tuple(window(node, n, k, s, p, 1, ceil) for n, k, s, p in sizes)
