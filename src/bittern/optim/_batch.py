# SPDX-License-Identifier: Apache-2.0
"""The parameters of one group that step together in one native call, with their cached pointers and step counters."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from operator import eq, is_
from typing import Any

import torch
from torch import Tensor

from bittern.ops.optimizer_step import SPECS, PreparedStep, Rule
from bittern.ops.optimizer_step.check import is_dense
from bittern.optim._layout import at_random, first_element, is_sharded, layout_for, local_tensor
from bittern.optim._options import PARAMETER_DTYPES, Group
from bittern.optim._shards import add_over_shards, trust_ratio
from bittern.optim._state import StateDict, describe

Counts = tuple[Any, ...]

_PER_STEP, _PER_PARAMETER = 0x85EBCA6B << 32, 0xC2B2AE35 << 32
"""In the upper 32 bits odd numbers whose multiples lie far apart, and far from the distance of two draws of a step."""


class Batch:
    """Parameters, their state dicts and the prepared native step.

    The counters of all parameters (`step`, ...) are columns of one tensor, so that one addition advances them all;
    each `state[p]["step"]` is a view of it. A parameter without one is counted here alone: its first step is that for
    which its states are `fresh`, and all others are later ones.
    """

    def __init__(
        self,
        rule: Rule,
        group: Group,
        params: Sequence[Tensor],
        states: Sequence[StateDict],
        counters: Sequence[str],
        fresh: Sequence[bool],
        numbers: Sequence[int],
    ) -> None:
        self.rule = rule
        self._description = (rule, describe(group))
        self.params = tuple(params)
        self.states = tuple(states)
        self.counters = tuple(counters)
        self.names = SPECS[rule].scalars
        self._join_counters(bool(group.get("capturable")), fresh)
        own = [(*(name for name in counters if name in state), *_keys(state, rule)) for state in states]
        places = [(state, key) for state, keys in zip(states, own, strict=True) for key in keys]
        self._place_states = tuple(state for state, _ in places)
        self._place_keys = tuple(key for _, key in places)
        self.tensors = tuple(state[key] for state, key in places)
        stored = params if SPECS[rule].states else ()
        self._at_random = tuple({layout_for(p, group).bits for p in stored if at_random(p, group)})
        at = [_signed(number * _PER_PARAMETER + first_element(p)) for number, p in zip(numbers, params, strict=True)]
        self._seeds = torch.tensor(at, device=self._counts.device) if self._at_random else None
        self._sharded = any(is_sharded(p) for p in params)
        self._joined = self._sharded and rule in (Rule.LAMB, Rule.LARS)
        locals_ = [local_tensor(p.detach()) if is_sharded(p) else p for p in params]
        self._locals = locals_
        self._row = torch.empty(1, len(self.names)) if locals_[0].is_cpu else None
        self._pointers = tuple(p.data_ptr() for p in locals_)
        self.live = [i for i, p in enumerate(locals_) if p.numel() > 0]
        self._copies = [(p, torch.empty_like(p)) for p in (locals_[i] for i in self.live) if not is_dense(p)]
        copies = {id(p): copy for p, copy in self._copies}
        self._work = [copies.get(id(locals_[i]), locals_[i]) for i in self.live]
        self._strides = [p.stride() for p in self._work]
        self._prepared = self._prepare(group) if self.live else None

    def fits(self, rule: Rule, group: Group, params: Sequence[Tensor], states: Iterable[StateDict | None]) -> bool:
        """Whether this batch still describes `params`: same storage, same objects, same memory, same state tensors."""
        if self._description != (rule, describe(group)):
            return False
        if len(params) != len(self.params) or not all(map(is_, params, self.params)):
            return False
        if not all(map(is_, states, self.states)):
            return False
        # loops in C: with many small tensors this check is a good part of a step
        if not all(map(is_, map(dict.get, self._place_states, self._place_keys), self.tensors)):
            return False
        locals_ = [local_tensor(p) for p in params] if self._sharded else params
        return all(map(eq, map(Tensor.data_ptr, locals_), self._pointers))

    def advance(self, advance: Callable[[Counts], Counts]) -> list[Counts]:
        """Moves the counters of every parameter on; returns their new values."""
        if len(self.counters) == 1 and self._counts.is_cpu:
            floats = _floats_of(self._counts)
            floats[:] = [count + 1 for count in floats]
            return [(count,) for count in floats]
        new = [advance(counts) for counts in zip(*self._counts.tolist(), strict=True)]
        self._counts.copy_(torch.tensor(new, dtype=torch.float32).T)
        return list(zip(*self._counts.tolist(), strict=True))

    def advance_on_device(self, advance: Callable[[Counts], Counts]) -> Counts:
        """The same without leaving the device: every counter as one float64 tensor [number of parameters]."""
        self._counts.copy_(torch.stack(advance(tuple(self._counts.unbind(0)))))
        return tuple(self._counts.double().unbind(0))

    def state_seeds(self) -> Tensor | None:
        """A seed per parameter, of its step and its number among the optimizer's; None where states go to nearest.

        The upper 32 bits hold both, the lower ones the number of the first element that this process has, so that
        random32 draws the same for an element in whichever shard it lies.
        """
        if self._seeds is None:
            return None
        steps = self._counts[self.counters.index("step")].to(torch.int64)
        return torch.add(self._seeds, steps, alpha=_signed(_PER_STEP))

    def row_of(self, values: Sequence[float]) -> Tensor:
        """The scalars of a step that is the same for all parameters, [1, K]; overwritten by the next one."""
        if self._row is None:  # a copy to the device may still be reading the last one
            return torch.tensor([values], dtype=torch.float32)
        _floats_of(self._row)[:] = values
        return self._row

    def run(self, scalars: Tensor, seed: int | None, state_seeds: Tensor | None) -> None:
        """Updates the parameters and states from the gradients; scalars: [1, K] or [number of parameters, K]."""
        if self._prepared is None:
            if self._joined:
                self._trust_ratios(None, scalars)  # the other processes wait for this one
            return
        params = self.params
        grads: list[Tensor] = []
        for i, stride in zip(self.live, self._strides, strict=True):
            grad = params[i].grad
            assert grad is not None
            if self._sharded:
                grad = local_tensor(grad)
            if grad.stride() != stride or grad.dtype not in PARAMETER_DTYPES:
                grad = _relayout(grad, self._locals[i])
            grads.append(grad)
        rows = scalars
        if scalars.shape[0] > 1 and len(self.live) < len(params):
            rows = scalars[self.live]
        if state_seeds is not None and len(self.live) < len(params):
            state_seeds = state_seeds[self.live]
        for p, copy in self._copies:
            copy.copy_(p)
        ratios = None
        if self._joined:
            ratios = self._trust_ratios(self._prepared.measure(grads, rows, state_seeds), scalars)[self.live]
        self._prepared.run(grads, rows, seed, ratios, state_seeds)
        for p, copy in self._copies:
            p.copy_(copy)
        torch.autograd.graph.increment_version(params)

    def _trust_ratios(self, norms: Tensor | None, scalars: Tensor) -> Tensor:
        """float32 [parameters] from the norms of whole tensors, added up over the processes that have their shards."""
        squares = torch.zeros(len(self.params), 2, dtype=torch.float64, device=self._locals[0].device)
        if norms is not None:
            squares[self.live] = norms
        sums = torch.stack(add_over_shards(self.params, squares.unbind()))
        return trust_ratio(self.rule, sums.sqrt().float(), scalars.to(squares.device))

    def _prepare(self, group: Group) -> PreparedStep:
        spec = SPECS[self.rule]
        states: list[Tensor] = []
        absmax: list[Tensor] = []
        layouts = []
        compensation: list[Tensor] = []
        for i in self.live:
            p, state = self.params[i], self.states[i]
            layout = layout_for(p, group)
            for spec_state in spec.states:
                scale = state.get(f"{spec_state.name}_absmax")
                states.append(local_tensor(state[spec_state.name]))
                absmax.append(torch.empty(0, device=p.device) if scale is None else local_tensor(scale))
            layouts.append(layout)
            if "compensation" in state:
                compensation.append(local_tensor(state["compensation"]))
        return PreparedStep(
            rule=self.rule,
            params=self._work,
            states=states,
            absmax=absmax,
            bits=[layout.bits for layout in layouts],
            block_size=[layout.block_size for layout in layouts],
            row_length=[layout.row_length for layout in layouts],
            compensation=compensation,
            at_random=self._at_random,
        )

    def _join_counters(self, capturable: bool, fresh: Sequence[bool]) -> None:
        device = self.params[0].device if capturable else torch.device("cpu")
        states = tuple(zip(self.states, fresh, strict=True))
        joined = torch.tensor(
            [[float(state.get(name, 0 if new else 1)) for state, new in states] for name in self.counters],
            dtype=torch.float32,
        )
        self.on_device = capturable
        self._counts = joined.to(device).view(len(self.counters), len(self.states))
        for row, name in enumerate(self.counters):
            for column, state in enumerate(self.states):
                if name in state:
                    state[name] = self._counts[row, column]


def _keys(state: StateDict, rule: Rule) -> tuple[str, ...]:
    names = [spec.name for spec in SPECS[rule].states]
    return tuple(key for name in names for key in (name, f"{name}_absmax") if key in state) + (
        ("compensation",) if "compensation" in state else ()
    )


def _relayout(grad: Tensor, p: Tensor) -> Tensor:
    """A copy of `grad` with the strides of `p`, as float32 unless the kernels read its type."""
    dtype = grad.dtype if grad.dtype in PARAMETER_DTYPES else torch.float32
    return torch.empty_like(p, dtype=dtype, memory_format=torch.preserve_format).copy_(grad)


def state_seed(step: int, number: int) -> Tensor:
    """int64 [1]: the seed of one whole parameter, as `Batch.state_seeds` gives it."""
    return torch.tensor([_signed(step * _PER_STEP + number * _PER_PARAMETER)])


def _signed(x: int) -> int:
    """The int64 with the lowest 64 bits of x."""
    return (x + 2**63) % 2**64 - 2**63


def _floats_of(x: Tensor) -> Any:
    """The numbers of a contiguous float32 tensor on the CPU, without a call of torch, which takes some microseconds."""
    return (ctypes.c_float * x.numel()).from_address(x.data_ptr())
