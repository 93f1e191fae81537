# SPDX-License-Identifier: Apache-2.0
"""How a layer of Bittern's becomes nodes of a program: encode, binary, and what comes after the integer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern.deploy.bit_stream import to_stream
from bittern.deploy.errors import PackError
from bittern.deploy.front.builder import Builder, Ref
from bittern.nn.activation import RPReLU, RSign
from bittern.nn.binarize import MAX_EXACT_FAN_IN
from bittern.nn.conv import BinaryConv1d, BinaryConv2d
from bittern.nn.linear import BinaryLinear
from bittern.quantizer import InputCode, InputScale, LevelsCode, Quantizer, SignCode

BinaryLayer = BinaryConv1d | BinaryConv2d | BinaryLinear

_EPILOGUES = {(False, False): "none", (True, False): "scale", (False, True): "bias", (True, True): "scale+bias"}
"""Name of the epilogue by whether it has a scale and a bias."""


def lower_layer(b: Builder, name: str, layer: Any, x: Ref) -> Ref:
    """Nodes of one layer of Bittern's, called with value x."""
    if isinstance(layer, RPReLU):
        return b.add("rprelu", name, (x,), {"before": layer.before, "slope": layer.slope, "after": layer.after})
    if isinstance(layer, RSign):
        return b.add("shifted_sign", name, (x,), {"shift": layer.shift})
    return _low_bit(b, name, layer, x)


def _low_bit(b: Builder, name: str, layer: BinaryLayer, x: Ref) -> Ref:
    """Nodes of one low-bit layer: the very steps of `nn.binarize.low_bit_forward` in eval mode."""
    code, factors = layer.method.input_code(), layer.method.output_factors()
    _check(name, layer, code)
    dynamic = code.scale if isinstance(code, SignCode) else InputScale.NONE
    single = layer.method.weight_bits == input_planes(code) == 1
    folds_bias = single and dynamic is InputScale.NONE and not factors
    y = _product(b, name, layer, x, code, layer.bias if folds_bias else None)
    if factors:
        shapes = [number for factor in factors for number in (factor.ndim, *factor.shape)]
        flat = torch.cat([factor.flatten() for factor in factors])
        y = b.add("factors", f"{name}.factors", (y,), {"factors": flat}, shapes=shapes)
    if layer.bias is not None and not folds_bias:
        y = b.add("bias", f"{name}.bias", (y,), {"bias": layer.bias}, last=not layer.method.shape.space_dims)
    return y


def input_planes(code: InputCode) -> int:
    """Number of bit planes of an encoded input."""
    return code.bits if isinstance(code, LevelsCode) else 1


def _check(name: str, layer: BinaryLayer, code: InputCode) -> None:
    """Refuse weights that have no sign, and accumulators that float32 training does not compute exactly."""
    if not bool(layer.weight.isfinite().all()):
        raise PackError(f"pack: layer {name!r} has NaN or infinity among its weights; train it again or repair it")
    levels = 2 ** input_planes(code) - 1
    reach = layer.method.shape.fan_in * (2**layer.method.weight_bits - 1) * levels
    if reach > MAX_EXACT_FAN_IN:
        raise PackError(
            f"pack: layer {name!r} reaches accumulators of {reach}, beyond 2^24, where float32 training is not "
            "exact; use fewer bits or a smaller layer"
        )


def _product(b: Builder, name: str, layer: BinaryLayer, x: int, code: InputCode, bias: Tensor | None) -> Ref:
    """encode and binary, with the constant scale and, if given, the bias as epilogue."""
    method, geometry, shape = layer.method, layer.geometry, layer.method.shape
    dynamic = code.scale if isinstance(code, SignCode) else InputScale.NONE
    common: dict[str, Any] = {
        "dims": shape.space_dims,
        "code": "levels" if isinstance(code, LevelsCode) else "sign",
        "channels": shape.in_channels,
    }
    threshold = code.threshold if isinstance(code, SignCode) else None
    bits = b.add("encode", f"{name}.input", (x,), {"threshold": threshold}, planes=input_planes(code), **common)
    quantized = method.weight(layer.weight)
    scale = _static_scale(layer, quantized.scale, code)
    rows = [row for row in (scale, bias) if row is not None]
    return b.add(
        "binary",
        name,
        (bits,) if dynamic is InputScale.NONE else (bits, x),
        {"weight": weight_planes(name, method, quantized.values), "epilogue": torch.stack(rows) if rows else None},
        **common,
        kernel=list(shape.weight[2:]),
        stride=list(geometry.stride),
        padding=list(geometry.padding),
        dilation=list(geometry.dilation),
        out_channels=shape.out_channels,
        groups=geometry.groups,
        input_planes=input_planes(code),
        weight_planes=method.weight_bits,
        pad_value=geometry.pad_value,
        input_scale=dynamic.value,
        epilogue=_EPILOGUES[scale is not None, bias is not None],
        result="real",
    )


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


def _static_scale(layer: BinaryLayer, weight_scale: Tensor | None, code: InputCode) -> Tensor | None:
    """The constant scale per output channel, computed by the very expression of `nn.binarize.low_bit_forward`."""
    static = None if weight_scale is None else weight_scale.reshape(-1)
    constant = None if _is_dynamic(code) else _constant_input_scale(layer)
    if constant is not None:
        static = constant.reshape(1) if static is None else static * constant
    return None if static is None else static.expand(layer.method.shape.out_channels)


def _is_dynamic(code: InputCode) -> bool:
    """Whether the scale of an input is computed from it at run time."""
    return isinstance(code, SignCode) and code.scale is not InputScale.NONE


def _constant_input_scale(layer: BinaryLayer) -> Tensor | None:
    """The scale that a method gives every input, or None. Raises: PackError where it differs from input to input."""
    method, shape = layer.method, layer.method.shape
    size = (2, shape.in_channels, *(1,) * shape.space_dims)
    scales = [method.input(torch.full(size, value, dtype=torch.float32)).scale for value in (0.0, 2.0)]
    first, second = scales
    if first is None and second is None:
        return None
    if first is None or second is None or first.ndim != 0 or not torch.equal(first, second):
        raise PackError(
            f"pack: {type(method).__name__} gives an input scale that is no constant, and its input_code names none; "
            "give a 0-dim constant, or name an InputScale in input_code"
        )
    return first
