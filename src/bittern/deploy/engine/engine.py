# SPDX-License-Identifier: Apache-2.0
"""Running a packed program on the CPU: fused blocks over planned memory, real layers by torch.

What does not depend on the batch size is prepared once: weights in the order of the kernels, one step per real layer.
The first call with a batch size makes a `Schedule` for it: every value that native code writes gets a place in memory
that later calls use again, and neighbouring native groups become one native call. Real layers see the same memory as
tensors with channels last. A layer whose sums torch would order otherwise in that layout keeps the contiguous one:
it is tried on random numbers when the schedule is made.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.engine.fuse import fuse
from bittern.deploy.engine.groups.group import CPU, Group, Material
from bittern.deploy.engine.schedule import Schedule
from bittern.deploy.kinds.binary import BinaryStep
from bittern.deploy.plain import plain_cpu
from bittern.deploy.program import Program
from bittern.deploy.shapes import forms_of

KEPT_SCHEDULES = 4
"""Batch sizes (at a number of torch's threads), per calling thread, whose memory is kept."""


class Engine:
    """A program that runs fused, on the CPU.

    Call with x float32 [batch, *input_shape] -> float32. Several threads may call at once; each has its own memory.
    """

    def __init__(self, program: Program, tensors: Mapping[str, Tensor], real: torch.dtype = torch.float32) -> None:
        self.program = program
        self.real = real
        self.tensors = tensors
        self.forms = forms_of(program, tensors)
        self.groups = fuse(program, self.forms, native_products=real == torch.float32)
        material = Material(tensors, self.forms, real)
        self._prepared = [group.prepare(material) for group in self.groups]
        self._local = threading.local()

    def __call__(self, x: Tensor) -> Any:
        return self._schedule(x.shape[0]).run(x)

    def accumulators(self, x: Tensor) -> dict[str, Tensor]:
        """Accumulators of every low-bit layer, recomputed from the very bits that reach it."""
        found: dict[str, Tensor] = {}

        def look(group: Group, read: Callable[[int], Any]) -> None:
            node = group.product
            if node is not None:
                step = BinaryStep(node, node.named(self.tensors), CPU)
                found[node.name] = step.accumulator(read(node.inputs[0]))

        self._schedule(x.shape[0]).run_each(x, look)
        return {node.name: found[node.name] for node in self.program.nodes if node.name in found}

    def profile(self, x: Tensor, repeats: int = 5) -> list[tuple[Group, float]]:
        """Every group with its median time in microseconds, each run alone."""
        times: dict[int, list[float]] = {group.output: [] for group in self.groups}
        for _ in range(repeats):
            started = time.perf_counter()

            def note(group: Group, read: Callable[[int], Any]) -> None:
                nonlocal started
                now = time.perf_counter()
                times[group.output].append((now - started) * 1e6)
                started = time.perf_counter()

            self._schedule(x.shape[0]).run_each(x, lambda group, read: None, note)
        return [(group, sorted(times[group.output])[repeats // 2]) for group in self.groups]

    def _schedule(self, batch: int) -> Schedule:
        kept: OrderedDict[tuple[int, int], Schedule] | None = getattr(self._local, "schedules", None)
        if kept is None:
            kept = self._local.schedules = OrderedDict()
        key = batch, torch.get_num_threads()  # torch may sum in another order with other threads
        if key not in kept:
            with plain_cpu():
                kept[key] = Schedule(self.program.output, self._prepared, self.forms, batch)
            if len(kept) > KEPT_SCHEDULES:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key]

    def release(self) -> None:
        """Give back the memory of all batch sizes that this thread has run."""
        self._local.schedules = OrderedDict()
