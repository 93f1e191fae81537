# SPDX-License-Identifier: Apache-2.0
"""`optimizer_step` on the CPU: one native call for all tensors."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES
from bittern.ops._isa import Isa, threads
from bittern.ops.optimizer_step.rules import SPECS, Rule

FIELDS = 18
"""64-bit words per tensor: struct StepTensor in kernel.h."""
_MOST_STATES = 4
_GRAD, _DTYPES, _SCALARS = 1, 15, 16
_LARGEST_BLOCK = 4096


def _word(x: Tensor) -> int:
    return x.data_ptr()


class StepTable:
    """What the native step reads, per tensor: pointers, sizes and types; gradients are filled in at each step."""

    def __init__(
        self,
        rule: Rule,
        params: Sequence[Tensor],
        states: Sequence[Tensor],
        absmax: Sequence[Tensor],
        bits: Sequence[int],
        block_size: Sequence[int],
        row_length: Sequence[int],
        compensation: Sequence[Tensor],
    ) -> None:
        count = len(SPECS[rule].states)
        words: list[int] = []
        first = 0
        for i, p in enumerate(params):
            mine = range(i * count, (i + 1) * count)
            pad = [0] * (_MOST_STATES - count)
            words += [_word(p), 0, *(_word(states[k]) for k in mine), *pad]
            words += [*(_word(absmax[k]) if bits[i] < 32 else 0 for k in mine), *pad]
            words += [_word(compensation[i]) if compensation else 0, p.numel(), row_length[i]]
            words += [min(block_size[i], _LARGEST_BLOCK) if bits[i] < 32 else 1024, bits[i]]
            words += [DTYPE_CODES[p.dtype], 0, first]
            first += p.numel()
        self.words = array("q", words)
        self.count = len(params)

    def fill(self, grads: Sequence[Tensor], own_row: bool) -> None:
        """Enters the gradients; own_row: tensor i reads row i of the scalars, else all read the only one."""
        words = self.words
        for i, grad in enumerate(grads):
            at = i * FIELDS
            words[at + _GRAD] = grad.data_ptr()
            words[at + _DTYPES] = words[at + _DTYPES] & 15 | DTYPE_CODES[grad.dtype] << 4
            words[at + _SCALARS] = i if own_row else 0

    def run(
        self,
        isa: Isa,
        rule: Rule,
        grads: Sequence[Tensor],
        scalars: Tensor,
        seed: int | None,
        *,
        norms: Tensor | None = None,
        ratios: Tensor | None = None,
    ) -> None:
        """Steps all tensors; scalars: contiguous float32 [1, K] or [tensors, K].

        norms: float64 [tensors, 2] to be filled with sums of squares instead of a step. ratios: float32 [tensors], the
        trust ratios, where they come from elsewhere.
        """
        self.fill(grads, scalars.shape[0] > 1)
        address, _ = self.words.buffer_info()
        _native.optimizer_step(
            isa,
            threads(),
            rule,
            address,
            self.count,
            scalars.data_ptr(),
            scalars.shape[1],
            seed is not None,
            0 if seed is None else seed,
            0 if norms is None else norms.data_ptr(),
            0 if ratios is None else ratios.data_ptr(),
        )


def optimizer_step_cpu(
    isa: Isa,
    rule: int,
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    states: Sequence[Tensor],
    absmax: Sequence[Tensor],
    scalars: Tensor,
    bits: Sequence[int],
    block_size: Sequence[int],
    row_length: Sequence[int],
    compensation: Sequence[Tensor],
    seed: int | None = None,
) -> None:
    table = StepTable(Rule(rule), params, states, absmax, bits, block_size, row_length, compensation)
    table.run(isa, Rule(rule), grads, scalars.contiguous(), seed)
