# SPDX-License-Identifier: Apache-2.0
"""optimizer_step(rule, params, grads, states, absmax, scalars, ...): a step of many tensors with low-bit states.

rule: a `Rule`; `SPECS[rule]` names its states and scalars and gives its formula (rules.py).
params, grads: n tensors, float32, bfloat16 or float16, dense in memory; a gradient has the shape and the strides of its
parameter. Arithmetic is float32. params change in place.
states, absmax: n * len(SPECS[rule].states) tensors, tensor by tensor; both change in place. bits[i] = 32: float32 like
the parameter, absmax empty. 8: uint8, one code per element in the order of memory. 4: uint8, two codes per byte, the
first element in the high nibble, ceil(row_length / 2) bytes per row. One float32 absmax per block of block_size[i]
elements; blocks start anew every row_length[i] elements.
scalars: float32 [1, K] or [n, K] in the order of SPECS[rule].scalars; the first, grad_scale, multiplies the gradient.
compensation: n tensors like params (Kahan's summation for 16-bit parameters), or none.
seed: rounds bfloat16 parameters up or down at random with the bits random32(seed, number of the element).
state_seeds: int64 [1] or [n], on the CPU or the device; at_random: for states of which bits, 4 and 8, they are. Then
states of 4 bits are those of log_codes.py: squares on a logarithmic scale with two float32 a block, means relative to
their roots, slow averages in 8 bits, and all but those are rounded at random. Of states of 8 bits the squares are, to
an entry beside them (random_squares.py). U of states k and k + 1 are the lower and the upper 16 bits of random32(seed +
k / 2 * DRAW, number of the element within its tensor).

Per block: decode with the old absmax, apply the rule, take the new absmax, encode; the parameter sees the new states
before they are rounded. Codes: nearest entry of `state_table`; a square above 0 never takes the code of 0, and where it
is 0 the signed states of that element are 0. An element whose gradient or new state is not finite is left as it is.
All native instruction sets give the same bits; the reference and the Triton kernels are within the rounding of each
operation (docs/numerics.md). States of CUDA parameters may lie in pinned host memory, which the kernels reach over the
bus.
Errors: ValueError or TypeError that names the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.ops._isa import chosen_isa
from bittern.ops._op import Op, lazily
from bittern.ops.optimizer_step.arguments import StepArguments
from bittern.ops.optimizer_step.check import check_seeds, check_step
from bittern.ops.optimizer_step.cpu import StepTable, optimizer_step_cpu
from bittern.ops.optimizer_step.layout import Storage, block_count, code_count, state_table, storage_of
from bittern.ops.optimizer_step.reference import optimizer_step_reference
from bittern.ops.optimizer_step.rules import SPECS, Rule, RuleSpec, State

__all__ = [
    "SPECS",
    "PreparedStep",
    "Rule",
    "RuleSpec",
    "State",
    "Storage",
    "block_count",
    "code_count",
    "optimizer_step",
    "state_table",
    "storage_of",
]


def _fake(a: StepArguments) -> None:
    return None


optimizer_step: Op[None] = Op(
    "optimizer_step(int rule, Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] states, Tensor(c!)[] absmax, "
    "Tensor scalars, int[] bits, int[] block_size, int[] row_length, Tensor(d!)[] compensation, int? seed=None, "
    "Tensor? state_seeds=None, int[] at_random=[4]) -> ()",
    record=StepArguments,
    check=check_step,
    reference=optimizer_step_reference,
    fake=_fake,
    cpu=optimizer_step_cpu,
    cuda=lazily("bittern.ops.optimizer_step.cuda", "optimizer_step_cuda"),
)


class PreparedStep:
    """`optimizer_step` for tensors that stay where they are: checks and pointers once, then one native call per step.

    Arguments as those of `optimizer_step`. The caller answers for gradients of the right shape, strides and device,
    and makes a new one when a parameter or a state moves.
    """

    def __init__(
        self,
        rule: Rule,
        params: Sequence[Tensor],
        states: Sequence[Tensor],
        absmax: Sequence[Tensor],
        bits: Sequence[int],
        block_size: Sequence[int],
        row_length: Sequence[int],
        compensation: Sequence[Tensor] = (),
        at_random: Sequence[int] = (),
    ) -> None:
        """at_random: the bits of states for which `run` gets state_seeds, if any."""
        self.rule = Rule(rule)
        self.params = tuple(params)
        scalars = torch.zeros(1, len(SPECS[self.rule].scalars))
        stored = (states, absmax, scalars, bits, block_size, row_length, compensation)
        self._at_random = tuple(at_random)
        seeds = torch.zeros(1, dtype=torch.int64) if at_random else None
        check_step(StepArguments(self.rule, self.params, self.params, *stored, None, seeds, self._at_random))
        devices = {p.device for p in params}
        if len(devices) != 1:
            raise ValueError(f"optimizer_step: parameters must be on one device; got {sorted(map(str, devices))}")
        self.device = devices.pop()
        self._table: Any = self._make_table(params, states, absmax, bits, block_size, row_length, compensation)

    def run(
        self,
        grads: Sequence[Tensor],
        scalars: Tensor,
        seed: int | None = None,
        ratios: Tensor | None = None,
        state_seeds: Tensor | None = None,
    ) -> None:
        """Steps every tensor; scalars: float32 [1, K] or [n, K] on the CPU or the device; errors: ValueError.

        ratios: float32 [n], the trust ratios of `Rule.LAMB` and `Rule.LARS`, where the tensors are shards whose norms
        `measure` gave; without it they come from the tensors themselves. On CUDA nothing waits for the device.
        """
        self._check(grads, scalars)
        state_seeds = self._seeds(state_seeds)
        if ratios is not None and (ratios.dtype != torch.float32 or ratios.shape != (len(self.params),)):
            raise ValueError(
                f"optimizer_step: ratios must be float32 [{len(self.params)}]; got {ratios.dtype} {list(ratios.shape)}"
            )
        if self.device.type == "cpu":
            random = {"state_seeds": state_seeds, "at_random": self._at_random}
            self._table.run(chosen_isa(), self.rule, grads, scalars.contiguous(), seed, ratios=ratios, **random)
        else:
            self._table.run(grads, scalars, seed, ratios, state_seeds)

    def measure(self, grads: Sequence[Tensor], scalars: Tensor, state_seeds: Tensor | None = None) -> Tensor:
        """Sums of squares of each parameter and of its direction, float64 [n, 2] on the device; nothing is stepped.

        For `Rule.LAMB` and `Rule.LARS`, whose trust ratios need them; arguments and errors as those of `run`.
        """
        self._check(grads, scalars)
        if self.rule not in (Rule.LAMB, Rule.LARS):
            raise ValueError(f"optimizer_step: only LAMB and LARS have norms to measure; got {self.rule.name}")
        if self.device.type == "cpu":
            norms = torch.zeros(len(self.params), 2, dtype=torch.float64)
            random = {"state_seeds": self._seeds(state_seeds), "at_random": self._at_random}
            self._table.run(chosen_isa(), self.rule, grads, scalars.contiguous(), None, norms=norms, **random)
            return norms
        found: Tensor = self._table.measure(grads, scalars, self._seeds(state_seeds))
        return found

    def _seeds(self, state_seeds: Tensor | None) -> Tensor | None:
        """Checked and contiguous; None where no state is rounded at random."""
        check_seeds(state_seeds, len(self.params))
        if not self._at_random:
            return None
        if state_seeds is None:
            raise ValueError("optimizer_step: rounding at random needs state_seeds; got none; pass one per tensor")
        return state_seeds.contiguous()

    def _check(self, grads: Sequence[Tensor], scalars: Tensor) -> None:
        count, columns = len(self.params), len(SPECS[self.rule].scalars)
        if len(grads) != count:
            raise ValueError(f"optimizer_step: needs {count} gradients, one per parameter; got {len(grads)}")
        places = {torch.device("cpu"), self.device}
        if (
            scalars.dtype != torch.float32
            or scalars.shape not in ((1, columns), (count, columns))
            or scalars.device not in places
        ):
            raise ValueError(
                f"optimizer_step: scalars must be float32 [1 or {count}, {columns}] on "
                f"{' or '.join(sorted(map(str, places)))}; got {scalars.dtype} {list(scalars.shape)} "
                f"on {scalars.device}"
            )

    def _make_table(self, *arguments: Any) -> Any:
        if self.device.type == "cpu":
            return StepTable(self.rule, *arguments)
        from bittern.ops.optimizer_step.cuda import CudaStep

        return CudaStep(self.rule, *(*arguments, self._at_random))
