# SPDX-License-Identifier: Apache-2.0
"""A program laid out for one batch size: where its values live, and what runs in which order.

A `Way` is what batch sizes have in common, a `Schedule` has the memory of one. Of a large batch native code runs one
part after another, as long as no node of torch stands in between: each image by itself, so the bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from bittern.deploy.engine.groups.group import Group, Prepared
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.memory_plan import DTYPES, MemoryPlan, Values, last_uses
from bittern.deploy.engine.native_run import NativeRun, Run, joined
from bittern.deploy.form import Form
from bittern.deploy.liveness import released_after
from bittern.deploy.plain import untracked
from bittern.deploy.program import Program
from bittern.deploy.structure import mapped

Look = Callable[[Group, Callable[[int], Any]], None]

NATIVE = ("block", "native")
"""What `Group.how` says of groups that are steps of native code."""

PART_BYTES = 2**24
"""Memory of the images that native code runs at once: of a large batch, so many that they stay in the cache."""


class Way:
    """How a program runs at some batch sizes: at all those where the same orders of sums were found."""

    def __init__(self, program: Program, parts: Sequence[Prepared], forms: Mapping[int, Form]) -> None:
        self.output = program.output
        self.inputs = len(program.inputs)
        self.parts = parts
        self.forms = forms
        self.groups = tuple(part.group for part in parts)
        self.last_use = last_uses(self.groups, program.output)

    def sizes(self, batch: int, threads: int) -> list[int]:
        """The sizes of the parts of a batch of which native code runs one after another, nearly equal."""
        if batch <= threads or self.images_at_once is None or batch <= self.images_at_once * threads:
            return [batch]
        count = -(-batch // (self.images_at_once * threads))
        return [batch // count + (part < batch % count) for part in range(count)]

    def crossing(self) -> list[int]:
        """Values that the first, native groups write for the nodes of torch behind them, or as the result."""
        first = self._native_groups()
        written = {value for group in self.groups[:first] for value in group.writes}
        read = {value for group in self.groups[first:] for value in group.reads} | {self.output}
        return [value for value in read if value in written]

    def _native_groups(self) -> int:
        """How many groups there are before the first of torch."""
        native = [group.how in NATIVE for group in self.groups]
        return native.index(False) if False in native else len(native)

    @cached_property
    def images_at_once(self) -> int | None:
        """Images whose values fit the cache, at least 1; None: a batch stays whole, for torch runs in between."""
        first = self._native_groups()
        native_behind = any(group.planned for group in self.groups[first:])
        if first == 0 or native_behind or any(self.forms[value].type not in DTYPES for value in self.crossing()):
            return None
        plan = MemoryPlan(self.groups, self.forms, 1, self.last_use)
        return max(1, PART_BYTES // max(1, plan.nbytes))


class Schedule:
    """Runs one batch size. Not for several threads at once: the memory is its own."""

    def __init__(self, way: Way, batch: int) -> None:
        self.way = way
        self.batch = batch
        self.output = way.output
        self.groups = way.groups
        self._plan = MemoryPlan(self.groups, way.forms, batch, way.last_use)
        self.nbytes = self._plan.nbytes
        """Of planned memory."""
        self._known = self._plan.values
        """Values in planned memory, which are where they are before anything has run."""
        self._copies = self._may_be_planned()
        layout = Layout(self._plan, way.forms, batch)
        self._each = [part.run(layout) for part in way.parts]
        self._runs = joined(self._each, self._released())
        self._native = self._whole_native()

    def run(self, inputs: Sequence[Tensor]) -> Any:
        """The program's result, without gradients."""
        if self._native is None:
            return untracked(self._run, self._runs, {**self._known, **dict(enumerate(inputs))})
        run, result = self._native
        run(inputs)
        return result.clone()

    def _whole_native(self) -> tuple[NativeRun, Tensor] | None:
        """The native run that is all there is to run, and the planned memory of its result; else None."""
        result = self._known.get(self.output)
        if len(self._runs) != 1 or not isinstance(result, Tensor):
            return None
        ((run, _),) = self._runs
        return (run, result) if isinstance(run, NativeRun) else None

    def run_native(self, inputs: Sequence[Tensor], whole: Values, start: int) -> None:
        """The native groups alone, for a part of a batch that starts there; their results go into `whole`."""
        values: Values = {**self._known, **dict(enumerate(inputs))}
        self._runs[0][0](values)
        for value, memory in whole.items():
            memory[start : start + self.batch] = values[value]

    def run_rest(self, inputs: Sequence[Tensor], whole: Values) -> Any:
        """What follows the native groups, for the whole batch."""
        return self._run(self._runs[1:], {**whole, **dict(enumerate(inputs))})

    def _run(self, runs: Sequence[tuple[Run, tuple[int, ...]]], values: Values) -> Any:
        for run, released in runs:
            run(values)
            for value in released:
                del values[value]
        return self._result(values)

    def run_each(self, inputs: Sequence[Tensor], before: Look, after: Look | None = None) -> Any:
        """The same, group by group; `before` and `after` may read the values that are there."""
        values: Values = {**self._known, **dict(enumerate(inputs))}
        for group, run in zip(self.groups, self._each, strict=True):
            before(group, values.__getitem__)
            run(values)
            if after is not None:
                after(group, values.__getitem__)
        return self._result(values)

    def _released(self) -> list[tuple[int, ...]]:
        """For each group, the values outside planned memory that nothing reads any more; a view keeps their memory."""
        steps = [(group.reads, group.writes) for group in self.groups]
        released = released_after(steps, self.output, self.way.inputs)
        return [tuple(value for value in values if value not in self._known) for values in released]

    def _may_be_planned(self) -> bool:
        """Whether the result may lie in planned memory, which the next call writes into."""
        return any(group.view or self.output in self._known for group in self.groups if self.output in group.writes)

    def _result(self, values: Values) -> Any:
        if not self._copies:
            return values[self.output]
        return mapped(values[self.output], lambda result: result.clone() if self._plan.holds(result) else result)
