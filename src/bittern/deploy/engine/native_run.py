# SPDX-License-Identifier: Apache-2.0
"""What a schedule calls: neighbouring native steps in one call, or one node by torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.engine.memory_plan import Values, as_images, images_where_they_lie
from bittern.deploy.kinds.kind import Step
from bittern.deploy.program import Node
from bittern.ops.binary_block.layout import one_array, point, readable

Patch = tuple[str, str, int, int]
"""(part and field of a record, number of the record, number of the value)."""


Given = Values | Sequence[Any]
"""Values by number; the inputs of a call are the first."""


class Aim:
    """Lets a record read images that torch made, at every call; all but the address only where they lie otherwise."""

    def __init__(self, records: np.ndarray, part: str, record: int, value: int, rows: bool) -> None:
        self.value = value
        self._rows = rows
        self._part = part
        self._record = records[record : record + 1]
        self._addresses = self._record[part]["x"]
        self._seen: tuple[torch.Size, tuple[int, ...]] | None = None

    def at(self, values: Given) -> Tensor:
        """What the record reads now, which must stay until it has run."""
        x: Tensor = values[self.value]
        signature = x.shape, x.stride()
        if signature == self._seen:
            self._addresses[0] = x.data_ptr()
            return x
        images = images_where_they_lie(x, self._rows)
        read = readable(images) if self._part == "encode" else images
        point(self._record, self._part, read)
        self._seen = signature if read is images else None
        return read


@dataclass
class NativeRun:
    """Steps that one native call runs."""

    isa: ops.Isa
    records: np.ndarray
    patches: list[Patch] = field(default_factory=list)
    """Addresses of what torch computes, filled in before every call."""
    strided: list[tuple[str, int, int]] = field(default_factory=list)
    """(part of a record, number of the record, number of the value) of what reads images as they lie."""
    rows: bool = False
    """Whether values of three dimensions are rows of features (`memory_plan.with_rows`)."""
    as_given: list[Patch] = field(default_factory=list)
    """Patches whose values are read in their own order of dimensions, whatever those are."""

    def __post_init__(self) -> None:
        sizes = self.records["sizes"]
        self._fields = [
            (self.records[part][name], sizes[name if name in ("residual", "factor") else "input"], record, value, given)
            for patches, given in ((self.patches, False), (self.as_given, True))
            for part, name, record, value in patches
        ]
        self._aims = [Aim(self.records, *place, self.rows) for place in self.strided]
        self._steps = ops.Steps(self.isa, self.records)

    def __call__(self, values: Given) -> None:
        """Run with these values, of which only those are asked for that torch computes, or a call gives."""
        held = []
        for addresses, sizes, record, value, given in self._fields:
            there = values[value]
            if isinstance(there, tuple):
                images = there[0].contiguous()
            else:
                images = there.contiguous() if given else as_images(there, self.rows)
            held.append(images)
            addresses[record], sizes[record] = images.data_ptr(), ops.bytes_of(images)
        for aim in self._aims:
            held.append(aim.at(values))
        self._steps.run()

    @staticmethod
    def joined(runs: Sequence[NativeRun]) -> NativeRun:
        """One run of the steps of several."""
        patches: list[Patch] = []
        as_given: list[Patch] = []
        strided: list[tuple[str, int, int]] = []
        shift = 0
        for run in runs:
            patches += [(part, name, record + shift, value) for part, name, record, value in run.patches]
            as_given += [(part, name, record + shift, value) for part, name, record, value in run.as_given]
            strided += [(part, record + shift, value) for part, record, value in run.strided]
            shift += len(run.records)
        rows = any(run.rows for run in runs)
        return NativeRun(runs[0].isa, one_array([run.records for run in runs]), patches, strided, rows, as_given)


class TorchRun:
    """One node by torch."""

    def __init__(self, node: Node, step: Step) -> None:
        self.node = node
        self.step = step

    def __call__(self, values: Values) -> None:
        values[self.node.output] = self.step(*[values[v] for v in self.node.inputs])


Run = NativeRun | TorchRun


def joined(each: Sequence[Run], released: Sequence[tuple[int, ...]]) -> list[tuple[Run, tuple[int, ...]]]:
    """Neighbouring native runs as one; each run with the values that are released after it."""
    runs: list[tuple[Run, tuple[int, ...]]] = []
    pairs: Any = zip(each, released, strict=True)
    for native, group in groupby(pairs, key=lambda pair: isinstance(pair[0], NativeRun)):
        neighbours = list(group)
        if not native:
            runs += neighbours
            continue
        run = NativeRun.joined(cast(list[NativeRun], [run for run, _ in neighbours]))
        runs.append((run, tuple(value for _, values in neighbours for value in values)))
    return runs
