# SPDX-License-Identifier: Apache-2.0
"""How a layer of Bittern's becomes nodes of a program: encode, binary, and what comes after the integer."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern import ops
from bittern.codes import Code, Reals, symmetric
from bittern.deploy.bit_stream import to_streams
from bittern.deploy.errors import PackError
from bittern.deploy.finite import all_finite
from bittern.deploy.front.builder import Builder, Ref
from bittern.deploy.kinds.binary import SUMS, TORCH
from bittern.deploy.kinds.node_codes import MOST_PLANES
from bittern.nn.activation import RPReLU, RSign
from bittern.nn.binarize import MAX_EXACT_FAN_IN
from bittern.nn.conv import BinaryConv1d, BinaryConv2d
from bittern.nn.linear import BinaryLinear
from bittern.quantizer import (
    InputCode,
    InputScale,
    LevelsCode,
    Quantized,
    Quantizer,
    RealCode,
    RowCode,
    SignCode,
    reads_reals,
    term_names,
    weight_codes,
    weight_terms,
)

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


def call_name(b: Builder, name: str, layer: Any) -> str:
    """The name of the next call of a layer, "conv" or "conv#2", for one whose nodes have names of their own."""
    products = term_names(name, len(weight_codes(layer.method))) if isinstance(layer, BinaryLayer) else (name,)
    first, *_ = [b.unique(product) for product in products]
    return name + first.removeprefix(products[0])


def _low_bit(b: Builder, name: str, layer: BinaryLayer, x: Ref) -> Ref:
    """Nodes of one low-bit layer: the very steps of `nn.binarize.low_bit_forward` in eval mode."""
    method, code = layer.method, layer.method.input_code()
    factors, codes = method.output_factors(), _checked_codes(name, layer)
    terms = weight_terms(method, layer.weight)
    single = len(codes) == 1 and codes[0].bits == code.grid.bits == 1
    folds_bias = single and not _is_dynamic(code) and not factors
    bits = _encoded(b, name, layer, x)
    of_rows = b.add("row_scale", f"{name}.row_scale", (x,), {}) if isinstance(code, RowCode) else None
    names = term_names(name, len(terms))
    y = None
    for term_name, term_code, term in zip(names, codes, terms, strict=True):
        part = _Term(term_name, term_code, term, layer.bias if folds_bias else None)
        product = _real_product(b, layer, part, bits) if reads_reals(method) else _product(b, layer, part, x, bits)
        if of_rows is not None:
            product = b.add("multiply", f"{term_name}.scaled", (product, of_rows), {})
        y = product if y is None else b.add("add", f"{name}.sum", (y, product), {})
    assert y is not None
    if factors:
        y = _factors(b, f"{name}.factors", y, factors)
    if layer.bias is not None and not folds_bias:
        y = b.add("bias", f"{name}.bias", (y,), {"bias": layer.bias}, last=not method.shape.space_dims)
    return y


def _factors(b: Builder, name: str, x: Ref, factors: tuple[Tensor, ...]) -> Ref:
    """factors: x times each of them."""
    shapes = [number for factor in factors for number in (factor.ndim, *factor.shape)]
    flat = torch.cat([factor.flatten() for factor in factors])
    return b.add("factors", name, (x,), {"factors": flat}, shapes=shapes)


def _checked_codes(name: str, layer: BinaryLayer) -> tuple[Code, ...]:
    """The code of each term of a weight.

    Raises: PackError for weights that have no sign, for codes that are no sums of planes about 0, and for accumulators
    that float32 training does not compute exactly.
    """
    if not all_finite(layer.weight):
        raise PackError(f"pack: layer {name!r} has NaN or infinity among its weights; train it again or repair it")
    method, grid = layer.method, layer.method.input_code().grid
    if isinstance(grid, Reals):
        return tuple(_decodable(name, code) for code in weight_codes(method))
    codes = tuple(_packable(name, code) for code in weight_codes(method))
    for code in codes:
        reach = method.shape.fan_in * sum(code.plane_factors) * sum(grid.plane_factors)
        if reach > MAX_EXACT_FAN_IN:
            raise PackError(
                f"pack: layer {name!r} reaches accumulators of {reach}, beyond 2^24, where float32 training is not "
                "exact; use fewer bits or a smaller layer"
            )
    return codes


def _decodable(name: str, code: Code | Reals) -> Code:
    """A code of weights that meet real inputs. Raises: PackError unless a file can hold it."""
    if isinstance(code, Reals):
        raise PackError(f"pack: layer {name!r} has real weights; train it with those of its method first")
    if code.bits > MOST_PLANES:
        raise PackError(f"pack: layer {name!r} has weights of {code.bits} bits; at most {MOST_PLANES} are packed")
    return code


def _packable(name: str, code: Code | Reals) -> Code:
    """A code of weights that meet bits. Raises: PackError unless a file can hold it."""
    code = _decodable(name, code)
    nearest = symmetric(code.levels)
    if (code.low, code.high, code.step) != (nearest.low, nearest.high, nearest.step):
        raise PackError(
            f"pack: layer {name!r} has weights of the code {code}; {code.levels} numbers are packed as "
            f"{nearest.low} ... {nearest.high} in steps of {nearest.step}; put the rest into the scale"
        )
    return code


def _encoded(b: Builder, name: str, layer: BinaryLayer, x: Ref) -> Ref:
    """encode: the bits of what a layer is given, behind what says where that lies among its levels.

    Where it stays real: that itself, times its gain.
    """
    code = layer.method.input_code()
    if isinstance(code, RealCode):
        return x if code.gain is None else _factors(b, f"{name}.input", x, (layer.method.shape.input_view(code.gain),))
    if isinstance(code, RowCode):
        x = b.add("row_levels", f"{name}.rows", (x,), {})
    elif isinstance(code, LevelsCode) and code.low is not None and code.width is not None:
        x = b.add("in_range", f"{name}.range", (x,), {"range": _range(name, code.low, code.width)})
    threshold = code.threshold if isinstance(code, SignCode) else None
    return b.add("encode", f"{name}.input", (x,), {"threshold": threshold}, planes=code.grid.bits, **_common(layer))


def _range(name: str, low: Tensor, width: Tensor) -> Tensor:
    """Both in one tensor. Raises: PackError where no level follows from them."""
    both = torch.stack([low.detach(), width.detach()]).float()
    if both.shape != (2,) or not all_finite(both) or float(both[1]) == 0.0:
        raise PackError(
            f"pack: layer {name!r} has input levels from {low.tolist()} over a width of {width.tolist()}; both must "
            "be finite 0-dim numbers, and the width not 0; train it again or repair it"
        )
    return both


def _common(layer: BinaryLayer) -> dict[str, Any]:
    """Attributes that encode and binary share."""
    shape, code = layer.method.shape, layer.method.input_code()
    match code:
        case LevelsCode():
            kind = "odd" if code.signed else "levels"
        case RowCode():
            kind = "integers"
        case _:
            kind = "sign"
    return {"dims": shape.space_dims, "code": kind, "channels": shape.in_channels}


SEED, SAMPLES = 0, 32
"""Of the random numbers on which the order of an input scale is seen."""


class _Term(NamedTuple):
    """One term of a weight."""

    name: str
    code: Code
    weight: Quantized
    bias: Tensor | None
    """What its product adds at last."""


def _product(b: Builder, layer: BinaryLayer, term: _Term, x: Ref, bits: Ref) -> Ref:
    """binary, with the constant scale and, if given, the bias as epilogue."""
    method, geometry, shape = layer.method, layer.geometry, layer.method.shape
    input_code = method.input_code()
    dynamic = input_code.scale if isinstance(input_code, SignCode) else InputScale.NONE
    _check_term(term, method)
    scale = _static_scale(layer, term.weight.scale, input_code)
    rows = [row for row in (scale, term.bias) if row is not None]
    planes = to_streams(term.code, term.weight.values)
    levels = {"weight_levels": term.code.levels} if term.code.redundant else {}
    return b.add(
        "binary",
        term.name,
        (bits,) if dynamic is InputScale.NONE else (bits, x),
        {"weight": planes, "epilogue": torch.stack(rows) if rows else None},
        **_common(layer),
        **levels,
        kernel=list(shape.weight[2:]),
        stride=list(geometry.stride),
        padding=list(geometry.padding),
        dilation=list(geometry.dilation),
        out_channels=shape.out_channels,
        groups=geometry.groups,
        input_planes=input_code.grid.bits,
        weight_planes=term.code.bits,
        pad_value=geometry.pad_value,
        input_scale=dynamic.value,
        scale_order=_scale_order(layer, dynamic),
        epilogue=_EPILOGUES[scale is not None, term.bias is not None],
        result="real",
    )


def _real_product(b: Builder, layer: BinaryLayer, term: _Term, x: Ref) -> Ref:
    """decoded, and the constant scale behind it."""
    method, geometry, shape = layer.method, layer.geometry, layer.method.shape
    _check_term(term, method)
    y = b.add(
        "decoded",
        term.name,
        (x,),
        {"weight": to_streams(term.code, term.weight.values)},
        dims=shape.space_dims,
        kernel=list(shape.weight[2:]),
        stride=list(geometry.stride),
        padding=list(geometry.padding),
        dilation=list(geometry.dilation),
        channels=shape.in_channels,
        out_channels=shape.out_channels,
        groups=geometry.groups,
        low=term.code.low,
        high=term.code.high,
        step=term.code.step,
    )
    scale = _static_scale(layer, term.weight.scale, method.input_code())
    return y if scale is None else _factors(b, f"{term.name}.scale", y, (shape.output_view(scale),))


def _scale_order(layer: BinaryLayer, scale: InputScale) -> str:
    """In which order a method adds |x| for its input scale, seen on random numbers: `mean_magnitude`'s, or torch's."""
    if scale is InputScale.NONE:
        return TORCH
    shape, draw = layer.method.shape, torch.Generator().manual_seed(SEED)
    size = (SAMPLES, shape.in_channels, *(3,) * shape.space_dims)
    x = torch.randn(size, generator=draw, dtype=torch.float32, device="cpu")
    mean = ops.mean_magnitude(x)
    expected = ops.mean_of_sample(mean) if scale is InputScale.PER_SAMPLE else mean
    found = layer.method.input(x).scale
    return SUMS if found is not None and torch.equal(found, expected) else TORCH


def _check_term(term: _Term, method: Quantizer) -> None:
    """Refuse a weight that is not what its code says. Raises: PackError."""
    values, scale = term.weight
    owner = type(method).__name__
    if not term.code.contains(values):
        raise PackError(f"pack: layer {term.name!r}: {owner} gave weights off its grid, {term.code}")
    if not term.code.scale.holds(scale, values.shape):
        assert scale is not None
        raise PackError(
            f"pack: layer {term.name!r}: {owner} gave scales {list(scale.shape)}, and its code {term.code} has "
            f"{list(term.code.scale.shape(values.shape))}"
        )


def _static_scale(layer: BinaryLayer, weight_scale: Tensor | None, code: InputCode) -> Tensor | None:
    """The constant scale per output channel, computed by the very expression of `nn.binarize.low_bit_forward`."""
    static = None if weight_scale is None else weight_scale.reshape(-1)
    constant = None if _is_dynamic(code) else _constant_input_scale(layer)
    if constant is not None:
        static = constant.reshape(1) if static is None else static * constant
    return None if static is None else static.expand(layer.method.shape.out_channels)


def _is_dynamic(code: InputCode) -> bool:
    """Whether the scale of an input is computed from it at run time."""
    return isinstance(code, RowCode) or (isinstance(code, SignCode) and code.scale is not InputScale.NONE)


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
