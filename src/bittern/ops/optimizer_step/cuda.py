# SPDX-License-Identifier: Apache-2.0
"""`optimizer_step` on CUDA: one launch for all tensors that are stored alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.ops._triton import launch, tl
from bittern.ops.optimizer_step.arguments import StepArguments
from bittern.ops.optimizer_step.cpu import StepTable
from bittern.ops.optimizer_step.kernel_cuda import measure_kernel, ratio_kernel, step_kernel
from bittern.ops.optimizer_step.layout import Storage, block_count, state_table, storage_of
from bittern.ops.optimizer_step.rules import SPECS, Rule
from bittern.ops.quantize_blockwise.cuda import signed64, tables_of

_TILE = 1024
"""Elements of one program, at least one block."""
_CHUNK = 1024
"""Sums of squares that the program of one trust ratio adds side by side."""
_ALIGNMENT, _ALIGNED_ROW = 16, 8
"""Bytes and elements for which a kernel may move 16 bytes at once."""
_TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


class _Kind(NamedTuple):
    """What a launch is compiled for."""

    bits: int
    block: int
    param: torch.dtype
    grad: torch.dtype
    aligned: bool
    """Addresses of 16 bytes, rows of 8 elements."""


class _StateTables(NamedTuple):
    """The tables of signed states and of others: squares, or the slow ones beside logarithmic squares."""

    values: Tensor
    """float32 [4, 256]: values and borders of the signed states, then of the others."""
    bins: Tensor
    """uint8: the bins of the signed states, then of the others."""
    constants: dict[str, int]


@cache
def _tables(bits: int, logarithmic: bool, device: torch.device) -> _StateTables:
    bits = 8 if bits == 32 else bits
    signed, other = tables_of(state_table(True, bits)), tables_of(state_table(logarithmic, 8 if logarithmic else bits))
    rows = torch.stack([signed.values, signed.borders, other.values, other.borders])
    bins = torch.cat([signed.codes_of_bins, other.codes_of_bins])
    constants = {
        "MANTISSA": signed.mantissa,
        "OTHER_MANTISSA": other.mantissa,
        "OTHER_BINS": len(signed.codes_of_bins),
    }
    return _StateTables(rows.to(device), bins.to(device), constants)


def rule_constants(rule: Rule, bits: int, at_random: bool) -> dict[str, Any]:
    """What a kernel knows of its rule: number, states, the square that gates the others, and how each is stored.

    SIGNED (of codes), RELATIVE, SLOW and EXACT have bit k for state k; at_random: 4 bits are those of log_codes, and
    squares of 8 bits those of random_squares.
    """
    states = SPECS[rule].states
    storages = [storage_of(state, bits, at_random) for state in states]
    squares = [k for k, state in enumerate(states) if not state.signed]
    return {
        "RULE": int(rule),
        "STATES": len(states),
        "SIGNED": _mask(state.signed and not state.exact for state in states),
        "GATE": squares[0] if squares else -1,
        "RELATIVE": _mask(storage is Storage.RATIOS for storage in storages),
        "SLOW": _mask(bits == 4 and storage is Storage.BYTES for storage in storages),
        "EXACT": _mask(state.exact for state in states),
        "LOGARITHMIC": bits == 4 and at_random,
        "AT_RANDOM": bits < 32 and at_random,
        "BITS": bits,
    }


def _mask(flags: Iterable[bool]) -> int:
    return sum(1 << k for k, flag in enumerate(flags) if flag)


class CudaStep:
    """The table and the tasks of tensors that stay where they are; gradients may move from step to step."""

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
        at_random: Sequence[int] = (4,),
    ) -> None:
        """at_random: for states of which bits the state_seeds of `run` are."""
        self._rule, self._device, self._at_random = rule, params[0].device, frozenset(at_random)
        self._table = StepTable(rule, params, states, absmax, bits, block_size, row_length, compensation)
        self._words: Tensor | None = None
        self._known = self._table.words[:0]
        self._params = tuple(params)
        self._bits, self._kahan = tuple(bits), bool(compensation)
        # 32-bit states have no blocks of their own; any size will do
        self._block = tuple(size if b < 32 else _TILE for size, b in zip(block_size, bits, strict=True))
        self._rows = tuple(row_length)
        self._tasks: dict[_Kind, Tensor] = {}
        self._first: dict[_Kind, Tensor] = {}
        self._grad_types: tuple[tuple[torch.dtype, bool], ...] = ()
        count = len(SPECS[rule].states)
        self._aligned = [
            row % _ALIGNED_ROW == 0
            and all(x.data_ptr() % _ALIGNMENT == 0 for x in (p, *states[i * count : (i + 1) * count], *lost))
            for i, (p, row) in enumerate(zip(params, row_length, strict=True))
            for lost in [compensation[i : i + 1]]
        ]
        self._ratios = torch.ones(len(params), dtype=torch.float32, device=self._device)
        self._captured: list[Tensor] = []

    def run(
        self,
        grads: Sequence[Tensor],
        scalars: Tensor,
        seed: int | None,
        ratios: Tensor | None = None,
        state_seeds: Tensor | None = None,
    ) -> None:
        """Steps all tensors without waiting for the device; scalars: float32 [1, K] or [tensors, K], anywhere.

        ratios: float32 [tensors], trust ratios that come from elsewhere. state_seeds: contiguous int64 [1] or
        [tensors], anywhere.
        """
        scalars, random = self._filled(grads, scalars), state_seeds is not None
        own_seed = state_seeds is not None and len(state_seeds) > 1
        seeds = self._words if state_seeds is None else self._moved(state_seeds)  # some pointer, where none is read
        if ratios is not None:
            self._ratios.copy_(ratios, non_blocking=True)
        elif self._rule in (Rule.LAMB, Rule.LARS):
            self._find_ratios(scalars, random)
        for kind, tasks in self._tasks.items():
            tables = self._tables_of(kind, random)
            launch(
                step_kernel,
                len(tasks),
                tasks,
                *(self._words, tasks, scalars, tables.values, tables.bins, self._ratios, seeds),
                *(scalars.shape[1], int(own_seed), signed64(seed or 0)),
                **self._constants(kind, random),
                **tables.constants,
                KAHAN=self._kahan,
                CHANCE=seed is not None,
            )

    def measure(self, grads: Sequence[Tensor], scalars: Tensor, state_seeds: Tensor | None = None) -> Tensor:
        """float64 [tensors, 2]: sums of squares of the parameters and of their directions; arguments as for `run`."""
        scalars = self._filled(grads, scalars)
        norms = torch.zeros(len(self._params), 2, dtype=torch.float64, device=self._device)
        for kind in self._tasks:
            lengths = self._first[kind].diff()
            squares = self._squares(kind, scalars, state_seeds is not None)
            norms += torch.segment_reduce(squares, "sum", lengths=lengths, unsafe=True)
        return norms

    def _filled(self, grads: Sequence[Tensor], scalars: Tensor) -> Tensor:
        """Enters the gradients into the table and the tasks; returns the scalars on the device."""
        self._table.fill(grads, own_row=scalars.shape[0] > 1)
        if self._words is None or self._table.words != self._known:
            self._known = self._table.words[:]
            self._words = self._moved(torch.tensor(self._known, dtype=torch.int64))
        scalars = self._moved(scalars.contiguous())
        types = tuple((g.dtype, g.data_ptr() % _ALIGNMENT == 0) for g in grads)
        if types != self._grad_types:
            self._grad_types, self._tasks = types, self._make_tasks(types)
            numbers = torch.arange(len(self._params) + 1, device=self._device)
            self._first = {
                kind: torch.searchsorted(tasks[:, 0].contiguous(), numbers) for kind, tasks in self._tasks.items()
            }
        return scalars

    def _squares(self, kind: _Kind, scalars: Tensor, random: bool) -> Tensor:
        """float64 [tasks, 2]."""
        assert self._words is not None
        tasks = self._tasks[kind]
        squares = torch.empty(len(tasks), 2, dtype=torch.float64, device=self._device)
        values = self._tables_of(kind, random).values
        arguments = (self._words, tasks, scalars, values, squares, scalars.shape[1])
        launch(measure_kernel, len(tasks), tasks, *arguments, **self._constants(kind, random))
        return squares

    def _find_ratios(self, scalars: Tensor, random: bool) -> None:
        for kind, tasks in self._tasks.items():
            squares = self._squares(kind, scalars, random)
            launch(
                ratio_kernel,
                len(self._params),
                tasks,
                *(self._words, self._first[kind], scalars, squares, self._ratios, scalars.shape[1]),
                RULE=int(self._rule),
                CHUNK=_CHUNK,
            )

    def _tables_of(self, kind: _Kind, random: bool) -> _StateTables:
        return _tables(kind.bits, kind.bits == 4 and random and 4 in self._at_random, self._device)

    def _constants(self, kind: _Kind, random: bool) -> dict[str, Any]:
        return rule_constants(self._rule, kind.bits, random and kind.bits in self._at_random) | {
            "BLOCK": kind.block,
            "ROWS": max(1, _TILE // kind.block),
            "PARAM": _TYPES[kind.param],
            "GRAD": _TYPES[kind.grad],
            "ALIGNED": kind.aligned,
        }

    def _make_tasks(self, grad_types: Sequence[tuple[torch.dtype, bool]]) -> dict[_Kind, Tensor]:
        """Per kind, in order: a tensor, a row of it, and the first block of that row that a program works on."""
        found: dict[_Kind, list[Tensor]] = {}
        for i, (p, (grad, aligned)) in enumerate(zip(self._params, grad_types, strict=True)):
            if not p.numel():
                continue
            blocks = block_count(self._rows[i], self._block[i], self._rows[i])
            first = torch.arange(0, blocks, max(1, _TILE // self._block[i]))
            tasks = torch.cartesian_prod(torch.tensor([i]), torch.arange(p.numel() // self._rows[i]), first)
            kind = _Kind(self._bits[i], self._block[i], p.dtype, grad, aligned and self._aligned[i])
            found.setdefault(kind, []).append(tasks)
        return {kind: self._moved(torch.cat(tasks)) for kind, tasks in found.items()}

    def _moved(self, x: Tensor) -> Tensor:
        """On the device; the copy is asynchronous, from memory that torch keeps until it is done."""
        if x.device == self._device:
            return x
        pinned = x.pin_memory()
        if torch.cuda.is_current_stream_capturing():
            self._captured.append(pinned)  # every replay of the graph copies from it again
        return pinned.to(self._device, non_blocking=True)


def optimizer_step_cuda(a: StepArguments) -> None:
    if a.params:
        rule = Rule(a.rule)
        step = CudaStep(
            *(rule, a.params, a.states, a.absmax, a.bits, a.block_size, a.row_length, a.compensation, a.at_random)
        )
        step.run(a.grads, a.scalars, a.seed, state_seeds=None if a.state_seeds is None else a.state_seeds.contiguous())
