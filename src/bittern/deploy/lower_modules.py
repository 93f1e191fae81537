# SPDX-License-Identifier: Apache-2.0
"""How each real layer becomes nodes of a program; low-bit layers are in `lower_binary`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bittern.deploy.kinds import PackError
from bittern.deploy.lower import Builder, Lowering, single_input
from bittern.deploy.lower_binary import lower_binary
from bittern.nn.activation import RPReLU, RSign
from bittern.nn.conv import BinaryConv1d, BinaryConv2d
from bittern.nn.linear import BinaryLinear


def _lower_conv(b: Builder, name: str, m: nn.Conv2d, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    if m.padding_mode != "zeros" or isinstance(m.padding, str):
        raise PackError(f"pack: layer {name!r} must pad with a number of zeros; got {m.padding_mode!r}, {m.padding!r}")
    tensors: dict[str, Tensor | None] = {"weight": m.weight, "bias": m.bias}
    return b.add(
        "conv",
        name,
        (single_input(args, name),),
        tensors,
        stride=list(m.stride),
        padding=list(m.padding),
        dilation=list(m.dilation),
        groups=m.groups,
    )


def _lower_linear(b: Builder, name: str, m: nn.Linear, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return b.add("linear", name, (single_input(args, name),), {"weight": m.weight, "bias": m.bias})


def _lower_batch_norm(b: Builder, name: str, m: nn.BatchNorm2d, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    if m.running_mean is None or m.running_var is None:
        raise PackError(f"pack: layer {name!r} keeps no running statistics; build it with track_running_stats=True")
    tensors: dict[str, Tensor | None] = {
        "mean": m.running_mean,
        "var": m.running_var,
        "weight": m.weight,
        "bias": m.bias,
    }
    return b.add("batch_norm", name, (single_input(args, name),), tensors, eps=m.eps)


def _lower_layer_norm(b: Builder, name: str, m: nn.LayerNorm, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    tensors: dict[str, Tensor | None] = {"weight": m.weight, "bias": m.bias}
    return b.add("layer_norm", name, (single_input(args, name),), tensors, shape=list(m.normalized_shape), eps=m.eps)


def _lower_rprelu(b: Builder, name: str, m: RPReLU, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    tensors: dict[str, Tensor | None] = {"before": m.before, "slope": m.slope, "after": m.after}
    return b.add("rprelu", name, (single_input(args, name),), tensors)


def _lower_rsign(b: Builder, name: str, m: RSign, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return b.add("shifted_sign", name, (single_input(args, name),), {"shift": m.shift})


def _lower_prelu(b: Builder, name: str, m: nn.PReLU, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return b.add("prelu", name, (single_input(args, name),), {"weight": m.weight})


def _lower_hardtanh(b: Builder, name: str, m: nn.Hardtanh, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return b.add("hardtanh", name, (single_input(args, name),), {}, least=float(m.min_val), most=float(m.max_val))


def _lower_leaky_relu(b: Builder, name: str, m: nn.LeakyReLU, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return b.add("leaky_relu", name, (single_input(args, name),), {}, slope=float(m.negative_slope))


def _lower_softmax(b: Builder, name: str, m: nn.Softmax, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    if m.dim is None:
        raise PackError(f"pack: layer {name!r} must name its dimension; use dim=1")
    return b.add("softmax", name, (single_input(args, name),), {}, dim=m.dim, log=isinstance(m, nn.LogSoftmax))


def as_list(value: int | tuple[int, ...], dims: int) -> list[int]:
    return [value] * dims if isinstance(value, int) else list(value)


def _pool(mode: str, dims: int) -> Lowering:
    def lowering(b: Builder, name: str, m: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        if getattr(m, "dilation", 1) not in (1, (1,) * dims) or getattr(m, "divisor_override", None) is not None:
            raise PackError(f"pack: layer {name!r}: dilation and divisor_override have no packed form; drop them")
        if getattr(m, "return_indices", False):
            raise PackError(f"pack: layer {name!r} must not return indices")
        return b.add(
            "pool",
            name,
            (single_input(args, name),),
            {},
            mode=mode,
            kernel=as_list(m.kernel_size, dims),
            stride=as_list(m.stride, dims),
            padding=as_list(m.padding, dims),
            ceil=m.ceil_mode,
            count_padding=bool(getattr(m, "count_include_pad", True)),
        )

    return lowering


def _adaptive(dims: int) -> Lowering:
    def lowering(b: Builder, name: str, m: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        size = as_list(m.output_size, dims)
        if any(s is None for s in size):
            raise PackError(f"pack: layer {name!r} must give both output sizes; got {m.output_size}")
        return b.add("adaptive_pool", name, (single_input(args, name),), {}, size=size)

    return lowering


def _lower_flatten(b: Builder, name: str, m: nn.Flatten, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return b.add("flatten", name, (single_input(args, name),), {}, start=m.start_dim, end=m.end_dim)


def _nothing(b: Builder, name: str, m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return single_input(args, name)


def _elementwise(kind: str) -> Lowering:
    def lowering(b: Builder, name: str, m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        if getattr(m, "approximate", "none") != "none":
            raise PackError(f"pack: layer {name!r} must be exact GELU; got approximate={m.approximate!r}")
        return b.add(kind, name, (single_input(args, name),), {})

    return lowering


MODULES: dict[type[nn.Module], Lowering] = {
    BinaryConv1d: lower_binary,
    BinaryConv2d: lower_binary,
    BinaryLinear: lower_binary,
    RPReLU: _lower_rprelu,
    RSign: _lower_rsign,
    nn.Conv1d: _lower_conv,
    nn.Conv2d: _lower_conv,
    nn.Linear: _lower_linear,
    nn.BatchNorm1d: _lower_batch_norm,
    nn.BatchNorm2d: _lower_batch_norm,
    nn.LayerNorm: _lower_layer_norm,
    nn.PReLU: _lower_prelu,
    nn.Hardtanh: _lower_hardtanh,
    nn.LeakyReLU: _lower_leaky_relu,
    nn.Softmax: _lower_softmax,
    nn.LogSoftmax: _lower_softmax,
    nn.MaxPool1d: _pool("max", 1),
    nn.MaxPool2d: _pool("max", 2),
    nn.AvgPool1d: _pool("average", 1),
    nn.AvgPool2d: _pool("average", 2),
    nn.AdaptiveAvgPool1d: _adaptive(1),
    nn.AdaptiveAvgPool2d: _adaptive(2),
    nn.Flatten: _lower_flatten,
    nn.Identity: _nothing,
    nn.Dropout: _nothing,
    nn.Dropout1d: _nothing,
    nn.Dropout2d: _nothing,
    nn.ReLU: _elementwise("relu"),
    nn.ReLU6: _elementwise("relu6"),
    nn.GELU: _elementwise("gelu"),
    nn.SiLU: _elementwise("silu"),
    nn.Sigmoid: _elementwise("sigmoid"),
    nn.Tanh: _elementwise("tanh"),
}


def module_lowering(module: nn.Module) -> Lowering | None:
    """The lowering of exactly this type: a subclass may compute something else."""
    return MODULES.get(type(module))
