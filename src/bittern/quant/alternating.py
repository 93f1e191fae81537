# SPDX-License-Identifier: Apache-2.0
"""Alternating multi-bit quantization: rows of weights, and inputs, as sums of scaled signs (1802.00150)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from bittern.codes import Code, Signs
from bittern.estimators import straight_through
from bittern.multibit import check_cycles, check_planes, multibit
from bittern.quantizer import (
    REAL_BITS,
    InputCode,
    InputScale,
    LayerShape,
    MultibitCode,
    Quantized,
    Quantizer,
    RealCode,
    SignCode,
)


class Alternating(Quantizer):
    """Weights of `bits` planes of signs, each with a scale of each output; inputs real, or of `input_bits` planes.

    Forward: a row w of the weight (what makes one output, n numbers) is about sum_i a_i b_i, b_i in {-1, +1}^n:
        greedy     r = w; for each i: b_i = sign(r), a_i = mean |r|, r = r - a_i b_i
        refined    after each new b_i all a are the least squares solution, and r = w - sum_j a_j b_j
        `cycles`   times: a = the least squares solution for these b; each number of w takes the nearest of the
                   2^bits sums of +-a_i, among whose midpoints it is looked up (a tie takes the larger)
    An input that is a vector (of a linear layer: a row) becomes sum_j c_j d_j by `input_cycles` of the same, anew at
    each call. The output is sum_ij a_i c_j (b_i . d_j): bits * input_bits products of signs.
    Backward: dL/dW = dL/dW_q, dL/dx = dL/dx_q, with all scales held constant: plane i gets the share a_i / sum_j a_j^2
    of the gradient of the sum, and a row of zeros, whose scales are 0, gets none.
    Start: as the network's real weights. Latent weights are clipped to +-1 after each step.

    The paper's networks have input_bits 2 or 3 and 2 cycles for both; for weights more cycles gain much beyond two
    planes (docs/results/sequences.md), hence 10. With input_cycles=0 inputs are HORQ's residuals, which exports take;
    those of more cycles, or refined, pack, as one node a layer, and exports refuse them by name.
    Differences: the authors' code was not found; what least squares gives rows whose planes are equal is this library's
    choice (`ops.multibit_quantize`). sign(0) = +1.
    Errors: ValueError for bits outside 1 ... 8, cycles below 0, and input_bits in a convolution, whose input is no row.
    Source: arXiv 1802.00150.
    """

    clip_latent = 1.0

    def __init__(
        self,
        shape: LayerShape,
        *,
        bits: int = 2,
        input_bits: int | None = None,
        cycles: int = 10,
        input_cycles: int = 2,
        refined: bool = False,
    ) -> None:
        super().__init__(shape)
        check_planes("Alternating", "bits", bits)
        check_cycles("Alternating", "cycles", cycles)
        check_cycles("Alternating", "input_cycles", input_cycles)
        if input_bits is not None:
            check_planes("Alternating", "input_bits", input_bits)
            if shape.space_dims:
                raise ValueError(
                    f"Alternating: input_bits={input_bits} scales each row of a linear layer's input; a convolution's "
                    f"has {shape.space_dims} dimensions of space; leave input_bits out, or use another method here"
                )
        self.planes, self.input_planes = bits, input_bits
        self.cycles, self.input_cycles, self.refined = cycles, input_cycles, refined
        self.input_bits = REAL_BITS if input_bits is None else input_bits

    def weight(self, w: Tensor) -> tuple[Quantized, ...]:
        signs, scales = multibit(w.flatten(1), self.planes, cycles=self.cycles, refined=self.refined)
        shares = _shares(scales)
        view = (-1, *(1,) * (w.ndim - 1))
        return tuple(
            Quantized(straight_through(s.view_as(w), w, shares[:, i].view(view)), scales[:, i].view(view))
            for i, s in enumerate(signs)
        )

    def weight_code(self) -> tuple[Code, ...]:
        return (Signs(),) * self.planes

    def input(self, x: Tensor) -> Quantized | tuple[Quantized, ...]:
        if self.input_planes is None:
            return Quantized(x)
        found = _residual_signs(x.detach(), self.input_planes) if self._greedy else self._alternating(x)
        shares = _shares(torch.cat([scale for _, scale in found], 1))
        return tuple(
            Quantized(straight_through(values, x, shares[:, i : i + 1]), scale)
            for i, (values, scale) in enumerate(found)
        )

    def input_code(self) -> InputCode | tuple[InputCode, ...]:
        if self.input_planes is None:
            return RealCode()
        terms = range(self.input_planes)
        if self._greedy:
            return tuple(SignCode(scale=InputScale.PER_SAMPLE, order=i) for i in terms)
        return tuple(MultibitCode(self.input_planes, i, self.input_cycles, self.refined) for i in terms)

    @property
    def _greedy(self) -> bool:
        """Whether inputs are what `SignCode` has: signs of residuals."""
        return self.input_cycles == 0 and not self.refined

    def _alternating(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        assert self.input_planes is not None
        signs, scales = multibit(x, self.input_planes, cycles=self.input_cycles, refined=self.refined)
        return [(values, scales[:, i : i + 1]) for i, values in enumerate(signs)]


def _residual_signs(x: Tensor, planes: int) -> list[tuple[Tensor, Tensor]]:
    """(signs, scale [batch, 1]) of each plane, in the order of sums that packed models repeat."""
    found = []
    for _ in range(planes):
        found.append((torch.where(x >= 0, 1.0, -1.0).to(x.dtype), InputScale.PER_SAMPLE.mean(x)))
        x = InputScale.PER_SAMPLE.residual(x)
    return found


def _shares(scales: Tensor) -> Tensor:
    """a_i / sum_j a_j^2 of scales [rows, planes]; 0 where the sum is: then nothing tells the gradient of the sum."""
    total = scales.square().sum(-1, keepdim=True)
    usable = total >= torch.finfo(scales.dtype).tiny
    return torch.where(usable, scales / torch.where(usable, total, 1.0), 0.0)


@torch.no_grad()
def approximate(model: torch.nn.Module, bits: int, *, cycles: int = 15, refined: bool = False) -> torch.nn.Module:
    """Copy `model` with every matrix of its weights as the sum of scaled signs of its rows, without training.

    Rows are those of all parameters of two dimensions or more (linear, recurrent, convolutional layers, embeddings):
    the weights of one output, or of one word. Shared parameters stay shared. The numbers are real again, so that what a
    network loses is seen at once; `convert` with `Alternating` makes layers that hold the planes, and pack.
    Raises: ValueError for bits outside 1 ... 8, cycles below 0, weights that are not finite, and a model without any.
    """
    check_planes("approximate", "bits", bits)
    check_cycles("approximate", "cycles", cycles)
    matrices = [(name, p) for name, p in model.named_parameters() if p.ndim > 1 and p.numel()]
    if not matrices:
        raise ValueError("approximate: the model has no matrix of weights; there is nothing to quantize")
    for name, p in matrices:
        if not bool(p.isfinite().all()):
            raise ValueError(f"approximate: {name!r} holds NaN or infinity; train it again or repair it")
    made = copy.deepcopy(model)
    found = dict(made.named_parameters())
    for name, p in matrices:
        rows = multibit(p.flatten(1), bits, cycles=cycles, refined=refined)
        found[name].copy_(rows.real().view_as(p))
    return made
