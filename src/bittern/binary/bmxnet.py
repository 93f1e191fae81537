# SPDX-License-Identifier: Apache-2.0
"""BMXNet's layers of k bits: signs, or DoReFa's numbers with a gradient that rounds nothing away (1705.09864)."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern._squashed import squashed
from bittern.binary._common import check_bits
from bittern.estimators import Clip, binarize, straight_through
from bittern.quantizer import InputCode, LayerShape, LevelsCode, Quantized, Quantizer, SignCode
from bittern.start import HeNormal

MOST_BITS = 31
"""32 stand for a layer that is left real, there and here."""


class BMXNet(Quantizer):
    """Weights and inputs of 1 to 31 bits each: signs, or evenly spaced numbers.

    With q_k(r) = round_half_even(r * (2^k - 1)) / (2^k - 1) and k = `weight_bits`, `input_bits`:
        weights, k = 1: sign(w)
        weights, k > 1: 2 q_k(tanh(w) / (2 max|tanh w|) + 1/2) - 1: odd integers, scale 1 / (2^k - 1)
        inputs,  k = 1: sign(x)
        inputs,  k > 1: q_k(clip(x, 0, 1)): integers 0 ... 2^k - 1, scale 1 / (2^k - 1); NaN is 0
    Backward: dL/dw = dL/dw_q, past tanh and maximum too; dL/dx = dL/dx_q * 1{|x| <= 1} for k = 1, else dL/dx_q.
    Start: He's, N(0, 2 / fan_in).

    Packed: up to 8 bits each, where no sum exceeds 2^24, up to which float32 has every integer:
    fan_in (2^k_w - 1) (2^k_x - 1) <= 2^24. Other layers train, their sums rounded as floats are; `pack` names them.
    Differences: the code rounds halves up. It gives (n + sum) / 2 for n signs, which a norm behind it undoes. Its
    activation of 1 bit has the gradient 1 in the file that was read, beside det_sign_grad, which is the one above.
    Errors: ValueError for bits outside 1 ... 31.
    Source: arXiv 1705.09864; hpi-xnor/BMXNet src/operator/mshadow_op.h, smd_hpi/src: q_helper.h, q_activation-inl.h,
    q_fully_connected-inl.h; the text of the paper was not read.
    """

    start = HeNormal()

    def __init__(self, shape: LayerShape, *, weight_bits: int = 1, input_bits: int = 1) -> None:
        super().__init__(shape)
        check_bits("BMXNet", "weight_bits", weight_bits, MOST_BITS)
        check_bits("BMXNet", "input_bits", input_bits, MOST_BITS)
        self.weight_bits = weight_bits
        self.input_bits = input_bits

    def weight(self, w: Tensor) -> Quantized:
        if self.weight_bits == 1:
            return Quantized(binarize(w))
        top = torch.full((), float(2**self.weight_bits - 1), dtype=w.dtype, device=w.device)
        values = 2.0 * torch.round(squashed(w.detach()) * top) - top
        return Quantized(straight_through(values, w, top), top.reciprocal())

    def input(self, x: Tensor) -> Quantized:
        code = self.input_code()
        if isinstance(code, SignCode):
            return Quantized(binarize(x, Clip(1.0)))
        assert isinstance(code, LevelsCode)
        top = torch.full((), code.top, dtype=x.dtype, device=x.device)
        return Quantized(straight_through(code.values(x), x, top), top.reciprocal())

    def input_code(self) -> InputCode:
        return SignCode() if self.input_bits == 1 else LevelsCode(self.input_bits)
