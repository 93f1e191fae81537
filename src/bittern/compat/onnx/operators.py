# SPDX-License-Identifier: Apache-2.0
"""What each operator becomes when the scale of its result is known: one function an operator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.compat.onnx.file import UnreadError
from bittern.compat.onnx.read import Emit, Reader
from bittern.compat.onnx.values import Integers, Pending
from bittern.deploy.kinds.integer.means import factor_of_mean
from bittern.deploy.kinds.integer.softmax import MOST_ANSWERS
from bittern.ops.fixed_point import EXP_FRACTION_BITS, EXP_INTEGER_BITS, MOST, factor_of, rounded_away
from bittern.ops.integer_add.reference import LEFT_SHIFT


def _computed(waiting: Pending, place: int = 0) -> Integers:
    """An operand that the network computes."""
    x = waiting.operands[place] if place < len(waiting.operands) else None
    if not isinstance(x, Integers) or x.numbers is not None:
        raise UnreadError(f"input {place} must be int8 that the network computes")
    return x


def _name(waiting: Pending) -> str:
    return waiting.operator.outputs[0].rsplit("/", 1)[-1].replace(".", "_")


def _weight(waiting: Pending, dims: int) -> tuple[Integers, Tensor]:
    weight = waiting.operands[1] if len(waiting.operands) > 1 else None
    if not isinstance(weight, Integers) or weight.numbers is None or weight.zero:
        raise UnreadError("its weight must be int8 numbers of the file, with a zero point of 0")
    if weight.numbers.dtype != torch.int8 or weight.numbers.ndim != dims:
        raise UnreadError(f"its weight must be int8 of {dims} dimensions")
    return weight, weight.numbers


def _product(
    reader: Reader, waiting: Pending, out: Integers, weight: Integers, numbers: Tensor, scale_dim: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and attributes of a product; numbers: [out, ...]; scale_dim: where several scales must lie."""
    x, channels = _computed(waiting), len(numbers)
    if len(weight.scales) > 1 and (weight.axis != scale_dim or len(weight.scales) != channels):
        raise UnreadError("the scales of its weight must be one, or one for each output channel")
    scales = [x.scale * scale for scale in (weight.scales if len(weight.scales) > 1 else weight.scales * channels)]
    factors = [factor_of(scale / out.scale) for scale in scales]
    tensors = {"weight": numbers.contiguous()}
    for name in ("multiplier", "shift"):
        tensors[name] = torch.tensor([getattr(factor, name) for factor in factors], dtype=torch.int32)
    if len(waiting.operands) > 2 and waiting.operands[2] is not None:
        tensors["bias"] = _bias(waiting.operands[2], scales)
    zeros = {"zero": x.zero, "out_zero": out.zero, "once": True}
    return tensors, {**zeros, **reader.limits(waiting, out)}


def _bias(given: Integers | Tensor, scales: Sequence[float]) -> Tensor:
    """int32 of the scales of the sums."""
    numbers = given.numbers if isinstance(given, Integers) else given
    if numbers is None or tuple(numbers.shape) != (len(scales),):
        raise UnreadError("its bias must be numbers of the file, one a channel")
    if numbers.dtype == torch.int32:
        own = given.scales if isinstance(given, Integers) else scales
        own = own if len(own) > 1 else tuple(own) * len(scales)
        if not all(math.isclose(a, b, rel_tol=1e-5) for a, b in zip(own, scales, strict=True)):
            raise UnreadError("the scales of its bias must be those of the input times those of the weight")
        return numbers
    if numbers.dtype != torch.float32:
        raise UnreadError("its bias must be int32 or float32")
    whole = rounded_away(numbers.double() / torch.tensor(scales, dtype=torch.float64))
    if not bool((whole.abs() < 2**31).all()):
        raise UnreadError("its bias leaves int32")
    return whole.to(torch.int32)


def _sides(waiting: Pending, kernel: Sequence[int]) -> dict[str, Any]:
    """Stride, dilation and padding (left, right, top, bottom) of windows over images."""
    attrs = waiting.operator.attrs
    if attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or attrs.get("ceil_mode", 0):
        raise UnreadError("its padding must be written as numbers (auto_pad=NOTSET), without ceil_mode")
    stride, dilation = (attrs.get(key) or [1, 1] for key in ("strides", "dilations"))
    pads = attrs.get("pads") or [0, 0, 0, 0]
    if len(kernel) != 2 or len(stride) != 2 or len(dilation) != 2 or len(pads) != 4 or min(pads) < 0:
        raise UnreadError("it must work over images, with padding of 0 or more")
    top, left, bottom, right = pads
    return {"stride": stride, "dilation": dilation, "padding": [left, right, top, bottom]}


def _conv(reader: Reader, waiting: Pending, out: Integers) -> int:
    weight, numbers = _weight(waiting, 4)
    tensors, attrs = _product(reader, waiting, out, weight, numbers, 0)
    groups = waiting.operator.attrs.get("group", 1)
    sides = _sides(waiting, numbers.shape[2:])
    return reader.add(
        "integer_conv", _name(waiting), (_computed(waiting).value,), tensors, groups=groups, **sides, **attrs
    )


def _linear(reader: Reader, waiting: Pending, out: Integers) -> int:
    """Gemm and MatMul with a weight of the file."""
    weight, numbers = _weight(waiting, 2)
    attrs = waiting.operator.attrs
    if attrs.get("transA", 0) or attrs.get("alpha", 1.0) != 1.0 or attrs.get("beta", 1.0) != 1.0:
        raise UnreadError("its alpha and beta must be 1, and its input not transposed")
    turned = bool(attrs.get("transB", 0))
    own = numbers if turned else numbers.T
    tensors, found = _product(reader, waiting, out, weight, own, 0 if turned else 1)
    return reader.add("integer_linear", _name(waiting), (_computed(waiting).value,), tensors, **found)


def _factors(prefix: str, real: float) -> dict[str, int]:
    multiplier, shift = factor_of(real)
    return {f"{prefix}multiplier": multiplier, f"{prefix}shift": shift}


def _sum(kind: str) -> Emit:
    def emit(reader: Reader, waiting: Pending, out: Integers) -> int:
        a, b = _computed(waiting), _computed(waiting, 1)
        larger = 2.0 * max(a.scale, b.scale)
        attrs = _factors("a_", a.scale / larger) | _factors("b_", b.scale / larger)
        attrs |= _factors("", larger / (2**LEFT_SHIFT * out.scale)) | reader.limits(waiting, out)
        zeros = {"zero_a": a.zero, "zero_b": b.zero, "out_zero": out.zero}
        return reader.add(kind, _name(waiting), (a.value, b.value), **zeros, **attrs)

    return emit


def _multiply(reader: Reader, waiting: Pending, out: Integers) -> int:
    a, b = _computed(waiting), _computed(waiting, 1)
    attrs = _factors("", a.scale * b.scale / out.scale) | reader.limits(waiting, out)
    zeros = {"zero_a": a.zero, "zero_b": b.zero, "out_zero": out.zero}
    return reader.add("integer_multiply", _name(waiting), (a.value, b.value), **zeros, **attrs)


def _mean(reader: Reader, waiting: Pending, out: Integers) -> int:
    """GlobalAveragePool."""
    x = _computed(waiting)
    shape = reader.forms[x.value].shape
    if len(shape) != 4 or waiting.operator.attrs.get("channels_last", 0):
        raise UnreadError("it must read an image with channels first")
    factor = factor_of_mean(x.scale / out.scale, shape[2] * shape[3])
    attrs = {"zero": x.zero, "out_zero": out.zero, **factor._asdict(), **reader.limits(waiting, out)}
    return reader.add("integer_mean", _name(waiting), (x.value,), dims=[2, 3], keep=True, **attrs)


def _pool(kind: str) -> Emit:
    """In the scale of its input, then in that of its result."""

    def emit(reader: Reader, waiting: Pending, out: Integers) -> int:
        x, attrs = _computed(waiting), waiting.operator.attrs
        kernel = attrs.get("kernel_shape") or []
        sides = _sides(waiting, kernel)
        if sides.pop("dilation") != [1, 1] or (attrs.get("count_include_pad", 0) and any(sides["padding"])):
            raise UnreadError("its windows must be dense, and must not count the padding")
        value = reader.add(kind, _name(waiting), (x.value,), kernel=kernel, low=-128, high=127, **sides)
        return reader.rescaled(value, x, waiting, out, _name(waiting))

    return emit


def _softmax(reader: Reader, waiting: Pending, out: Integers) -> int:
    x = _computed(waiting)
    shape = reader.forms[x.value].shape
    if len(shape) != 2 or shape[1] > MOST_ANSWERS or waiting.operator.attrs.get("axis", -1) not in (1, -1):
        raise UnreadError(f"it takes rows of at most {MOST_ANSWERS}")
    factor = factor_of(min(x.scale * 2**EXP_FRACTION_BITS, float(MOST)))
    if factor.shift < 0:
        raise UnreadError(f"its scale {x.scale:g} is too small")
    most = (2**EXP_INTEGER_BITS - 1) * 2.0**EXP_FRACTION_BITS / 2**factor.shift
    least = max(-math.floor(most), -255)
    value = reader.add("integer_softmax", _name(waiting), (x.value,), least=least, **factor._asdict())
    return reader.rescaled(value, Integers(value, None, (1 / 256,), -128), waiting, out, _name(waiting))


def _identity(reader: Reader, waiting: Pending, out: Integers) -> int:
    x = _computed(waiting)
    return reader.rescaled(x.value, x, waiting, out, _name(waiting))


# -- moves ----------------------------------------------------------------------------------------------------------


def _aten(reader: Reader, waiting: Pending, operator: str, values: Sequence[int], *arguments: Any) -> int:
    dims = len(reader.forms[values[0]].shape)
    given: list[Any] = [{"input": index, "order": list(range(dims))} for index in range(len(values))]
    first = given[0] if len(given) == 1 else given
    return reader.add("aten", _name(waiting), tuple(values), operator=operator, arguments=[first, *arguments])


def _reshape(reader: Reader, waiting: Pending, out: Integers) -> int:
    """Reshape and Flatten, which keep samples apart."""
    x = _computed(waiting)
    shape = list(reader.forms[x.value].shape)
    if waiting.operator.name == "Flatten":
        wanted = [0, -1]
        if waiting.operator.attrs.get("axis", 1) != 1:
            raise UnreadError("it must keep the batch")
    else:
        given = waiting.operands[1] if len(waiting.operands) > 1 else None
        if not isinstance(given, Tensor) or given.dtype != torch.int64 or waiting.operator.attrs.get("allowzero", 0):
            raise UnreadError("its shape must be int64 numbers of the file")
        wanted = [int(size) for size in given.flatten()]
    total = math.prod(shape[1:])
    rest = [shape[dim] if size == 0 and dim < len(shape) else size for dim, size in enumerate(wanted)][1:]
    known = math.prod(size for size in rest if size > 0)
    rest = [total // max(known, 1) if size == -1 else size for size in rest]
    if wanted[:1] not in ([0], [-1], [1]) or len(wanted) < 2 or wanted[1:].count(-1) > 1 or math.prod(rest) != total:
        raise UnreadError(f"it must keep the batch first; it makes {wanted} of {shape}")
    value = _aten(reader, waiting, "reshape.default", (x.value,), [-1, *rest])
    return reader.rescaled(value, x, waiting, out, _name(waiting))


def _transpose(reader: Reader, waiting: Pending, out: Integers) -> int:
    x = _computed(waiting)
    order, dims = waiting.operator.attrs.get("perm") or [], len(reader.forms[x.value].shape)
    if sorted(order) != list(range(dims)) or order[0] != 0:
        raise UnreadError(f"it must order the dimensions behind the batch; got {order}")
    value = _aten(reader, waiting, "permute.default", (x.value,), order)
    return reader.rescaled(value, x, waiting, out, _name(waiting))


def _concatenate(reader: Reader, waiting: Pending, out: Integers) -> int:
    """Each part in the scale of the result first."""
    parts = [_computed(waiting, place) for place in range(len(waiting.operands))]
    dims = len(reader.forms[parts[0].value].shape)
    axis = waiting.operator.attrs.get("axis", 0)
    if len(parts) < 2 or not -dims <= axis < dims or axis % dims == 0:
        raise UnreadError(f"it must join two or more values along a dimension other than the batch; got {axis}")
    values = [reader.rescaled(part.value, part, waiting, out, _name(waiting)) for part in parts]
    return _aten(reader, waiting, "cat.default", values, axis % dims)


EMITTERS: dict[str, Emit] = {
    "Conv": _conv,
    "Gemm": _linear,
    "MatMul": _linear,
    "Add": _sum("integer_add"),
    "Sub": _sum("integer_subtract"),
    "Mul": _multiply,
    "AveragePool": _pool("integer_average"),
    "MaxPool": _pool("integer_max"),
    "GlobalAveragePool": _mean,
    "Softmax": _softmax,
    "Identity": _identity,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Transpose": _transpose,
    "Concat": _concatenate,
}
"""By the names of ONNX; Identity is a change of scale, or an activation alone."""
