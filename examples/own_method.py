# SPDX-License-Identifier: Apache-2.0
"""A method of your own: one class with four short answers, and it trains, packs and runs like the built-in ones.

Here: sign forward, backward the derivative of 2 s(bx) (1 + bx (1 - s(bx))) - 1 with the logistic function s,
and one learned scale per output channel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import bittern
from bittern.data import digits, normalize
from bittern.estimators import Clip, binarize
from bittern.models import mlp
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode
from bittern.train import Recipe, train


def swish_derivative(x: Tensor, beta: float) -> Tensor:
    """d/dx of 2 s(bx) (1 + bx (1 - s(bx))) - 1."""
    bx = beta * x.detach()
    s = torch.sigmoid(bx)
    return 2 * beta * s * (1 - s) * (2 + bx * (1 - 2 * s))


class SwishSign(Quantizer):
    """Signs with the derivative of a swish and a learned scale per output channel."""

    def __init__(self, shape: LayerShape, *, beta: float = 5.0) -> None:
        super().__init__(shape)
        self.beta = beta
        self.alpha = nn.Parameter(torch.full((shape.out_channels,), shape.fan_in**-0.5))

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(binarize(w, Clip()), self.shape.weight_view(self.alpha))

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, swish_derivative(x, self.beta)))

    def input_code(self) -> InputCode:
        return SignCode()


def main() -> None:
    torch.manual_seed(0)
    data = digits()
    model = mlp(method=SwishSign, input_size=8)
    history = train(model, data, Recipe(epochs=4, learning_rate=3e-3), progress=False)
    images = normalize(data.test_images, data.mean, data.std)
    packed = bittern.pack(model, images[:1])
    report = bittern.verify(packed, model, images)
    print(f"test accuracy {history.epochs[-1].test_accuracy:.3f}")
    print(report)
    assert report.exact


if __name__ == "__main__":
    main()
