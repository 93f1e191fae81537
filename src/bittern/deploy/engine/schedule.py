# SPDX-License-Identifier: Apache-2.0
"""A program laid out for one batch size: where its values live, and what runs in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from bittern.deploy.engine.groups.group import AtBatch, Group
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.memory_plan import MemoryPlan, Values, last_uses
from bittern.deploy.engine.native_run import joined
from bittern.deploy.form import Form
from bittern.deploy.liveness import released_after
from bittern.deploy.results import mapped

Look = Callable[[Group, Callable[[int], Any]], None]


class Schedule:
    """Runs one batch size. Not for several threads at once: the memory is its own."""

    def __init__(self, output: int, prepared: Sequence[AtBatch], forms: Mapping[int, Form], batch: int) -> None:
        self.output = output
        self._parts = tuple(part for at in prepared for part in at(batch))
        """Kept, because records hold addresses of what a group was prepared with: weights, thresholds."""
        self.groups = tuple(part.group for part in self._parts)
        self._plan = MemoryPlan(self.groups, forms, batch, last_uses(self.groups, output))
        self._known = self._plan.values
        """Values in planned memory, which are where they are before anything has run."""
        layout = Layout(self._plan, forms, batch)
        self._each = [part.run(layout) for part in self._parts]
        self._runs = joined(self._each, self._released())

    @property
    def nbytes(self) -> int:
        """Bytes of planned memory."""
        return self._plan.nbytes

    def run(self, x: Tensor) -> Any:
        """x float32 [batch, *input_shape] -> the program's result."""
        values: Values = {**self._known, 0: x}
        for run, released in self._runs:
            run(values)
            for value in released:
                del values[value]
        return self._result(values)

    def run_each(self, x: Tensor, before: Look, after: Look | None = None) -> Any:
        """The same, group by group; `before` and `after` may read the values that are there."""
        values: Values = {**self._known, 0: x}
        for group, run in zip(self.groups, self._each, strict=True):
            before(group, values.__getitem__)
            run(values)
            if after is not None:
                after(group, values.__getitem__)
        return self._result(values)

    def _released(self) -> list[tuple[int, ...]]:
        """For each group, the values outside planned memory that nothing reads any more; a view keeps their memory."""
        released = released_after([(group.reads, group.writes) for group in self.groups], self.output)
        return [tuple(value for value in values if value not in self._known) for values in released]

    def _result(self, values: Values) -> Any:
        return mapped(values[self.output], lambda result: result.clone() if self._plan.holds(result) else result)
