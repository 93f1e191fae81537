# SPDX-License-Identifier: Apache-2.0
"""What a low-bit layer refuses: methods that are none, sizes and codes that it cannot compute exactly, wrong inputs."""

from __future__ import annotations

from torch import Tensor

from bittern.codes import Ones, PerOutputChannel, PerTensor, Reals
from bittern.nn._check import check_floating
from bittern.nn._frozen import FrozenLinear
from bittern.nn.geometry import Geometry
from bittern.quantizer import (
    LayerShape,
    Method,
    OnesCode,
    Quantizer,
    RealCode,
    RowCode,
    SignCode,
    input_codes,
    weight_codes,
)

MAX_EXACT_FAN_IN = 2**24
"""Integers up to 2^24 are exact in float32, so an accumulator of at most this many +-1 terms is too."""

_METHOD_ADVICE = "pass the class, e.g. method=bittern.binary.BNN, or functools.partial(cls, option=...)"


def check_method(owner: str, method: Method) -> None:
    """Refuse what cannot make a method. Raises: TypeError."""
    if isinstance(method, Quantizer):
        name = type(method).__name__
        raise TypeError(
            f"{owner}: method must be a class, which makes one object per layer; got a {name} object; {_METHOD_ADVICE}"
        )
    if isinstance(method, type) and issubclass(method, FrozenLinear):
        raise TypeError(
            f"{owner}: method must be a Quantizer class; got {method.__name__}, which freezes a trained weight; "
            f"call bittern.nn.quantize(model, {method.__name__})"
        )
    if not callable(method):
        raise TypeError(f"{owner}: method must be a Quantizer class; got {method!r}; {_METHOD_ADVICE}")


def build_method(owner: str, method: Method, shape: LayerShape) -> Quantizer:
    """Make the method of one layer. Raises: TypeError when `method` is not a Quantizer class or a partial of one."""
    check_method(owner, method)
    built = method(shape)
    if not isinstance(built, Quantizer):
        raise TypeError(
            f"{owner}: method must make a Quantizer; {method!r} made a {type(built).__name__}; {_METHOD_ADVICE}"
        )
    ones = tuple(isinstance(code, Ones) for code in weight_codes(built))
    built.terms_of_ones = ones if any(ones) else ()
    return built


def check_shape(owner: str, shape: LayerShape) -> None:
    """Refuse sizes that no low-bit layer can have. Raises: ValueError."""
    if shape.fan_in == 0 or shape.out_channels == 0:
        raise ValueError(f"{owner}: needs at least one input and one output; got weight {list(shape.weight)}")
    if shape.fan_in > MAX_EXACT_FAN_IN:
        raise ValueError(
            f"{owner}: {shape.fan_in} weights per output exceed {MAX_EXACT_FAN_IN}, beyond which float32 "
            "accumulators are no longer exact; split the layer"
        )


def check_codes(owner: str, method: Quantizer) -> None:
    """Refuse codes that no low-bit layer computes with. Raises: ValueError."""
    name = type(method).__name__
    first, *others = input_codes(method)
    if isinstance(first, OnesCode):
        raise ValueError(f"{owner}: {name} has an input of ones first; name a term that depends on the input before it")
    for x_code in (first, *others):
        if others and isinstance(x_code, RealCode):
            raise ValueError(f"{owner}: an input that stays real is one term; {name} names others beside it")
        if isinstance(x_code, SignCode) and x_code.order and (x_code.threshold is not None or not x_code.has_scale):
            raise ValueError(
                f"{owner}: signs of order {x_code.order} are those of what scaled signs leave, and have threshold 0; "
                f"{name} has the code {x_code}; give a scale, and no threshold"
            )
    for code in weight_codes(method):
        if isinstance(code, Reals):
            continue
        if not isinstance(code.scale, (PerTensor, PerOutputChannel)):
            raise ValueError(
                f"{owner}: accumulators are multiplied by one scale per output channel; {name} has the code {code}; "
                "give PerOutputChannel or PerTensor"
            )
        if code.zero_point != 0:
            raise ValueError(f"{owner}: the number 0 must stand for 0; {name} has the code {code}; give zero_point=0")


def check_padding(owner: str, geometry: Geometry, method: Quantizer) -> None:
    """Refuse a padding value that this layer cannot honour. Raises: ValueError."""
    if geometry.pad_value not in (-1, 0, 1):
        raise ValueError(f"{owner}: pad_value must be -1, 0 or +1; got {geometry.pad_value}")
    for grid in (code.grid for code in input_codes(method)):
        if geometry.pad_value == 0:
            break
        if isinstance(grid, Reals):
            inputs = "real inputs, where padding is 0"
        elif 0 in grid.values:
            inputs = f"inputs {grid.low} ... {grid.high}, where padding is 0"
        elif grid.bits > 1:
            inputs = f"inputs of {grid.bits} bits, which are padded with 0"
        elif geometry.pad_value not in grid.values:
            inputs = f"inputs {grid.low} alone"
        else:
            continue
        raise ValueError(
            f"{owner}: {type(method).__name__} has {inputs}; got pad_value={geometry.pad_value}; leave it at 0"
        )
    if geometry.pad_value != 0 and not any(geometry.padding):
        raise ValueError(f"{owner}: pad_value={geometry.pad_value} has no effect without padding; drop it")


def check_rows(owner: str, shape: LayerShape, method: Quantizer) -> None:
    """Refuse a scale per row in a layer that has no rows. Raises: ValueError."""
    if shape.space_dims and any(isinstance(code, RowCode) for code in input_codes(method)):
        raise ValueError(
            f"{owner}: {type(method).__name__} scales each row of a linear layer's input; a convolution's has "
            f"{shape.space_dims} dimensions of space; use a BinaryLinear, or another method here"
        )


def check_input(owner: str, x: Tensor, shape: LayerShape) -> None:
    """Refuse an input of the wrong kind. Raises: ValueError, TypeError."""
    check_floating(owner, x)
    if x.ndim != 2 + shape.space_dims or x.shape[1] != shape.in_channels:
        space = ", ".join("HW"[-shape.space_dims :]) if shape.space_dims else ""
        wanted = f"[batch, {shape.in_channels}{', ' + space if space else ''}]"
        raise ValueError(f"{owner}: expected an input {wanted}; got {list(x.shape)}")
