# SPDX-License-Identifier: Apache-2.0
"""Methods on grids of whole numbers that do not lie about 0, of weights and of inputs, and layers of odd sizes."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from bittern.codes import Code, Integers, PerTensor
from bittern.estimators import straight_through
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear
from bittern.quantizer import LayerShape, Method, Quantized, Quantizer, StepsCode

STEP = 0.25
"""A power of two, so that halves are ties."""

TIES = torch.tensor([0.125, -0.125, 0.375, -0.375, 0.625, -0.625, 9.0, -9.0, 0.0, -0.0, 1e-45, -1e-45])


class Stepped(Quantizer):
    """round(clip(W / s)) in `low` ... low + 2^weight_bits - 1, and inputs with `zero` numbers below 0."""

    def __init__(
        self,
        shape: LayerShape,
        *,
        weight_bits: int = 4,
        low: int = -8,
        input_bits: int = 3,
        zero: int = 4,
        origin: float | None = None,
    ) -> None:
        super().__init__(shape)
        self.numbers = Integers(low, low + 2**weight_bits - 1, scale=PerTensor())
        self.zero, self.input_bits = zero, input_bits
        self.step = nn.Parameter(torch.tensor(STEP))
        self.origin = None if origin is None else torch.tensor(origin)

    def weight(self, w: Tensor) -> Quantized:
        values = torch.round(w.detach() / STEP * 2).clamp(self.numbers.low, self.numbers.high)
        return Quantized(straight_through(values, w), torch.tensor(STEP / 2))

    def weight_code(self) -> Code:
        return self.numbers

    def input(self, x: Tensor) -> Quantized:
        return Quantized(straight_through(self.input_code().values(x), x), self.step)

    def input_code(self) -> StepsCode:
        return StepsCode(self.input_bits, self.step, self.zero, self.origin)


GRIDS: dict[str, Method] = {
    "w4-a3": Stepped,
    "w1-a2": partial(Stepped, weight_bits=1, low=-1, input_bits=2, zero=3),
    "w8-a6-zero-points": partial(Stepped, weight_bits=8, low=-101, input_bits=6, zero=37),
    "origin": partial(Stepped, weight_bits=3, low=-4, input_bits=2, zero=0, origin=-0.375),
}


def network(method: Method) -> tuple[nn.Sequential, Tensor]:
    """Padding, groups, stride, dilation, bias, rows; odd sizes, ties."""
    torch.manual_seed(0)
    conv = BinaryConv2d(
        6, 70, (3, 2), stride=(2, 1), dilation=(1, 2), groups=2, padding=(2, 1), bias=True, method=method
    )
    x = torch.randn(3, 6, 7, 7)
    x.view(-1)[: 12 * 7] = TIES.repeat(7)
    model = nn.Sequential(
        conv,
        nn.BatchNorm2d(70),
        BinaryConv2d(70, 5, 1, groups=5, method=method),
        nn.Flatten(2),
        nn.BatchNorm1d(5),
        BinaryConv1d(5, 3, 5, padding=2, stride=3, method=method),
        nn.BatchNorm1d(3),
        nn.Flatten(),
        BinaryLinear(36, 4, bias=True, method=method),
    )
    for module in model:
        if isinstance(module, (BinaryConv1d, BinaryConv2d, BinaryLinear)):
            nn.init.normal_(module.weight)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.momentum = None
    for _ in range(2):
        model(torch.randn(16, 6, 7, 7))  # statistics that spread what comes next over the levels
    return model.eval(), x
