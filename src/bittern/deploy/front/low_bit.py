# SPDX-License-Identifier: Apache-2.0
"""How a layer of Bittern's becomes nodes of a program: encode, binary, and what comes after the integer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.codes import Code, Floats, Ones, Signs
from bittern.deploy.bit_stream import to_streams
from bittern.deploy.errors import PackError
from bittern.deploy.finite import all_finite
from bittern.deploy.front.builder import Builder, Ref
from bittern.deploy.front.multibit import has_multibit_inputs, multibit_linear
from bittern.deploy.front.terms import (
    BinaryLayer,
    Term,
    check_term,
    checked_codes,
    is_dynamic,
    is_symmetric,
    scale_order,
    static_scale,
)
from bittern.deploy.kinds.activations import DPRELU_ROWS
from bittern.nn.activation import DPReLU, RSign, ShiftedPReLU
from bittern.nn.binarize import is_repeated
from bittern.quantizer import (
    InputCode,
    InputScale,
    LevelsCode,
    OnesCode,
    Quantized,
    RealCode,
    RowCode,
    SignCode,
    StepsCode,
    WholeCode,
    input_codes,
    product_names,
    weight_terms,
)

_EPILOGUES = {(False, False): "none", (True, False): "scale", (False, True): "bias", (True, True): "scale+bias"}
"""Name of the epilogue by whether it has a scale and a bias."""


def lower_layer(b: Builder, name: str, layer: Any, x: Ref) -> Ref:
    """Nodes of one layer of Bittern's, called with value x."""
    if isinstance(layer, ShiftedPReLU):
        return b.add("rprelu", name, (x,), {"before": layer.before, "slope": layer.slopes(), "after": layer.after})
    if isinstance(layer, DPReLU):
        vectors: dict[str, Tensor | None] = {role: getattr(layer, role) for role in DPRELU_ROWS}
        return b.add("dprelu", name, (x,), vectors)
    if isinstance(layer, RSign):
        return b.add("shifted_sign", name, (x,), {"shift": layer.shift})
    return _low_bit(b, name, layer, x)


def call_name(b: Builder, name: str, layer: Any) -> str:
    """The name of the next call of a layer, "conv" or "conv#2", for one whose nodes have names of their own."""
    products = product_names(name, layer.method) if isinstance(layer, BinaryLayer) else (name,)
    first, *_ = [b.unique(product) for product in products]
    return name + first.removeprefix(products[0])


def _low_bit(b: Builder, name: str, layer: BinaryLayer, x: Ref) -> Ref:
    """Nodes of one low-bit layer: the very steps of `nn.binarize.low_bit_forward` in eval mode.

    A gate is no part of them: torch.export finds its operators around the layer.
    """
    method, x_codes = layer.method, input_codes(layer.method)
    factors, codes, bias = method.output_factors(), checked_codes(name, layer), layer.product_bias
    decoded = isinstance(x_codes[0], RealCode | WholeCode)
    single = not decoded and len(x_codes) == len(codes) == 1 and codes[0].bits == x_codes[0].grid.bits == 1
    if has_multibit_inputs(layer):
        grids = tuple(code for code in codes if not isinstance(code, Floats))  # which meet no bits: `checked_codes`
        y = multibit_linear(b, name, layer, x, grids, None if factors else bias)
        if not factors:
            return y
        y = _factors(b, f"{name}.factors", y, factors)
        return y if bias is None else _with_bias(b, f"{name}.bias", layer, y, bias)
    folds_bias = single and not is_dynamic(x_codes[0]) and not factors
    y = _sum_of_terms(b, name, layer, x, codes, bias if folds_bias else None)
    if factors:
        y = _factors(b, f"{name}.factors", y, factors)
    return y if bias is None or folds_bias else _with_bias(b, f"{name}.bias", layer, y, bias)


def _sum_of_terms(
    b: Builder, name: str, layer: BinaryLayer, x: Ref, codes: Sequence[Code | Floats], bias: Tensor | None
) -> Ref:
    """The products of all terms, added in their order; bias: what a single one adds at last."""
    names = iter(product_names(name, layer.method))
    weights = weight_terms(layer.method, layer.weight)
    y: Ref | None = None
    first: Ref | None = None
    for index, x_code in enumerate(input_codes(layer.method)):
        real = _residual(b, name, layer, x_code, x) if isinstance(x_code, SignCode) else x
        bits = None if isinstance(x_code, OnesCode) else _encoded(b, name, layer, x_code, real)
        first = bits if first is None else first
        of_rows = b.add("row_scale", f"{name}.row_scale", (x,), {}) if isinstance(x_code, RowCode) else None
        for code, weight in zip(codes, weights, strict=True):
            term = Term(next(names), index, x_code, code, weight, bias)
            check_term(term, layer.method)
            if bits is None:
                assert y is not None
                assert first is not None
                y = _with_ones(b, layer, term, y, first)
                continue
            reals = isinstance(x_code, RealCode | WholeCode)
            product = _real_product(b, layer, term, bits) if reals else _product(b, layer, term, real, bits)
            if of_rows is not None:
                product = b.add("multiply", f"{term.name}.scaled", (product, of_rows), {})
            y = product if y is None else b.add("add", f"{name}.sum", (y, product), {})
    assert y is not None
    return y


def _with_bias(b: Builder, name: str, layer: BinaryLayer, y: Ref, bias: Tensor) -> Ref:
    return b.add("bias", name, (y,), {"bias": bias}, last=not layer.method.shape.space_dims)


def _factors(b: Builder, name: str, x: Ref, factors: tuple[Tensor, ...]) -> Ref:
    """factors: x times each of them."""
    shapes = [number for factor in factors for number in (factor.ndim, *factor.shape)]
    flat = torch.cat([factor.flatten() for factor in factors])
    return b.add("factors", name, (x,), {"factors": flat}, shapes=shapes)


def _residual(b: Builder, name: str, layer: BinaryLayer, code: SignCode, x: Ref) -> Ref:
    """R_order: x, or what as many planes of scaled signs leave of it."""
    for _ in range(code.order):
        x = b.add(
            "sign_residual", f"{name}.residual", (x,), {}, dims=layer.method.shape.space_dims, scale=code.scale.value
        )
    return x


def _encoded(b: Builder, name: str, layer: BinaryLayer, code: InputCode, x: Ref) -> Ref:
    """encode: the bits of a term of what a layer is given, behind what says where that lies among its levels.

    Where it stays real: that itself, times its gain.
    """
    if isinstance(code, RealCode):
        return x if code.gain is None else _factors(b, f"{name}.input", x, (layer.method.shape.input_view(code.gain),))
    if isinstance(code, WholeCode):
        return b.add("to_steps", f"{name}.input", (x,), {"step": _step(name, code)}, below=-code.low, high=code.high)
    if isinstance(code, RowCode):
        x = b.add("row_levels", f"{name}.rows", (x,), {})
    elif isinstance(code, LevelsCode) and code.low is not None and code.width is not None:
        dims = layer.method.shape.space_dims
        x = b.add("in_range", f"{name}.range", (x,), _range(name, layer, code.low, code.width), dims=dims)
    elif isinstance(code, StepsCode):
        x = b.add("steps", f"{name}.steps", (x,), _steps(name, code), planes=code.bits, zero_level=code.zero)
    threshold = code.threshold if isinstance(code, SignCode) else None
    attrs = _common(layer, code)
    return b.add("encode", f"{name}.input", (x,), {"threshold": threshold}, planes=code.grid.bits, **attrs)


def _step(name: str, code: WholeCode) -> Tensor:
    """The tensor of `to_steps`. Raises: PackError."""
    step = torch.as_tensor(code.step).detach().float().reshape(-1)
    if len(step) != 1 or not all_finite(step) or not float(step) > 0.0:
        raise PackError(
            f"pack: layer {name!r} has inputs in steps of {step[:4].tolist()}; a step is one number above 0; train it "
            "again or repair it"
        )
    return step


def _range(name: str, layer: BinaryLayer, low: Tensor, width: Tensor) -> dict[str, Tensor | None]:
    """Tensors of `in_range`. Raises: PackError where no level follows from them."""
    low, width = low.detach().float(), width.detach().float()
    shape = layer.method.shape
    fits = low.ndim == 0 or tuple(low.shape) == (1, shape.in_channels, *(1,) * shape.space_dims)
    if not fits or width.ndim or not (all_finite(low) and all_finite(width)) or float(width) == 0.0:
        raise PackError(
            f"pack: layer {name!r} has input levels from {low.flatten()[:4].tolist()} over a width of "
            f"{width.tolist()}; both must be finite, one number or one low for each channel, and the width not 0; "
            "train it again or repair it"
        )
    return {"low": low.reshape(-1), "width": width.reshape(1)}


def _steps(name: str, code: StepsCode) -> dict[str, Tensor | None]:
    """Tensors of `steps`. Raises: PackError where no number follows from them."""
    step, origin = code.step.detach().float(), None if code.origin is None else code.origin.detach().float()
    single = step.ndim == 0 and (origin is None or origin.ndim == 0)
    if not single or not all_finite(step) or float(step) <= 0.0 or not (origin is None or all_finite(origin)):
        raise PackError(
            f"pack: layer {name!r} has inputs in steps of {step.flatten()[:4].tolist()}"
            f"{'' if origin is None else f' from {origin.flatten()[:4].tolist()} on'}; they must be one finite number "
            "above 0 and one finite number; train it again or repair it"
        )
    return {"step": step.reshape(1), "origin": None if origin is None else origin.reshape(1)}


def _common(layer: BinaryLayer, code: InputCode) -> dict[str, Any]:
    """Attributes that encode and binary share."""
    shape = layer.method.shape
    zero: dict[str, Any] = {}
    match code:
        case StepsCode():
            kind, zero = ("integers", {"zero_level": code.zero}) if code.zero else ("levels", {})
        case LevelsCode():
            kind = "odd" if code.signed else "levels"
        case RowCode():
            kind = "integers"
        case _:
            kind = "sign"
    return {"dims": shape.space_dims, "code": kind, "channels": shape.in_channels, **zero}


def _geometry(layer: BinaryLayer) -> dict[str, Any]:
    geometry = layer.geometry
    return {
        "kernel": list(layer.method.shape.weight[2:]),
        "stride": list(geometry.stride),
        "padding": list(geometry.padding),
        "dilation": list(geometry.dilation),
        "groups": geometry.groups,
    }


def _weights(term: Term) -> tuple[Tensor, dict[str, int]]:
    """The planes of a weight, and the attributes that say what they stand for."""
    assert not isinstance(term.code, Floats)  # these meet no bits
    if isinstance(term.code, Ones):  # its bits are those of signs that are all +1
        return to_streams(Signs(), term.weight.values), {"weight_planes": 1}
    levels = {"weight_levels": term.code.levels} if term.code.redundant else {}
    low = {} if is_symmetric(term.code) else {"weight_low": term.code.low}
    return to_streams(term.code, term.weight.values), {"weight_planes": term.code.bits, **levels, **low}


def _product(b: Builder, layer: BinaryLayer, term: Term, x: Ref, bits: Ref) -> Ref:
    """binary, with the constant scale and, if given, the bias as epilogue; of ones, one output of each group."""
    shape, x_code = layer.method.shape, term.x_code
    dynamic = x_code.scale if isinstance(x_code, SignCode) else InputScale.NONE
    scale, bias = static_scale(layer, term), term.bias
    repeated = is_repeated(term.code, not is_dynamic(x_code))
    if repeated:
        term = term._replace(weight=Quantized(term.weight.values[: shape.groups]))
    rows = [] if repeated else [row for row in (scale, bias) if row is not None]
    planes, attrs = _weights(term)
    y = b.add(
        "binary",
        term.name,
        (bits,) if dynamic is InputScale.NONE else (bits, x),
        {"weight": planes, "epilogue": torch.stack(rows) if rows else None},
        **_common(layer, x_code),
        **_geometry(layer),
        **attrs,
        out_channels=len(term.weight.values),
        input_planes=x_code.grid.bits,
        pad_value=layer.geometry.pad_value,
        input_scale=dynamic.value,
        scale_order=scale_order(layer, term, dynamic),
        epilogue="none" if repeated else _EPILOGUES[scale is not None, bias is not None],
        result="real",
    )
    if not repeated:
        return y
    scale = torch.ones(shape.out_channels) if scale is None else scale
    return b.add("copies", f"{term.name}.copies", (y,), {"scale": scale}, last=not shape.space_dims)


def _with_ones(b: Builder, layer: BinaryLayer, term: Term, y: Ref, bits: Ref) -> Ref:
    """y and the product of ones of the input, which is the same in every sample.

    bits: of images of the input's size. Where no window meets a 0 it is one number for each output.
    """
    shape, geometry = layer.method.shape, layer.geometry
    scale = static_scale(layer, term)
    if geometry.pad_value != 0 or not any(geometry.padding):
        sums = term.weight.values.flatten(1).sum(1)
        return _with_bias(b, f"{term.name}.ones", layer, y, sums if scale is None else sums * scale)
    planes, attrs = _weights(term)
    return b.add(
        "ones_product",
        term.name,
        (y, bits),
        {"weight": None if isinstance(term.code, Ones) else planes, "scale": scale},
        dims=shape.space_dims,
        channels=shape.in_channels,
        out_channels=shape.out_channels,
        **_geometry(layer),
        **attrs,
    )


def _real_product(b: Builder, layer: BinaryLayer, term: Term, x: Ref) -> Ref:
    """decoded, and the constant scale behind it; floats of few bits are multiplied as they are."""
    shape = layer.method.shape
    if isinstance(term.code, Floats):
        weight, geometry = term.weight.values.detach(), _geometry(layer)
        del geometry["kernel"]
        kind, attrs = ("conv", geometry) if shape.space_dims else ("linear", {})
        return b.add(kind, term.name, (x,), {"weight": weight.contiguous()}, **attrs)
    y = b.add(
        "decoded",
        term.name,
        (x,),
        {"weight": to_streams(term.code, term.weight.values)},
        dims=shape.space_dims,
        channels=shape.in_channels,
        out_channels=shape.out_channels,
        **_geometry(layer),
        low=term.code.low,
        high=term.code.high,
        step=term.code.step,
    )
    scale = static_scale(layer, term)
    return y if scale is None else _factors(b, f"{term.name}.scale", y, (shape.output_view(scale),))
