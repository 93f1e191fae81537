# SPDX-License-Identifier: Apache-2.0
"""Integer-only inference: affine grids of weights and of inputs whose 0 is a number (1712.05877)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bittern._options import check_bits, check_choice
from bittern.codes import Code, Integers, PerOutputChannel, PerTensor
from bittern.estimators import straight_through
from bittern.quant._real_inputs import over_filter
from bittern.quant._steps import LEAST_BITS, LEAST_STEP, MOST_BITS, nearest
from bittern.quantizer import LayerShape, Quantized, Quantizer, StepsCode


class IntegerOnly(Quantizer):
    """Weights and inputs of k bits, v = S (q - Z) with q in 0 ... 2^k - 1 and a whole Z, so that 0 is a number.

    Forward: of a range a <= 0 <= b, S = (b - a) / levels, Z = clip(round(lowest - a / S)), and
    v_q = S clip(round_half_even(v / S), lowest - Z, 2^k - 1 - Z). NaN is 0.
    Inputs: lowest = 0, levels = 2^k - 1; a and b are averages of each batch's least and largest number, which move by
    1 - `decay` a batch; the first `delay` batches of training leave inputs real, while these averages settle.
    Weights, rule="uint8" (the paper): a and b are the least and the largest of the layer, lowest = 1 and
    levels = 2^k - 2, so that products of two fit 16 bits. rule="int8": symmetric, S = max |W| of each filter over
    2^(k - 1) - 1 and Z in the middle, as later releases have it.
    Backward: dv = 1 where v / S rounds to a number of the range, else 0; S and Z are held constant.
    Start: weights as the network's real ones. Before the first batch inputs have a = 0, b = 1.

    Differences: the paper folds batch norms into weights while it trains; norms stay behind the layer here, which packs
    them. It gives no one value of decay and delay. v / S is rounded before Z is added, where the paper rounds from a
    on: where Z is odd, ties differ. Inputs of 4 bits are MegEngine's quint4.
    Errors: ValueError for bits outside 2 ... 8, another rule, a decay outside [0, 1), or a delay below 0.
    Source: arXiv 1712.05877; gemmlowp doc/quantization.md.
    """

    input_low: Tensor
    input_high: Tensor
    seen: Tensor
    weight_zero: Tensor

    def __init__(
        self,
        shape: LayerShape,
        *,
        weight_bits: int = 8,
        input_bits: int = 8,
        rule: Literal["uint8", "int8"] = "uint8",
        decay: float = 0.99,
        delay: int = 0,
    ) -> None:
        super().__init__(shape)
        name = type(self).__name__
        check_bits(name, "weight_bits", weight_bits, MOST_BITS, least=LEAST_BITS)
        check_bits(name, "input_bits", input_bits, MOST_BITS, least=LEAST_BITS)
        check_choice(name, "rule", rule, ("uint8", "int8"))
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0.0 <= decay < 1.0:
            raise ValueError(f"{name}: decay must be a number from 0 to below 1; got {decay!r}")
        if not isinstance(delay, int) or isinstance(delay, bool) or delay < 0:
            raise ValueError(f"{name}: delay must be an integer from 0 on; got {delay!r}")
        self.weight_bits, self.input_bits, self.rule = weight_bits, input_bits, rule
        self.decay, self.delay = float(decay), delay
        self.register_buffer("input_low", torch.tensor(0.0))
        self.register_buffer("input_high", torch.tensor(1.0))
        self.register_buffer("seen", torch.tensor(0))
        """Batches of training."""
        self._seen = 0  # asking a buffer takes a GPU's time at every call
        self._weight_zero = 2 ** (weight_bits - 1)
        self.register_buffer("weight_zero", torch.tensor(self._weight_zero))
        """Z of the weight as it was last seen."""

    def was_loaded(self) -> None:
        self._seen, self._weight_zero = int(self.seen), int(self.weight_zero)

    # -- weights

    def weight(self, w: Tensor) -> Quantized:
        real = w.detach()
        if self.rule == "int8":
            step = (real.abs().amax(over_filter(w), keepdim=True) / self.weight_code().high).clamp(min=LEAST_STEP)
            return Quantized(_rounded(w / step, w, step, self.weight_code()), step)
        low, high = (end.detach() for end in real.aminmax())
        step, zero = _affine(low, high, 2**self.weight_bits - 2, 1)
        self._weight_zero = zero
        self.weight_zero.fill_(zero)
        return Quantized(_rounded(w / step, w, step, Integers(1 - zero, 2**self.weight_bits - 1 - zero)), step)

    def weight_code(self) -> Code:
        if self.rule == "int8":
            most = 2 ** (self.weight_bits - 1) - 1
            return Integers(-most, most, scale=PerOutputChannel())
        return Integers(-self._weight_zero, 2**self.weight_bits - 1 - self._weight_zero, scale=PerTensor())

    # -- inputs

    def input(self, x: Tensor) -> Quantized:
        if self.training and x.numel():
            self._watch(x.detach())
            if self._seen <= self.delay:
                return Quantized(x)
        code = self.input_code()
        step = code.step.to(x.dtype)
        return Quantized(_rounded(code.position(x), x, step, code.grid), step)

    def _watch(self, x: Tensor) -> None:
        """Move the range by one batch; the first one sets it. Numbers that are none leave it."""
        low, high = self.range_of(x)
        if not bool(low.isfinite() & high.isfinite()):
            return
        kept = self.kept(self._seen)
        self.input_low.mul_(kept).add_(low.clamp(max=0.0), alpha=1.0 - kept)
        self.input_high.mul_(kept).add_(high.clamp(min=0.0), alpha=1.0 - kept)
        self._seen += 1
        self.seen += 1

    def range_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(a, b) of a batch."""
        return x.aminmax()

    def kept(self, seen: int) -> float:
        """What the range keeps of itself when another batch comes, after so many."""
        return self.decay if seen else 0.0

    def input_code(self) -> StepsCode:
        step, zero = _affine(self.input_low, self.input_high, 2**self.input_bits - 1, 0)
        return StepsCode(self.input_bits, step, zero)


def _affine(low: Tensor, high: Tensor, levels: int, lowest: int) -> tuple[Tensor, int]:
    """(S, Z) of a range that is widened to hold 0; Z is one of lowest ... lowest + levels."""
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    step = ((high - low) / levels).clamp(min=LEAST_STEP)
    zero = torch.round(lowest - low / step).nan_to_num(nan=lowest).clamp(lowest, lowest + levels)
    return step, int(zero)


def _rounded(position: Tensor, v: Tensor, step: Tensor, code: Code) -> Tensor:
    """Numbers of the code, and 1 / S to v where its position rounds to one of them."""
    level = torch.round(position.detach())
    inside = ((level >= code.low) & (level <= code.high)).to(v.dtype)
    return straight_through(nearest(position, code), v, inside / step)
