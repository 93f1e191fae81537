# SPDX-License-Identifier: Apache-2.0
"""What a low-bit layer says of its terms, checked: their codes, their weights, and scales that no input changes."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from bittern.codes import Code, Floats, Ones, Reals, symmetric
from bittern.deploy.errors import PackError
from bittern.deploy.finite import all_finite
from bittern.deploy.kinds.binary import SUMS, TORCH
from bittern.deploy.kinds.node_codes import MOST_PLANES
from bittern.nn._layer_checks import MAX_EXACT_FAN_IN
from bittern.nn.conv import BinaryConv1d, BinaryConv2d
from bittern.nn.linear import BinaryLinear
from bittern.quantizer import (
    InputCode,
    InputScale,
    MultibitCode,
    Quantized,
    Quantizer,
    RealCode,
    RowCode,
    SignCode,
    WholeCode,
    input_codes,
    input_terms,
    reads_reals,
    weight_codes,
)

BinaryLayer = BinaryConv1d | BinaryConv2d | BinaryLinear

SEED, SAMPLES = 0, 32
"""Of the random numbers on which the order of an input scale is seen."""


class Term(NamedTuple):
    """A term of the input with one of the weight."""

    name: str
    of_input: int
    """Which term of the input it is."""
    x_code: InputCode
    code: Code | Floats
    weight: Quantized
    bias: Tensor | None
    """What its product adds at last."""


def checked_codes(name: str, layer: BinaryLayer) -> tuple[Code | Floats, ...]:
    """The code of each term of a weight.

    Raises: PackError for weights that have no sign, for codes that are no sums of planes, and for accumulators
    that float32 training does not compute exactly.
    """
    if not all_finite(layer.weight):
        raise PackError(f"pack: layer {name!r} has NaN or infinity among its weights; train it again or repair it")
    method = layer.method
    if isinstance(input_codes(method)[0], WholeCode):
        return _of_steps(name, method)
    if reads_reals(method):
        x_code = input_codes(method)[0]
        if isinstance(x_code, RealCode) and x_code.rounded:
            raise PackError(
                f"pack: layer {name!r} rounds its inputs to {x_code.rounded}, which no packed program does; train it "
                f"with real inputs, {type(method).__name__}(..., inputs=False)"
            )
        return tuple(_decodable(name, code) for code in weight_codes(method))
    packable = tuple(_packable(name, code) for code in weight_codes(method))
    for code, x_code in itertools.product(packable, input_codes(method)):
        grid = x_code.grid
        assert not isinstance(grid, Reals)
        if grid.bits > MOST_PLANES:
            raise PackError(f"pack: layer {name!r} has inputs of {grid.bits} bits; at most {MOST_PLANES} are packed")
        reach = method.shape.fan_in * _reach(code) * max(1, sum(grid.plane_factors))
        if reach > MAX_EXACT_FAN_IN:
            raise PackError(
                f"pack: layer {name!r} reaches accumulators of {reach}, beyond 2^24, where float32 training is not "
                "exact; use fewer bits or a smaller layer"
            )
    return packable


def _of_steps(name: str, method: Quantizer) -> tuple[Code | Floats, ...]:
    """The codes of weights that meet whole numbers of steps, whose products are sums of whole floats.

    Raises: PackError for codes that no file holds, other terms of the input, and sums that are not exact.
    """
    first, *others = input_codes(method)
    if others:
        raise PackError(f"pack: layer {name!r} has terms of inputs beside steps; leave the offset out")
    codes = tuple(_decodable(name, code) for code in weight_codes(method))
    grid = first.grid
    assert not isinstance(grid, Reals)
    for code in codes:
        if isinstance(code, Floats):
            continue
        reach = method.shape.fan_in * max(-code.low, code.high) * max(-grid.low, grid.high)
        if reach > MAX_EXACT_FAN_IN:
            raise PackError(
                f"pack: layer {name!r} reaches accumulators of {reach}, beyond 2^24, where float32 training is not "
                "exact; use fewer bits or a smaller layer"
            )
    return codes


def _decodable(name: str, code: Code | Reals) -> Code | Floats:
    """A code of weights that meet real inputs. Raises: PackError unless a file can hold it."""
    if isinstance(code, Floats):
        return code
    if isinstance(code, Reals):
        raise PackError(f"pack: layer {name!r} has real weights; train it with those of its method first")
    if code.bits > MOST_PLANES:
        raise PackError(f"pack: layer {name!r} has weights of {code.bits} bits; at most {MOST_PLANES} are packed")
    if isinstance(code, Ones):
        raise PackError(f"pack: layer {name!r} has weights of ones for inputs that stay real; leave the offset out")
    return code


def _packable(name: str, code: Code | Reals) -> Code:
    """A code of weights that meet bits. Raises: PackError unless a file can hold it."""
    if isinstance(code, Ones):
        return code
    code = _decodable(name, code)
    if isinstance(code, Floats):
        raise PackError(f"pack: layer {name!r} has weights of {code.name}, which meet no bits; leave its inputs real")
    if not is_symmetric(code) and (code.step != 1 or code.redundant or 0 not in code.values):
        nearest = symmetric(code.levels)
        raise PackError(
            f"pack: layer {name!r} has weights of the code {code}; {code.levels} numbers are packed as "
            f"{nearest.low} ... {nearest.high} in steps of {nearest.step}, or as many as so many bits have, in steps "
            "of 1 with 0 among them; put the rest into the scale"
        )
    return code


def is_symmetric(code: Code) -> bool:
    """Whether a code is the smallest of its levels about 0, which needs no plane of ones."""
    nearest = symmetric(code.levels)
    return (code.low, code.high, code.step) == (nearest.low, nearest.high, nearest.step)


def _reach(code: Code) -> int:
    """What the numbers of a code add up to at most, as signs times factors."""
    middle = 0 if isinstance(code, Ones) or is_symmetric(code) else abs(code.low + code.high)
    return max(1, sum(code.plane_factors) + middle)


def scale_order(layer: BinaryLayer, term: Term, scale: InputScale) -> str:
    """In which order a method adds |x| for its input scale, seen on random numbers: `mean_magnitude`'s, or torch's.

    Raises: PackError for torch's where signs are those of what scaled signs leave.
    """
    if scale is InputScale.NONE:
        return TORCH
    assert isinstance(term.x_code, SignCode)
    shape, draw = layer.method.shape, torch.Generator().manual_seed(SEED)
    size = (SAMPLES, shape.in_channels, *(3,) * shape.space_dims)
    x = torch.randn(size, generator=draw, dtype=torch.float32, device="cpu")
    found, rest = input_terms(layer.method, x)[term.of_input].scale, x
    for _ in range(term.x_code.order):
        rest = scale.residual(rest)
    if found is not None and torch.equal(found, scale.mean(rest)):
        return SUMS
    if term.x_code.order:
        raise PackError(
            f"pack: layer {term.name!r}: {type(layer.method).__name__} has signs of order {term.x_code.order}, whose "
            "scales are not those of InputScale.mean and InputScale.residual; use these in `input`"
        )
    return TORCH


def check_term(term: Term, method: Quantizer) -> None:
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


def static_scale(layer: BinaryLayer, term: Term) -> Tensor | None:
    """The constant scale per output channel, computed by the very expression of `nn.binarize.low_bit_forward`."""
    static = None if term.weight.scale is None else term.weight.scale.reshape(-1)
    constant = None if is_dynamic(term.x_code) else _constant_input_scale(layer, term.of_input)
    if constant is not None:
        static = constant.reshape(1) if static is None else static * constant
    return None if static is None else static.expand(layer.method.shape.out_channels)


def is_dynamic(code: InputCode) -> bool:
    """Whether the scale of an input is computed from it at run time."""
    return isinstance(code, RowCode | MultibitCode) or (isinstance(code, SignCode) and code.has_scale)


def _constant_input_scale(layer: BinaryLayer, index: int) -> Tensor | None:
    """The scale that a method gives a term of every input, or None.

    Raises: PackError where it differs from input to input.
    """
    method, shape = layer.method, layer.method.shape
    size = (2, shape.in_channels, *(1,) * shape.space_dims)
    first, second = (
        input_terms(method, torch.full(size, value, dtype=torch.float32))[index].scale for value in (0.0, 2.0)
    )
    if first is None and second is None:
        return None
    if first is None or second is None or first.ndim != 0 or not torch.equal(first, second):
        raise PackError(
            f"pack: {type(method).__name__} gives an input scale that is no constant, and its input_code names none; "
            "give a 0-dim constant, or name an InputScale in input_code"
        )
    return first
