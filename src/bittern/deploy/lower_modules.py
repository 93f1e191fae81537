"""How each layer becomes nodes of a program."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bittern.deploy.bits import to_stream
from bittern.deploy.kinds import PackError
from bittern.deploy.trace import Builder, Lowering, Ref
from bittern.nn.activation import RPReLU, RSign
from bittern.nn.binarize import MAX_EXACT_FAN_IN
from bittern.nn.conv import BinaryConv1d, BinaryConv2d
from bittern.nn.linear import BinaryLinear
from bittern.quantizer import InputScale, LevelsCode, Quantizer, SignCode

BinaryLayer = BinaryConv1d | BinaryConv2d | BinaryLinear


def _one(args: tuple[Any, ...], name: str) -> Ref:
    if len(args) != 1 or not isinstance(args[0], Ref):
        raise PackError(f"pack: layer {name!r} must be called with one tensor; got {len(args)} arguments")
    return args[0]


def weight_planes(name: str, method: Quantizer, values: Tensor) -> Tensor:
    """Integer weight values -> bit streams uint8 [planes, bytes] of +-1 planes with weights 2^i.

    Raises: PackError when a value is off the grid {-(2^k - 1), ..., -1, 1, ..., 2^k - 1} of odd integers.
    """
    bits = method.weight_bits
    top = 2**bits - 1
    codes = (values + top) / 2
    if not bool(((codes == codes.round()) & (codes >= 0) & (codes <= top)).all()):
        raise PackError(f"pack: layer {name!r}: {type(method).__name__} gave weights off its {bits}-bit grid")
    whole = codes.to(torch.int64)
    return torch.stack([to_stream((whole >> i & 1) * 2 - 1) for i in range(bits)])


def _lower_binary(b: Builder, name: str, layer: BinaryLayer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    x = _one(args, name)
    method, geometry, shape = layer.method, layer.geometry, layer.method.shape
    if not bool(layer.weight.isfinite().all()):
        raise PackError(f"pack: layer {name!r} has NaN or infinity among its weights; train it again or repair it")
    code = method.input_code()
    w_q = method.weight(layer.weight)
    levels = isinstance(code, LevelsCode)
    planes = code.bits if isinstance(code, LevelsCode) else 1
    reach = shape.fan_in * (2**method.weight_bits - 1) * (2**planes - 1 if levels else 1)
    if reach > MAX_EXACT_FAN_IN:
        raise PackError(
            f"pack: layer {name!r} reaches accumulators of {reach}, beyond 2^24, where float32 training is not "
            "exact; use fewer bits or a smaller layer"
        )
    threshold = code.threshold if isinstance(code, SignCode) else None
    bits = b.add(
        "encode",
        f"{name}.input",
        (x,),
        {"threshold": threshold},
        dims=shape.space_dims,
        code="levels" if levels else "sign",
        planes=planes,
        channels=shape.in_channels,
    )
    scale = _static_scale(layer, w_q.scale, code)
    dynamic = code.scale if isinstance(code, SignCode) else InputScale.NONE
    factors = method.output_factors()
    plain = dynamic is InputScale.NONE and not factors and method.weight_bits == planes == 1
    fold_bias = layer.bias if plain else None
    rows = [row for row in (scale, fold_bias) if row is not None]
    epilogue = {(False, False): "none", (True, False): "scale", (False, True): "bias", (True, True): "scale+bias"}
    y = b.add(
        "binary",
        name,
        (bits,) if dynamic is InputScale.NONE else (bits, x),
        {"weight": weight_planes(name, method, w_q.values), "epilogue": torch.stack(rows) if rows else None},
        dims=shape.space_dims,
        kernel=list(shape.weight[2:]),
        stride=list(geometry.stride),
        padding=list(geometry.padding),
        dilation=list(geometry.dilation),
        channels=shape.in_channels,
        out_channels=shape.out_channels,
        groups=geometry.groups,
        code="levels" if levels else "sign",
        input_planes=planes,
        weight_planes=method.weight_bits,
        pad_value=geometry.pad_value,
        input_scale=dynamic.value,
        epilogue=epilogue[scale is not None, fold_bias is not None],
        result="real",
    )
    if factors:
        shapes = [number for factor in factors for number in (factor.ndim, *factor.shape)]
        flat = torch.cat([factor.flatten() for factor in factors])
        y = b.add("factors", f"{name}.factors", (y,), {"factors": flat}, shapes=shapes)
    if layer.bias is not None and not plain:
        y = b.add("bias", f"{name}.bias", (y,), {"bias": layer.bias}, last=not shape.space_dims)
    return y


def _static_scale(layer: BinaryLayer, weight_scale: Tensor | None, code: SignCode | LevelsCode) -> Tensor | None:
    """The constant scale per output channel, computed by the very expression of `nn.binarize.low_bit_forward`."""
    static = None if weight_scale is None else weight_scale.reshape(-1)
    if isinstance(code, LevelsCode) and code.bits > 1:
        probe = layer.method.input(
            torch.zeros(1, layer.method.shape.in_channels, *(1,) * layer.method.shape.space_dims)
        )
        dynamic = probe.scale
        if dynamic is None or dynamic.ndim != 0:
            raise PackError(f"pack: {type(layer.method).__name__} must give a constant scale for its levels")
        static = dynamic.reshape(1) if static is None else static * dynamic
    return None if static is None else static.expand(layer.method.shape.out_channels)


def _lower_conv(b: Builder, name: str, m: nn.Conv2d, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    if m.padding_mode != "zeros" or isinstance(m.padding, str):
        raise PackError(f"pack: layer {name!r} must pad with a number of zeros; got {m.padding_mode!r}, {m.padding!r}")
    tensors: dict[str, Tensor | None] = {"weight": m.weight, "bias": m.bias}
    return b.add(
        "conv",
        name,
        (_one(args, name),),
        tensors,
        stride=list(m.stride),
        padding=list(m.padding),
        dilation=list(m.dilation),
        groups=m.groups,
    )


def _lower_linear(b: Builder, name: str, m: nn.Linear, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return b.add("linear", name, (_one(args, name),), {"weight": m.weight, "bias": m.bias})


def _lower_batch_norm(b: Builder, name: str, m: nn.BatchNorm2d, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    if m.running_mean is None or m.running_var is None:
        raise PackError(f"pack: layer {name!r} keeps no running statistics; build it with track_running_stats=True")
    tensors: dict[str, Tensor | None] = {
        "mean": m.running_mean,
        "var": m.running_var,
        "weight": m.weight,
        "bias": m.bias,
    }
    return b.add("batch_norm", name, (_one(args, name),), tensors, eps=m.eps)


def _lower_layer_norm(b: Builder, name: str, m: nn.LayerNorm, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    tensors: dict[str, Tensor | None] = {"weight": m.weight, "bias": m.bias}
    return b.add("layer_norm", name, (_one(args, name),), tensors, shape=list(m.normalized_shape), eps=m.eps)


def _lower_rprelu(b: Builder, name: str, m: RPReLU, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    tensors: dict[str, Tensor | None] = {"before": m.before, "slope": m.slope, "after": m.after}
    return b.add("rprelu", name, (_one(args, name),), tensors)


def _lower_rsign(b: Builder, name: str, m: RSign, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return b.add("shifted_sign", name, (_one(args, name),), {"shift": m.shift})


def _lower_prelu(b: Builder, name: str, m: nn.PReLU, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return b.add("prelu", name, (_one(args, name),), {"weight": m.weight})


def _lower_hardtanh(b: Builder, name: str, m: nn.Hardtanh, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return b.add("hardtanh", name, (_one(args, name),), {}, least=float(m.min_val), most=float(m.max_val))


def _lower_leaky_relu(b: Builder, name: str, m: nn.LeakyReLU, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return b.add("leaky_relu", name, (_one(args, name),), {}, slope=float(m.negative_slope))


def _lower_softmax(b: Builder, name: str, m: nn.Softmax, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    if m.dim is None:
        raise PackError(f"pack: layer {name!r} must name its dimension; use dim=1")
    return b.add("softmax", name, (_one(args, name),), {}, dim=m.dim, log=isinstance(m, nn.LogSoftmax))


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
            (_one(args, name),),
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
        return b.add("adaptive_pool", name, (_one(args, name),), {}, size=size)

    return lowering


def _lower_flatten(b: Builder, name: str, m: nn.Flatten, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return b.add("flatten", name, (_one(args, name),), {}, start=m.start_dim, end=m.end_dim)


def _nothing(b: Builder, name: str, m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return _one(args, name)


def _elementwise(kind: str) -> Lowering:
    def lowering(b: Builder, name: str, m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        if getattr(m, "approximate", "none") != "none":
            raise PackError(f"pack: layer {name!r} must be exact GELU; got approximate={m.approximate!r}")
        return b.add(kind, name, (_one(args, name),), {})

    return lowering


MODULES: dict[type[nn.Module], Lowering] = {
    BinaryConv1d: _lower_binary,
    BinaryConv2d: _lower_binary,
    BinaryLinear: _lower_binary,
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
