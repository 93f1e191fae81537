# SPDX-License-Identifier: Apache-2.0
"""Linear layers whose inputs are sums of scaled signs that are found at run time: one node, `multibit_linear`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bittern.codes import Code, Signs
from bittern.deploy.bit_stream import to_streams
from bittern.deploy.errors import PackError
from bittern.deploy.front.builder import Builder, Ref
from bittern.deploy.front.terms import BinaryLayer, Term, check_term, static_scale
from bittern.deploy.kinds.multibit import MOST_CYCLES
from bittern.quantizer import InputCode, MultibitCode, input_codes, weight_terms


def has_multibit_inputs(layer: BinaryLayer) -> bool:
    """Whether an input of a layer is a sum of such planes."""
    return any(isinstance(code, MultibitCode) for code in input_codes(layer.method))


def multibit_linear(
    b: Builder, name: str, layer: BinaryLayer, x: Ref, codes: Sequence[Code], bias: Tensor | None
) -> Ref:
    """The products of all pairs of planes, and the bias. Raises: PackError for what such a node cannot say."""
    x_code = _checked(name, layer, codes)
    shape = layer.method.shape
    streams, scales = [], []
    for code, weight in zip(codes, weight_terms(layer.method, layer.weight), strict=True):
        term = Term(name, 0, x_code, code, weight, bias)
        check_term(term, layer.method)
        scale = static_scale(layer, term)
        streams.append(to_streams(code, weight.values))
        scales.append(torch.ones(shape.out_channels) if scale is None else scale)
    return b.add(
        "multibit_linear",
        name,
        (x,),
        {"weight": torch.cat(streams), "scale": torch.stack(scales), "bias": bias},
        channels=shape.in_channels,
        out_channels=shape.out_channels,
        weight_planes=len(codes),
        input_planes=x_code.planes,
        cycles=x_code.cycles,
        refined=x_code.refined,
    )


def _checked(name: str, layer: BinaryLayer, codes: Sequence[Code]) -> MultibitCode:
    """How inputs are found. Raises: PackError."""
    x_codes: tuple[InputCode, ...] = input_codes(layer.method)
    first = next(code for code in x_codes if isinstance(code, MultibitCode))
    owner = type(layer.method).__name__
    if x_codes != tuple(first._replace(plane=i) for i in range(first.planes)) or layer.method.shape.space_dims:
        raise PackError(
            f"pack: layer {name!r}: {owner} has inputs {x_codes}; planes that are found together are packed for a "
            "linear layer alone, all of them, in their order, with nothing beside them"
        )
    if any(type(code) is not Signs for code in codes):
        raise PackError(
            f"pack: layer {name!r}: {owner} has inputs of several planes found at run time and weights of the codes "
            f"{', '.join(map(str, codes))}; such inputs are packed with weights of signs alone"
        )
    if first.cycles > MOST_CYCLES:
        raise PackError(
            f"pack: layer {name!r} finds the planes of its inputs by {first.cycles} cycles at each call; at most "
            f"{MOST_CYCLES} are packed, and few gain anything beyond ten"
        )
    return first
