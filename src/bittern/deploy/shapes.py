# SPDX-License-Identifier: Apache-2.0
"""The shape of every value of a program, worked out from the shapes of one sample without computing anything.

A file is checked with these rules before memory is taken for it. They are plain integer arithmetic: no size that a file
claims reaches an allocator before it was compared with the limit in `packed`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Rule, Shape, Tensors, input_form, need, need_real
from bittern.deploy.kinds.aten_shapes import one_result, operator
from bittern.deploy.kinds.bits import channel_scale_shapes
from bittern.deploy.kinds.kind import integer, integers
from bittern.deploy.program import Node, Program
from bittern.ops import window_positions


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


# -- low-bit kinds -----------------------------------------------------------------------------------------


def _encode(node: Node, tensors: Tensors, x: Form) -> Form:
    dims = integer(node, "dims")
    need_real(node, x)
    need(node, dims == 0 or len(x.shape) == 2 + dims, f"it takes {2 + dims} dimensions; got {list(x.shape)}")
    bits = Form(x.shape, "bits", integer(node, "planes"), dims == 0)
    need(
        node,
        bits.channels == node.attrs["channels"],
        f"it takes {node.attrs['channels']} channels; got {list(x.shape)}",
    )
    return bits


def _binary(node: Node, tensors: Tensors, x: Form, real: Form | None = None) -> Form:
    dims, out = integer(node, "dims"), integer(node, "out_channels")
    need(node, x.type == "bits", f"it takes bits; got {x.type}")
    need(node, x.last == (dims == 0) or len(x.shape) == 2, "its bits lie along another dimension")
    need(node, x.planes == node.attrs["input_planes"], f"it takes {node.attrs['input_planes']} planes; got {x.planes}")
    need(node, x.channels == node.attrs["channels"], f"it takes {node.attrs['channels']} channels; got {x.channels}")
    need(node, real is None or (real.type == "real" and real.shape == x.shape), "its real input is of another shape")
    kind = "real" if node.attrs["result"] == "real" else "acc"
    if dims == 0:
        return Form((*x.shape[:-1], out), kind, last=kind == "acc")
    return Form((1, out, *windows(node, x, integers(node, "kernel"))), kind)


def _threshold(node: Node, tensors: Tensors, x: Form) -> Form:
    need(node, x.type == "acc", f"it takes accumulators; got {x.type}")
    need(node, x.channels == node.attrs["channels"], f"it takes {node.attrs['channels']} channels; got {x.channels}")
    return replace(x, type="bits")


def _pool_bits(node: Node, tensors: Tensors, x: Form) -> Form:
    need(node, x.type == "bits" and not x.last, f"it takes bits of images or signals; got {x.type}")
    need(node, x.planes == 1, f"the maximum of {x.planes} bit planes is not that of each")
    need(node, x.channels == node.attrs["channels"], f"it takes {node.attrs['channels']} channels; got {x.channels}")
    return replace(x, shape=(*x.shape[:2], *pool_windows(node, x, bool(node.attrs["ceil"]))))


def _concatenate_bits(node: Node, tensors: Tensors, *parts: Form) -> Form:
    first = parts[0]
    for part, channels in zip(parts, integers(node, "channels"), strict=True):
        need(node, part.type == "bits", f"it takes bits; got {part.type}")
        need(node, part.channels == channels, f"it takes {channels} channels; got {part.channels}")
        same = len(part.shape) == len(first.shape) and (part.last, part.planes) == (first.last, first.planes)
        need(node, same and _space(part) == _space(first), f"{list(part.shape)} beside {list(first.shape)}")
    total = sum(part.channels for part in parts)
    shape = (*first.shape[:-1], total) if first.last else (1, total, *first.shape[2:])
    return replace(first, shape=shape)


def _space(x: Form) -> Shape:
    return x.shape[:-1] if x.last else x.shape[2:]


def _factors(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    for shape in channel_scale_shapes(node):
        need(node, broadcast(node, x.shape, shape) == x.shape, f"a factor {list(shape)}")
    return x


# -- real kinds --------------------------------------------------------------------------------------------


def broadcast(node: Node, a: Shape, b: Shape) -> Shape:
    """Shape of an elementwise result."""
    size = max(len(a), len(b))
    pairs = list(zip((1,) * (size - len(a)) + a, (1,) * (size - len(b)) + b, strict=True))
    need(node, all(m == n or 1 in (m, n) for m, n in pairs), f"{list(a)} and {list(b)} cannot be combined")
    return tuple(n if m == 1 else m for m, n in pairs)


def _conv(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    out, per_group, *kernel = tensors["weight"].shape
    groups = integer(node, "groups")
    need(node, out % groups == 0 and x.shape[1] == per_group * groups, f"it takes {per_group * groups} channels")
    need(node, min(out, per_group, *kernel) > 0, "its weight is empty")
    return Form((1, out, *windows(node, x, kernel)))


def _linear(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    out, features = tensors["weight"].shape
    need(node, x.shape[-1] == features, f"it takes {features} features; got {list(x.shape)}")
    return Form((*x.shape[:-1], out))


def _per_channel(node: Node, tensors: Tensors, x: Form) -> Form:
    """Vectors along dimension 1."""
    need_real(node, x)
    length = next(iter(tensors.values())).shape[-1]
    need(node, length == x.shape[1] or (node.kind == "prelu" and length == 1), f"it takes {length} channels")
    return x


def _bias(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    length = tensors["bias"].numel()
    need(node, length == x.shape[-1 if node.attrs["last"] else 1], f"it takes {length} channels")
    return x


def _layer_norm(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    shape = tuple(integers(node, "shape"))
    need(node, len(shape) < len(x.shape) and x.shape[-len(shape) :] == shape, f"it takes [..., {shape}]")
    return x


def _same(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    return x


def _softmax(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    dim = integer(node, "dim")
    need(node, -len(x.shape) < dim < len(x.shape) and dim != 0, f"dimension {dim} of {list(x.shape)}")
    return x


def _pool(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    return Form((*x.shape[:2], *pool_windows(node, x, bool(node.attrs["ceil"]))))


def pool_windows(node: Node, x: Form, ceil: bool) -> Shape:
    """Output size of a pool over the space of x."""
    kernel, stride, padding = (integers(node, key) for key in ("kernel", "stride", "padding"))
    need(node, len(kernel) == len(stride) == len(padding) == len(x.shape) - 2, f"a pool over {list(x.shape)}")
    need(node, all(2 * p <= k for p, k in zip(padding, kernel, strict=True)), "padding is at most half the kernel")
    sizes = zip(x.shape[2:], kernel, stride, padding, strict=True)
    return tuple(window(node, n, k, s, p, 1, ceil) for n, k, s, p in sizes)


def _adaptive_pool(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    size = integers(node, "size")
    need(node, len(x.shape) == 2 + len(size), f"a pool over {list(x.shape)}")
    return Form((*x.shape[:2], *size))


def _dims(node: Node, dims: list[int], rank: int) -> list[int]:
    need(node, all(-rank <= d < rank for d in dims), f"dimensions {dims} of {rank}")
    whole = [d % rank for d in dims]
    need(node, len(set(whole)) == len(whole) and 0 not in whole, f"dimensions {dims}: each once, never the batch")
    return whole


def _mean(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    dims = _dims(node, integers(node, "dims"), len(x.shape))
    if node.attrs["keep"]:
        return Form(tuple(1 if d in dims else n for d, n in enumerate(x.shape)))
    return Form(tuple(n for d, n in enumerate(x.shape) if d not in dims))


def _flatten(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    start, end = integer(node, "start"), integer(node, "end")
    (first,) = _dims(node, [start], len(x.shape))
    (last,) = _dims(node, [end], len(x.shape))
    need(node, first <= last, f"dimensions {start} to {end}")
    product = math.prod(x.shape[first : last + 1])
    return Form((*x.shape[:first], product, *x.shape[last + 1 :]))


def _reshape(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    shape = integers(node, "shape")
    need(node, shape[0] == -1 and -1 not in shape[1:] and 0 not in shape, f"{shape} must be [-1, sizes...]")
    need(
        node, math.prod(x.shape[1:]) == math.prod(shape[1:]), f"{list(x.shape[1:])} has other elements than {shape[1:]}"
    )
    return Form((1, *shape[1:]))


def _permute(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    order = integers(node, "order")
    need(node, sorted(order) == list(range(len(x.shape))) and order[0] == 0, f"order {order} of {list(x.shape)}")
    return Form(tuple(x.shape[d] for d in order))


def _pad(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    amount = integers(node, "amount")
    shape = list(x.shape)
    need(node, len(amount) // 2 < len(shape), f"padding {amount} of {shape}; never the batch")
    for i in range(len(amount) // 2):
        shape[-1 - i] += amount[2 * i] + amount[2 * i + 1]
    return Form(tuple(shape))


def _slice(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    dim, start, step, stop = integer(node, "dim"), integer(node, "start"), integer(node, "step"), node.attrs.get("stop")
    need(node, dim < len(x.shape), f"dimension {dim} of {list(x.shape)}")
    assert stop is None or isinstance(stop, int)
    size = len(range(x.shape[dim])[start:stop:step])
    need(node, size > 0, "nothing is left")
    return Form((*x.shape[:dim], size, *x.shape[dim + 1 :]))


def _concatenate(node: Node, tensors: Tensors, *parts: Form) -> Form:
    for part in parts:
        need_real(node, part)
    (dim,) = _dims(node, [integer(node, "dim")], len(parts[0].shape))
    first = parts[0].shape
    for part in parts[1:]:
        same = len(part.shape) == len(first) and all(
            m == n for d, (m, n) in enumerate(zip(part.shape, first, strict=True)) if d != dim
        )
        need(node, same, f"{list(part.shape)} beside {list(first)}")
    return Form((*first[:dim], sum(part.shape[dim] for part in parts), *first[dim + 1 :]))


def _two(node: Node, tensors: Tensors, a: Form, b: Form) -> Form:
    need_real(node, a)
    need_real(node, b)
    need(node, len(a.shape) == len(b.shape), f"{list(a.shape)} and {list(b.shape)} cannot be combined")
    return Form(broadcast(node, a.shape, b.shape))


def _results(node: Node, tensors: Tensors, *values: Form) -> Form:
    for value in values:
        need(node, value.type not in ("acc", "bits", "tuple", "results"), f"it takes tensors; got {value.type}")
        need(node, value.samples_first, f"its results must be [batch, ...]; got {list(value.shape)}")
    return Form((0,), "results")


MAX_ELEMENTS = 2**31
"""A program whose values grow beyond this for one sample is refused."""

RULES: dict[str, Rule] = {
    "results": _results,
    "aten": operator,
    "part": one_result,
    "encode": _encode,
    "binary": _binary,
    "threshold": _threshold,
    "pool_bits": _pool_bits,
    "concatenate_bits": _concatenate_bits,
    "factors": _factors,
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _per_channel,
    "affine": _per_channel,
    "rprelu": _per_channel,
    "prelu": _per_channel,
    "shifted_sign": _per_channel,
    "bias": _bias,
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "pool": _pool,
    "adaptive_pool": _adaptive_pool,
    "mean": _mean,
    "flatten": _flatten,
    "reshape": _reshape,
    "permute": _permute,
    "pad": _pad,
    "slice": _slice,
    "concatenate": _concatenate,
    "add": _two,
    "subtract": _two,
    "multiply": _two,
    **dict.fromkeys(
        ("hardtanh", "leaky_relu", "constant", "relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "sign"), _same
    ),
}
"""One rule for every kind of node."""


def forms_of(program: Program, tensors: Mapping[str, Tensor]) -> dict[int, Form]:
    """What every value is, for one sample. Raises: FormatError naming the node that does not fit its input."""
    forms = {0: input_form(program.input_shape, program.input_type)}
    for node in program.nodes:
        named = {role: tensors[name] for role, name in node.tensors.items()}
        form = RULES[node.kind](node, named, *(forms[v] for v in node.inputs))
        if math.prod(form.shape) > MAX_ELEMENTS:
            raise FormatError(f"node {node.name!r} ({node.kind}): its result {list(form.shape)} is too large")
        forms[node.output] = form
    return forms
