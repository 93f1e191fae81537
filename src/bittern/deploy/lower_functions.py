# SPDX-License-Identifier: Apache-2.0
"""How each function or tensor method in a forward becomes nodes of a program."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from bittern import ops
from bittern.deploy.kinds import PackError
from bittern.deploy.lower import Builder, Lowering, Ref
from bittern.deploy.lower_modules import as_list

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


TENSORS = ("input", "other")
"""Arguments that take computed values; all others take plain numbers."""


def _bind(name: str, names: tuple[str, ...], defaults: Kwargs, args: Args, kwargs: Kwargs) -> Kwargs:
    """Positional and keyword arguments by name. Raises: PackError for one that has no packed form."""
    if len(args) > len(names):
        raise PackError(f"pack: call {name!r} has {len(args)} arguments; at most {len(names)} have a packed form")
    bound = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
    for key in bound:
        if key not in names:
            raise PackError(f"pack: call {name!r}: argument {key!r} has no packed form; drop it")
    missing = [key for key in names if key not in bound]
    if missing:
        raise PackError(f"pack: call {name!r}: argument {missing[0]!r} is missing")
    for key, value in bound.items():
        if isinstance(value, Ref) and key not in TENSORS:
            raise PackError(f"pack: call {name!r}: argument {key!r} must be a plain number; got a computed value")
    if "other" not in names and not isinstance(bound.get("input", Ref(0)), Ref):
        raise PackError(f"pack: call {name!r}: the input must be computed from the model's input")
    return bound


def _binary_operator(kind: str, constant: str | None) -> Lowering:
    def lowering(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
        a = _bind(name, ("input", "other", "alpha"), {"alpha": 1}, args, kwargs)
        if a["alpha"] != 1:
            raise PackError(f"pack: call {name!r}: alpha has no packed form; multiply first")
        left, right = a["input"], a["other"]
        if isinstance(left, Ref) and isinstance(right, Ref):
            return b.add(kind, name, (left, right), {})
        value = right if isinstance(left, Ref) else left
        swapped = not isinstance(left, Ref)
        if constant is None or not isinstance(value, (int, float)) or (swapped and kind == "subtract"):
            raise PackError(f"pack: call {name!r}: only tensors and plain numbers can be combined")
        number = -float(value) if kind == "subtract" else float(value)
        return b.add("constant", name, (right if swapped else left,), {}, operation=constant, value=number)

    return lowering


def _unary(kind: str) -> Lowering:
    def lowering(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
        # where it writes does not matter here: `in_place` has dealt with that
        a = _bind(name, ("input", "inplace"), {"inplace": False}, args, kwargs)
        return b.add(kind, name, (a["input"],), {})

    return lowering


def _hardtanh(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
    names = ("input", "min_val", "max_val", "inplace")
    a = _bind(name, names, {"min_val": -1.0, "max_val": 1.0, "inplace": False}, args, kwargs)
    return b.add("hardtanh", name, (a["input"],), {}, least=float(a["min_val"]), most=float(a["max_val"]))


def _clamp(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
    a = _bind(name, ("input", "min", "max"), {}, args, kwargs)
    return b.add("hardtanh", name, (a["input"],), {}, least=float(a["min"]), most=float(a["max"]))


def _flatten(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
    a = _bind(name, ("input", "start_dim", "end_dim"), {"start_dim": 0, "end_dim": -1}, args, kwargs)
    return b.add("flatten", name, (a["input"],), {}, start=a["start_dim"], end=a["end_dim"])


def _cat(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
    a = _bind(name, ("tensors", "dim"), {"dim": 0}, args, kwargs)
    if not all(isinstance(part, Ref) for part in a["tensors"]):
        raise PackError(f"pack: call {name!r}: only values computed from the model's input can be concatenated")
    return b.add("concatenate", name, tuple(a["tensors"]), {}, dim=a["dim"])


def _pad(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
    a = _bind(name, ("input", "pad", "mode", "value"), {"mode": "constant", "value": 0.0}, args, kwargs)
    if a["mode"] != "constant":
        raise PackError(f"pack: call {name!r} must pad with a constant; got mode={a['mode']!r}")
    return b.add("pad", name, (a["input"],), {}, amount=list(a["pad"]), value=float(a["value"] or 0.0))


def _mean(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
    a = _bind(name, ("input", "dim", "keepdim"), {"keepdim": False}, args, kwargs)
    return b.add("mean", name, (a["input"],), {}, dims=as_list(a["dim"], 1), keep=a["keepdim"])


def _reshape(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
    shape = _sizes(name, "shape", args, kwargs)
    if any(isinstance(s, Ref) or not isinstance(s, int) for s in shape):
        raise PackError(f"pack: call {name!r}: sizes must be plain numbers, the batch -1; use flatten(1)")
    return b.add("reshape", name, (args[0],), {}, shape=list(shape))


def _sizes(name: str, key: str, args: Args, kwargs: Kwargs) -> Args:
    """The numbers of x.reshape(a, b), x.reshape((a, b)) and reshape(x, (a, b)), which no keyword may name."""
    if kwargs or len(args) < 2:
        given = ", ".join(kwargs) or "nothing"
        raise PackError(f"pack: call {name!r} must give its {key} as numbers by position; got {given}")
    return tuple(args[1]) if len(args) == 2 and isinstance(args[1], (tuple, list)) else args[1:]


def _permute(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
    order = _sizes(name, "dims", args, kwargs)
    return b.add("permute", name, (args[0],), {}, order=list(order))


def _pool(mode: str, dims: int) -> Lowering:
    average = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    maximum = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    names = maximum if mode == "max" else average
    all_defaults = {"stride": None, "padding": 0, "ceil_mode": False, "count_include_pad": True, "dilation": 1}

    def lowering(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
        if kwargs.pop("return_indices", False):
            raise PackError(f"pack: call {name!r} must not return indices")
        a = _bind(name, names, {k: v for k, v in all_defaults.items() if k in names}, args, kwargs)
        if a.get("dilation", 1) not in (1, (1,) * dims, [1] * dims):
            raise PackError(f"pack: call {name!r}: a dilated pool has no packed form")
        stride = a["kernel_size"] if a["stride"] is None else a["stride"]
        return b.add(
            "pool",
            name,
            (a["input"],),
            {},
            mode=mode,
            kernel=as_list(a["kernel_size"], dims),
            stride=as_list(stride, dims),
            padding=as_list(a["padding"], dims),
            ceil=a["ceil_mode"],
            count_padding=a.get("count_include_pad", True),
        )

    return lowering


def _adaptive(dims: int) -> Lowering:
    def lowering(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
        a = _bind(name, ("input", "output_size"), {}, args, kwargs)
        size = as_list(a["output_size"], dims)
        if any(s is None for s in size):
            raise PackError(f"pack: call {name!r} must give both output sizes; got {a['output_size']}")
        return b.add("adaptive_pool", name, (a["input"],), {}, size=size)

    return lowering


def _softmax(log: bool) -> Lowering:
    def lowering(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
        kwargs.pop("_stacklevel", None)  # torch's own, for the place that its warnings name
        if kwargs.pop("dtype", None) is not None:
            raise PackError(f"pack: call {name!r}: dtype has no packed form; drop it")
        a = _bind(name, ("input", "dim"), {}, args, kwargs)
        return b.add("softmax", name, (a["input"],), {}, dim=a["dim"], log=log)

    return lowering


def _slice(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
    """x[:, a:b:s], x[:, :, ::s, ::s]: slices of plain numbers, the batch left whole."""
    x, index = args
    index = index if isinstance(index, tuple) else (index,)
    for part in index:
        if not isinstance(part, slice) or any(isinstance(v, Ref) or (v or 0) < 0 for v in _parts(part)):
            raise PackError(f"pack: call {name!r}: only slices with non-negative numbers have a packed form")
    if index and index[0] != slice(None):
        raise PackError(f"pack: call {name!r} slices the batch; samples must stay independent")
    value = int(x)
    for dim, part in enumerate(index):
        if part != slice(None):
            value = b.add(
                "slice", name, (value,), {}, dim=dim, start=part.start or 0, stop=part.stop, step=part.step or 1
            )
    return value


def _parts(part: slice) -> tuple[Any, Any, Any]:
    return part.start, part.stop, part.step


def _dropout(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
    names = ("input", "p", "training", "inplace")
    a = _bind(name, names, {"p": 0.5, "training": True, "inplace": False}, args, kwargs)
    if a["training"]:
        raise PackError(f"pack: call {name!r} drops values in eval mode too; pass training=self.training")
    return int(a["input"])


def _contiguous(b: Builder, name: str, target: Any, args: Args, kwargs: Kwargs) -> int:
    return int(_bind(name, ("input", "memory_format"), {"memory_format": None}, args, kwargs)["input"])


_ADD = _binary_operator("add", "add")
_SUBTRACT = _binary_operator("subtract", "add")
_MULTIPLY = _binary_operator("multiply", "multiply")

FUNCTIONS: dict[Callable[..., Any] | str, Lowering] = {
    operator.add: _ADD,
    operator.iadd: _ADD,
    operator.isub: _SUBTRACT,
    operator.imul: _MULTIPLY,
    torch.add: _ADD,
    "add": _ADD,
    operator.sub: _SUBTRACT,
    torch.sub: _SUBTRACT,
    "sub": _SUBTRACT,
    operator.mul: _MULTIPLY,
    torch.mul: _MULTIPLY,
    "mul": _MULTIPLY,
    operator.getitem: _slice,
    torch.cat: _cat,
    torch.flatten: _flatten,
    "flatten": _flatten,
    "reshape": _reshape,
    "view": _reshape,
    torch.reshape: _reshape,
    "permute": _permute,
    torch.permute: _permute,
    "mean": _mean,
    torch.mean: _mean,
    F.pad: _pad,
    F.hardtanh: _hardtanh,
    torch.clamp: _clamp,
    "clamp": _clamp,
    F.relu: _unary("relu"),
    torch.relu: _unary("relu"),
    "relu": _unary("relu"),
    F.relu6: _unary("relu6"),
    F.gelu: _unary("gelu"),
    F.silu: _unary("silu"),
    torch.sigmoid: _unary("sigmoid"),
    "sigmoid": _unary("sigmoid"),
    torch.tanh: _unary("tanh"),
    "tanh": _unary("tanh"),
    ops.sign.overload: _unary("sign"),
    F.max_pool1d: _pool("max", 1),
    F.max_pool2d: _pool("max", 2),
    F.avg_pool1d: _pool("average", 1),
    F.avg_pool2d: _pool("average", 2),
    F.adaptive_avg_pool1d: _adaptive(1),
    F.adaptive_avg_pool2d: _adaptive(2),
    F.softmax: _softmax(False),
    F.log_softmax: _softmax(True),
    F.dropout: _dropout,
    "contiguous": _contiguous,
}


def function_lowering(target: Any) -> Lowering | None:
    return FUNCTIONS.get(target)
