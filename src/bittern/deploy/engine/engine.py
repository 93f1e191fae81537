# SPDX-License-Identifier: Apache-2.0
"""Running a packed program on the CPU: fused blocks over planned memory, real layers by torch.

What does not depend on the batch size is prepared once: weights in the order of the kernels, one step per real layer.
The first call with a batch size tries whether native code has torch's bits there (`accumulation_order`); what was found
is kept for good, for all Python threads. A `Schedule` then gives every value that native code writes a place in memory
that later calls use again, and makes neighbouring native groups one native call. Real layers see the same memory as
tensors with channels last. A layer whose sums torch would order otherwise in that layout keeps the contiguous one:
that too is tried on random numbers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.decoding import decoded
from bittern.deploy.engine.fuse import fuse
from bittern.deploy.engine.groups.group import CPU, Group, Material
from bittern.deploy.engine.idle import IdleSchedules
from bittern.deploy.engine.memory_plan import DTYPES, Values, as_torch_sees, image_size, with_rows
from bittern.deploy.engine.schedule import Schedule, Way
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.plain import plain_cpu, untracked
from bittern.deploy.program import Program
from bittern.deploy.shapes import forms_of


class Engine:
    """A program that runs fused, on the CPU.

    Call with its inputs, one after another -> what it answers. Several threads may call at once; each has its own
    memory.
    """

    def __init__(
        self,
        program: Program,
        tensors: Mapping[str, Tensor],
        real: torch.dtype = torch.float32,
        idle: IdleSchedules | None = None,
    ) -> None:
        """idle: where schedules go between calls, if several engines share that."""
        program, tensors = decoded(program, tensors)
        self.program = program
        self.real = real
        self.tensors = tensors
        self.forms = with_rows(program, forms_of(program, tensors))
        self.groups = fuse(program, self.forms, native_products=real == torch.float32)
        material = Material(tensors, self.forms, real)
        self._prepared = [group.prepare(material) for group in self.groups]
        self._ways: dict[tuple[int, int], tuple[Way, list[int]]] = {}
        """By batch size and number of torch's threads, for good, each with the sizes of the parts of a batch."""
        self._accumulators: dict[str, Callable[[Any], dict[str, Tensor]]] = {}
        """What `accumulators` computes with, by layer."""
        self._planning = threading.Lock()
        self._idle = idle or IdleSchedules()

    def __call__(self, *inputs: Tensor) -> Any:
        batch = self.program.batch_of(inputs)
        way, sizes = self._way(batch)
        if len(sizes) > 1:
            return untracked(self._in_parts, way, sizes, inputs)
        schedule = self._taken(way, batch)
        try:
            return schedule.run(inputs)
        finally:
            self._idle.give(schedule)

    def _in_parts(self, way: Way, sizes: list[int], inputs: Sequence[Tensor]) -> Any:
        forms = {value: self.forms[value] for value in way.crossing()}
        shapes = {value: (sum(sizes), *image_size(form)) for value, form in forms.items()}
        whole: Values = {
            value: as_torch_sees(torch.empty(shapes[value], dtype=DTYPES[form.type], device=CPU), form)
            for value, form in forms.items()
        }
        start = 0
        pairs = zip(inputs, self.program.inputs, strict=True)
        parts = [[x] * len(sizes) if given.batch is None else torch.split(x, sizes, given.batch) for x, given in pairs]
        for size, *part in zip(sizes, *parts, strict=True):
            schedule = self._taken(way, size)
            try:
                schedule.run_native(part, whole, start)
            finally:
                self._idle.give(schedule)
            start += size
        return schedule.run_rest(inputs, whole)

    def accumulators(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Accumulators of every low-bit layer, recomputed from the very bits that reach it.

        Its products are kept for further calls, until `release`.
        """
        found: dict[str, dict[str, Tensor]] = {}

        def look(group: Group, read: Callable[[int], Any]) -> None:
            node = group.node
            make = KINDS[node.kind].accumulators
            if make is not None:
                count = self._accumulators.get(node.name) or make(node, node.named(self.tensors), CPU)
                self._accumulators[node.name] = count
                found[node.name] = count(read(node.inputs[0]))

        with self.schedule(self.program.batch_of(inputs)) as schedule:
            schedule.run_each(inputs, look)
        return {name: acc for node in self.program.nodes for name, acc in found.get(node.name, {}).items()}

    def profile(self, *inputs: Tensor, repeats: int = 5) -> list[tuple[Group, float]]:
        """Every group with its median time in microseconds, each run alone."""
        times: dict[int, list[float]] = {group.output: [] for group in self.groups}
        started = 0.0

        def note(group: Group, read: Callable[[int], Any]) -> None:
            nonlocal started
            now = time.perf_counter()
            times[group.output].append((now - started) * 1e6)
            started = time.perf_counter()

        for _ in range(repeats):
            with self.schedule(self.program.batch_of(inputs)) as schedule:
                started = time.perf_counter()
                schedule.run_each(inputs, lambda group, read: None, note)
        return [(group, sorted(times[group.output])[repeats // 2]) for group in self.groups]

    @contextmanager
    def schedule(self, batch: int) -> Iterator[Schedule]:
        """A schedule of a whole batch, for this thread alone while it is lent."""
        way, _ = self._way(batch)
        schedule = self._taken(way, batch)
        try:
            yield schedule
        finally:
            self._idle.give(schedule)

    def release(self) -> None:
        """Give back the memory that no call is using."""
        self._idle.clear()
        self._accumulators.clear()

    def _way(self, batch: int) -> tuple[Way, list[int]]:
        key = batch, torch.get_num_threads()  # torch may sum in another order with other threads
        found = self._ways.get(key)
        if found is not None:
            return found
        with plain_cpu():
            parts = tuple(part for at in self._prepared for part in at(batch))
            with self._planning:
                alike = (way for way, _ in self._ways.values() if way.parts == parts)
                way = next(alike, None) or Way(self.program, parts, self.forms)
                self._ways[key] = way, way.sizes(*key)
        return self._ways[key]

    def _taken(self, way: Way, batch: int) -> Schedule:
        schedule = self._idle.take(way, batch)
        if schedule is None:
            with plain_cpu():
                schedule = Schedule(way, batch)
        return schedule
