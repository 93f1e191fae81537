# SPDX-License-Identifier: Apache-2.0
"""Methods of codes that no shipped method has: ternary weights, five levels, sums of signs with scales of their own."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from bittern.codes import Code, Integers, PerOutputChannel, PerTensor, Signs, Ternary
from bittern.estimators import binarize, straight_through
from bittern.quantizer import (
    InputCode,
    InputScale,
    LayerShape,
    LevelsCode,
    Method,
    Quantized,
    Quantizer,
    RowCode,
    SignCode,
)


class _SomeInput(Quantizer):
    """Inputs of `input_bits` levels in 0 ... 1, or signs with an `input_scale`."""

    def __init__(
        self, shape: LayerShape, *, input_bits: int | None = None, input_scale: InputScale = InputScale.NONE
    ) -> None:
        super().__init__(shape)
        self.levels, self.input_scale = input_bits, input_scale

    def input(self, x: Tensor) -> Quantized:
        if self.levels is None:
            size = x.detach().abs()
            scale = {
                InputScale.NONE: None,
                InputScale.PER_SAMPLE: size.mean(tuple(range(1, x.ndim)), keepdim=True),
                InputScale.SPATIAL: size.mean(1, keepdim=True),
            }[self.input_scale]
            return Quantized(binarize(x, torch.ones_like(x)), scale)
        top = float(2**self.levels - 1)
        codes = torch.round(x.detach().nan_to_num(nan=0.0).clamp(0, 1) * top)
        return Quantized(straight_through(codes, x, torch.full_like(x, top)), x.new_tensor(1 / top))

    def input_code(self) -> InputCode:
        return SignCode(scale=self.input_scale) if self.levels is None else LevelsCode(self.levels)


class TernaryWeights(_SomeInput):
    """sign(W) where |W| > 0.7 mean |W| of the layer, else 0; the mean |W| of what is left of each output as scale.

    Ternary weight networks (arXiv:1605.04711), with quantized inputs.
    """

    def weight(self, w: Tensor) -> Quantized:
        size = w.detach().abs()
        kept = (size > 0.7 * size.mean()).to(w.dtype)
        dims = tuple(range(1, w.ndim))
        scale = (size * kept).sum(dims, keepdim=True) / kept.sum(dims, keepdim=True).clamp(min=1.0)
        values = torch.where(w.detach() >= 0, 1.0, -1.0) * kept
        return Quantized(straight_through(values.to(w.dtype), w, torch.ones_like(w)), scale)

    def weight_code(self) -> Code:
        return Ternary()


class FiveLevels(_SomeInput):
    """round(2 W / max |W|): {-2, ..., 2}, with one scale for the layer."""

    def weight(self, w: Tensor) -> Quantized:
        scale = w.detach().abs().amax().clamp(min=1e-12) / 2
        values = torch.round(w.detach() / scale)
        return Quantized(straight_through(values, w, torch.ones_like(w)), scale)

    def weight_code(self) -> Code:
        return Integers(-2, 2, scale=PerTensor())


class ResidualSigns(_SomeInput):
    """W = a_0 sign(W) + a_1 sign(W - a_0 sign(W)) + ...: `terms` of them, each with the mean size of each output."""

    def __init__(
        self,
        shape: LayerShape,
        *,
        terms: int = 2,
        input_bits: int | None = None,
        input_scale: InputScale = InputScale.NONE,
    ) -> None:
        super().__init__(shape, input_bits=input_bits, input_scale=input_scale)
        self.terms = terms

    def weight(self, w: Tensor) -> tuple[Quantized, ...]:
        rest, found = w, []
        for _ in range(self.terms):
            scale = rest.detach().abs().mean(tuple(range(1, w.ndim)), keepdim=True)
            signs = binarize(rest, torch.ones_like(rest))
            found.append(Quantized(signs, scale))
            rest = rest - (scale * signs).detach()
        return tuple(found)

    def weight_code(self) -> tuple[Code, ...]:
        return (Signs(PerOutputChannel()),) * self.terms


class Ranged(TernaryWeights):
    """Levels of a learned range and a learned scale of their own; signed: odd numbers."""

    def __init__(self, shape: LayerShape, *, bits: int = 2, signed: bool = False) -> None:
        super().__init__(shape)
        self.bits, self.signed = bits, signed
        self.low, self.width = nn.Parameter(torch.tensor(-0.625)), nn.Parameter(torch.tensor(1.5))
        self.step = nn.Parameter(torch.tensor(0.3))

    def input_code(self) -> LevelsCode:
        return LevelsCode(self.bits, self.low, self.width, self.signed)

    def input(self, x: Tensor) -> Quantized:
        return Quantized(straight_through(self.input_code().values(x), x), self.step)


class Rows(TernaryWeights):
    """int8 by rows."""

    def input_code(self) -> InputCode:
        return RowCode()

    def input(self, x: Tensor) -> Quantized:
        return Quantized(straight_through(RowCode().values(x), x), RowCode().scale(x))


METHODS: dict[str, Method] = {
    "ternary": TernaryWeights,
    "ternary-1": partial(TernaryWeights, input_bits=1),
    "ternary-3": partial(TernaryWeights, input_bits=3),
    "ternary-per-sample": partial(TernaryWeights, input_scale=InputScale.PER_SAMPLE),
    "five-2": partial(FiveLevels, input_bits=2),
    "five": FiveLevels,
    "terms-2": ResidualSigns,
    "terms-3-2": partial(ResidualSigns, terms=3, input_bits=2),
    "terms-2-spatial": partial(ResidualSigns, input_scale=InputScale.SPATIAL),
}
