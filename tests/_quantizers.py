# SPDX-License-Identifier: Apache-2.0
"""Methods of codes that no shipped method has: ternary weights, five levels, sums of signs with scales of their own."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from bittern.codes import Code, Integers, Ones, PerOutputChannel, PerTensor, Signs, Ternary
from bittern.estimators import binarize, straight_through
from bittern.quantizer import (
    InputCode,
    InputScale,
    LayerShape,
    LevelsCode,
    Method,
    OnesCode,
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

    def input(self, x: Tensor) -> Quantized | tuple[Quantized, ...]:
        return self.first(x)

    def input_code(self) -> InputCode | tuple[InputCode, ...]:
        return self.first_code()

    def first(self, x: Tensor) -> Quantized:
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

    def first_code(self) -> InputCode:
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


class SeveralInputs(ResidualSigns):
    """Signs about thresholds 0 and 0.4 with scales 0.75 and 0.5, or with `residuals` signs of what signs leave."""

    def __init__(self, shape: LayerShape, *, terms: int = 2, residuals: InputScale = InputScale.NONE) -> None:
        super().__init__(shape, terms=terms)
        self.residuals = residuals

    def input(self, x: Tensor) -> tuple[Quantized, ...]:
        if self.residuals is InputScale.NONE:
            shifts = (Quantized(binarize(x - t), x.new_tensor(s)) for t, s in ((0.0, 0.75), (0.4, 0.5)))
            return tuple(shifts)
        rest, found = x, []
        for _ in range(3):
            found.append(Quantized(binarize(rest), self.residuals.mean(rest.detach())))
            rest = self.residuals.residual(rest)
        return tuple(found)

    def input_code(self) -> tuple[InputCode, ...]:
        if self.residuals is InputScale.NONE:
            return SignCode(), SignCode(torch.full((self.shape.in_channels,), 0.4))
        return tuple(SignCode(scale=self.residuals, order=i) for i in range(3))


class Offsets(_SomeInput):
    """a * sign(W - b) + b about the mean b of each output, and ternary numbers beside them; inputs with two offsets."""

    def weight(self, w: Tensor) -> tuple[Quantized, ...]:
        dims = tuple(range(1, w.ndim))
        mean = w.mean(dims, keepdim=True)
        spread = (w - mean).abs().mean(dims, keepdim=True)
        few = torch.where(w.abs() > 0.1, torch.where(w > 0, 1.0, -1.0), 0.0).to(w.dtype)
        return Quantized(binarize(w - mean), spread), Quantized(torch.ones_like(w), mean), Quantized(few)

    def weight_code(self) -> tuple[Code, ...]:
        return Signs(), Ones(), Ternary(PerTensor())

    def input(self, x: Tensor) -> tuple[Quantized, ...]:
        return self.first(x), Quantized(torch.ones_like(x), x.new_tensor(0.3)), Quantized(torch.ones_like(x))

    def input_code(self) -> tuple[InputCode, ...]:
        return self.first_code(), OnesCode(), OnesCode()


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

SEVERAL_INPUTS: dict[str, Method] = {
    "residuals-spatial": partial(SeveralInputs, residuals=InputScale.SPATIAL),
    "offsets-2": partial(Offsets, input_bits=2),
    "offsets-spatial": partial(Offsets, input_scale=InputScale.SPATIAL),
}
"""Of inputs of several terms."""
