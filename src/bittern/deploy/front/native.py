# SPDX-License-Identifier: Apache-2.0
"""Which calls of ATen operators become kinds of node that Bittern runs natively, or fuses.

One function per kind says whether a call is one: it appends the node and returns its value, or returns None, and the
call stays an operator. Calls come with float32 tensors [batch, ...] alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from bittern.deploy.errors import PackError
from bittern.deploy.front.along_channels import ALONG_CHANNELS, along_channels
from bittern.deploy.front.builder import Builder, Ref
from bittern.deploy.front.call import Call
from bittern.deploy.front.same import MOST_ELEMENTS
from bittern.deploy.front.sizes import Rows

Recognise = Callable[[Builder, Call, Rows], Ref | None]
"""(builder, call, the sizes of the result) -> value, or None."""


def _tensors(call: Call, *names: str) -> dict[str, Tensor | None] | None:
    """Known tensors by name, or None where one is computed."""
    found = {name: call[name] for name in names}
    return found if all(t is None or isinstance(t, Tensor) for t in found.values()) else None


def _numbers(value: Any, length: int) -> list[int]:
    """Sizes of a window; one number, or a list of one, stands for all dimensions."""
    values = [value] if isinstance(value, int) else list(value)
    return values * length if len(values) == 1 else values


def _conv(b: Builder, call: Call, out: Rows) -> Ref | None:
    tensors = _tensors(call, "weight", "bias")
    if tensors is None or not isinstance(call["input"], Ref):
        return None
    dims = out.ndim - 2
    stride, dilation = _numbers(call["stride"], dims), _numbers(call["dilation"], dims)
    padding = call["padding"]
    if isinstance(padding, str):
        assert tensors["weight"] is not None
        reach = [d * (k - 1) for d, k in zip(dilation, tensors["weight"].shape[2:], strict=True)]
        if padding == "same" and any(r % 2 for r in reach):
            return None  # one more on one side
        padding = [r // 2 for r in reach] if padding == "same" else [0]
    geometry: dict[str, Any] = {"stride": stride, "padding": _numbers(padding, dims), "dilation": dilation}
    return b.add("conv", call.name, (call["input"],), tensors, **geometry, groups=call["groups"])


def _convolution(b: Builder, call: Call, out: Rows) -> Ref | None:
    return None if call["transposed"] or out.ndim > 4 else _conv(b, call, out)


def _linear(b: Builder, call: Call, out: Rows) -> Ref | None:
    tensors = _tensors(call, "weight", "bias")
    if tensors is None or not isinstance(call["input"], Ref):
        return None
    return b.add("linear", call.name, (call["input"],), tensors)


def _batch_norm(b: Builder, call: Call, out: Rows) -> Ref | None:
    tensors = _tensors(call, "running_mean", "running_var", "weight", "bias")
    if tensors is None:
        return None
    if call.arguments.get("training") or tensors["running_mean"] is None:
        raise PackError(
            f"pack: layer {call.name!r} keeps no running statistics; build it with track_running_stats=True"
        )
    named = {"mean": tensors["running_mean"], "var": tensors["running_var"]}
    named |= {"weight": tensors["weight"], "bias": tensors["bias"]}
    return b.add("batch_norm", call.name, (call["input"],), named, eps=call["eps"])


def _layer_norm(b: Builder, call: Call, out: Rows) -> Ref | None:
    tensors = _tensors(call, "weight", "bias")
    shape = list(call["normalized_shape"])
    if tensors is None or len(shape) >= out.ndim:
        return None
    return b.add("layer_norm", call.name, (call["input"],), tensors, shape=shape, eps=call["eps"])


def _prelu(b: Builder, call: Call, out: Rows) -> Ref | None:
    weight = call["weight"]
    if not isinstance(weight, Tensor) or weight.ndim != 1:
        return None
    return b.add("prelu", call.name, (call["self"],), {"weight": weight})


def _elementwise(kind: str) -> Recognise:
    return lambda b, call, out: b.add(kind, call.name, (call["self"],), {})


def _gelu(b: Builder, call: Call, out: Rows) -> Ref | None:
    return b.add("gelu", call.name, (call["self"],), {}) if call["approximate"] == "none" else None


def _hardtanh(b: Builder, call: Call, out: Rows) -> Ref | None:
    return _between(b, call, call["min_val"], call["max_val"])


def _clamp(b: Builder, call: Call, out: Rows) -> Ref | None:
    return _between(b, call, call["min"], call["max"])


def _between(b: Builder, call: Call, least: Any, most: Any) -> Ref | None:
    given = all(isinstance(v, (int, float)) and math.isfinite(v) for v in (least, most))
    if not given or least > most:
        return None
    if (least, most) == (0, 6):
        return b.add("relu6", call.name, (call["self"],), {})
    return b.add("hardtanh", call.name, (call["self"],), {}, least=float(least), most=float(most))


def _leaky_relu(b: Builder, call: Call, out: Rows) -> Ref | None:
    return b.add("leaky_relu", call.name, (call["self"],), {}, slope=float(call["negative_slope"]))


def _softmax(log: bool) -> Recognise:
    def recognise(b: Builder, call: Call, out: Rows) -> Ref | None:
        if call["dtype"] is not None or not 0 < call["dim"] % out.ndim < 4:
            return None
        return b.add("softmax", call.name, (call["self"],), {}, dim=call["dim"], log=log)

    return recognise


def _pool(mode: str, dims: int) -> Recognise:
    def recognise(b: Builder, call: Call, out: Rows) -> Ref | None:
        if set(_numbers(call.arguments.get("dilation", 1), dims)) != {1} or call.arguments.get("divisor_override"):
            return None
        kernel = _numbers(call["kernel_size"], dims)
        return b.add(
            "pool",
            call.name,
            (call["self"],),
            {},
            mode=mode,
            kernel=kernel,
            stride=_numbers(call["stride"] or kernel, dims),
            padding=_numbers(call["padding"], dims),
            ceil=bool(call["ceil_mode"]),
            count_padding=bool(call.arguments.get("count_include_pad", True)),
        )

    return recognise


def _adaptive_pool(dims: int) -> Recognise:
    def recognise(b: Builder, call: Call, out: Rows) -> Ref | None:
        size = _numbers(call["output_size"], dims)
        return b.add("adaptive_pool", call.name, (call["self"],), {}, size=size)

    return recognise


def _mean(b: Builder, call: Call, out: Rows) -> Ref | None:
    if call["dtype"] is not None or not call["dim"] or len(call["dim"]) > 3:
        return None
    return b.add("mean", call.name, (call["self"],), {}, dims=list(call["dim"]), keep=bool(call["keepdim"]))


def _flatten(b: Builder, call: Call, out: Rows) -> Ref | None:
    return b.add("flatten", call.name, (call["self"],), {}, start=call["start_dim"], end=call["end_dim"])


def _reshape(b: Builder, call: Call, out: Rows) -> Ref | None:
    shape: list[Any] = [-1, *out.shape[1:]]
    return b.add("reshape", call.name, (call["self"],), {}, shape=shape) if len(shape) <= 5 else None


def _permute(b: Builder, call: Call, out: Rows) -> Ref | None:
    order = [d % out.ndim for d in call["dims"]]
    return b.add("permute", call.name, (call["self"],), {}, order=order) if len(order) <= 5 else None


def _transpose(b: Builder, call: Call, out: Rows) -> Ref | None:
    order = list(range(out.ndim))
    first, second = call["dim0"] % out.ndim, call["dim1"] % out.ndim
    order[first], order[second] = second, first
    return b.add("permute", call.name, (call["self"],), {}, order=order) if len(order) <= 5 else None


def _pad(b: Builder, call: Call, out: Rows) -> Ref | None:
    amount, value = list(call["pad"]), call["value"] or 0
    if call.arguments.get("mode", "constant") != "constant" or min(amount) < 0 or len(amount) > 8:
        return None
    return b.add("pad", call.name, (call["self"],), {}, amount=amount, value=float(value))


def _slice(b: Builder, call: Call, out: Rows) -> Ref | None:
    dim, start, stop, step = (call[key] for key in ("dim", "start", "end", "step"))
    if not all(v is None or (isinstance(v, int) and v >= 0) for v in (start, stop)) or not 0 < dim % out.ndim < 5:
        return None
    start, stop = start or 0, None if stop is None or stop >= MOST_ELEMENTS else stop
    return b.add("slice", call.name, (call["self"],), {}, dim=dim % out.ndim, start=start, stop=stop, step=step)


def _cat(b: Builder, call: Call, out: Rows) -> Ref | None:
    parts = call["tensors"]
    if not all(isinstance(part, Ref) for part in parts):
        return None
    return b.add("concatenate", call.name, tuple(parts), {}, dim=call["dim"])


def _two(kind: str, constant: str) -> Recognise:
    def recognise(b: Builder, call: Call, out: Rows) -> Ref | None:
        left, right = call["self"], call["other"]
        if call.arguments.get("alpha", 1) != 1:
            return None
        if isinstance(left, Ref) and isinstance(right, Ref):
            return b.add(kind, call.name, (left, right), {})
        if not isinstance(left, Ref) or type(right) not in (int, float) or not math.isfinite(right):
            return None
        number = -float(right) if kind == "subtract" else float(right)
        return b.add("constant", call.name, (left,), {}, operation=constant, value=number)

    return recognise


_ADD, _SUBTRACT, _MULTIPLY = _two("add", "add"), _two("subtract", "add"), _two("multiply", "multiply")

ANYHOW: dict[str, Recognise] = {
    "linear.default": _linear,
    "layer_norm.default": _layer_norm,
    "prelu.default": _prelu,
    "relu.default": _elementwise("relu"),
    "relu6.default": _elementwise("relu6"),
    "hardtanh.default": _hardtanh,
    "clamp.default": _clamp,
    "hardsigmoid.default": _elementwise("hardsigmoid"),
    "leaky_relu.default": _leaky_relu,
    "flatten.using_ints": _flatten,
    "view.default": _reshape,
    "reshape.default": _reshape,
    "_unsafe_view.default": _reshape,
    "unflatten.int": _reshape,
    "contiguous.default": _reshape,
    "clone.default": _reshape,
    "squeeze.dim": _reshape,
    "squeeze.dims": _reshape,
    "unsqueeze.default": _reshape,
    "permute.default": _permute,
    "transpose.int": _transpose,
    "pad.default": _pad,
    "constant_pad_nd.default": _pad,
    "slice.Tensor": _slice,
    "cat.default": _cat,
    "add.Tensor": _ADD,
    "sub.Tensor": _SUBTRACT,
    "mul.Tensor": _MULTIPLY,
    "bittern::sign.default": lambda b, call, out: b.add("sign", call.name, (call["x"],), {}),
}
"""Operators whose result has the same bits wherever its input lies in memory."""

IN_ORDER: dict[str, Recognise] = {
    "batch_norm.default": _batch_norm,
    "_native_batch_norm_legit_no_training.default": _batch_norm,
    "conv1d.default": _conv,
    "conv2d.default": _conv,
    "conv1d.padding": _conv,
    "conv2d.padding": _conv,
    "convolution.default": _convolution,
    "gelu.default": _gelu,
    "silu.default": _elementwise("silu"),
    "sigmoid.default": _elementwise("sigmoid"),
    "tanh.default": _elementwise("tanh"),
    "softmax.int": _softmax(False),
    "log_softmax.int": _softmax(True),
    "max_pool1d.default": _pool("max", 1),
    "max_pool2d.default": _pool("max", 2),
    "avg_pool1d.default": _pool("average", 1),
    "avg_pool2d.default": _pool("average", 2),
    "adaptive_avg_pool1d.default": _adaptive_pool(1),
    "adaptive_avg_pool2d.default": _adaptive_pool(2),
    "mean.dim": _mean,
}
"""Operators that torch may compute in another order where the dimensions lie otherwise in memory."""


def recognised(b: Builder, call: Call, inputs: list[Rows], out: Rows) -> Ref | None:
    """The value of a call as a native node; None: it stays an operator. inputs, out: what torch.export says of them."""
    if call.operator in ALONG_CHANNELS and not call.sized:
        mapped = along_channels(b, call, inputs, out)
        if mapped is not None:
            return mapped
    known = ANYHOW.get(call.operator)
    if call.sized and known is not _reshape:
        return None  # its attributes would have to be numbers
    if known is None and all(x.in_order for x in inputs):
        known = IN_ORDER.get(call.operator)
    return None if known is None else known(b, call, out)
