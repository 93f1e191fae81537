# SPDX-License-Identifier: Apache-2.0
"""`optimizer_step` on the CPU: one native call for all tensors."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES
from bittern.ops._isa import Isa, threads
from bittern.ops.optimizer_step.arguments import StepArguments
from bittern.ops.optimizer_step.layout import WORD, WORDS
from bittern.ops.optimizer_step.rules import SPECS, Rule

_GRAD, _DTYPES, _SCALARS = WORD["grad"], WORD["dtypes"], WORD["scalars"]
_LARGEST_BLOCK = 4096


def _words(**fields: int | Sequence[int]) -> list[int]:
    """A `StepTensor`; fields that are not named stay 0."""
    words = [0] * WORDS
    for name, value in fields.items():
        at, numbers = WORD[name], (value,) if isinstance(value, int) else value
        words[at : at + len(numbers)] = numbers
    return words


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
            mine = slice(i * count, (i + 1) * count)
            coded = bits[i] < 32
            words += _words(
                param=p.data_ptr(),
                state=[state.data_ptr() for state in states[mine]],
                absmax=[scale.data_ptr() for scale in absmax[mine]] if coded else 0,
                compensation=compensation[i].data_ptr() if compensation else 0,
                numel=p.numel(),
                row=row_length[i],
                block=min(block_size[i], _LARGEST_BLOCK) if coded else 1024,
                bits=bits[i],
                dtypes=DTYPE_CODES[p.dtype],
                first=first,
            )
            first += p.numel()
        self.words = array("q", words)
        self.count = len(params)

    def fill(self, grads: Sequence[Tensor], own_row: bool) -> None:
        """Enters the gradients; own_row: tensor i reads row i of the scalars, else all read the only one."""
        words = self.words
        for i, grad in enumerate(grads):
            at = i * WORDS
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
        state_seeds: Tensor | None = None,
        at_random: Sequence[int] = (),
    ) -> None:
        """Steps all tensors; scalars: contiguous float32 [1, K] or [tensors, K]; state_seeds: contiguous.

        at_random: the bits, 4 and 8, of states that the seeds round.

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
            0 if state_seeds is None else state_seeds.data_ptr(),
            0 if state_seeds is None else len(state_seeds),
            0 if state_seeds is None else sum(set(at_random)),
        )


def optimizer_step_cpu(isa: Isa, a: StepArguments) -> None:
    rule = Rule(a.rule)
    table = StepTable(rule, a.params, a.states, a.absmax, a.bits, a.block_size, a.row_length, a.compensation)
    seeds = None if a.state_seeds is None else a.state_seeds.contiguous()
    table.run(isa, rule, a.grads, a.scalars.contiguous(), a.seed, state_seeds=seeds, at_random=a.at_random)
