# SPDX-License-Identifier: Apache-2.0
"""A program laid out for one batch size: where its values live, and what runs in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.engine.accumulation_order import exact_lanes, exact_order, same_bits
from bittern.deploy.engine.items import (
    BitStep,
    Block,
    Encode,
    Item,
    Pool,
    RealProduct,
    WholeMean,
    by_torch,
    number_of,
    released_after,
)
from bittern.deploy.engine.kernel_parameters import pool_rule
from bittern.deploy.engine.memory_plan import MemoryPlan, Values, as_images, image_size, last_uses
from bittern.deploy.form import Form
from bittern.deploy.kinds.bits import image_windows
from bittern.deploy.kinds.kind import Step, channels_last, integers
from bittern.deploy.program import Node
from bittern.deploy.results import mapped

Patch = tuple[str, str, int, int]
"""(part and field of a record, number of the record, number of the value)."""
Look = Callable[[Item, Callable[[int], Any]], None]


@dataclass
class NativeRun:
    """Steps that one native call runs."""

    isa: ops.Isa
    records: np.ndarray
    patches: list[Patch] = field(default_factory=list)
    """Addresses of what torch computes, filled in before every call."""
    strided: list[tuple[int, int]] = field(default_factory=list)
    """(number of the record, number of the value) of real convolutions, which read images as they lie."""

    def __post_init__(self) -> None:
        sizes = self.records["sizes"]
        self._fields = [
            (self.records[part][name], sizes["residual" if name == "residual" else "input"], record, value)
            for part, name, record, value in self.patches
        ]

    def __call__(self, values: Values) -> None:
        held = []
        for addresses, sizes, record, value in self._fields:
            there = values[value]
            images = there[0].contiguous() if isinstance(there, tuple) else as_images(there)
            held.append(images)
            addresses[record], sizes[record] = images.data_ptr(), ops.bytes_of(images)
        for record, value in self.strided:
            ops.PreparedRealConv.point(self.records[record : record + 1], values[value].permute(0, 2, 3, 1))
        ops.run_steps(self.isa, self.records)

    @staticmethod
    def joined(runs: Sequence[NativeRun]) -> NativeRun:
        """One run of the steps of several."""
        patches: list[Patch] = []
        strided: list[tuple[int, int]] = []
        shift = 0
        for run in runs:
            patches += [(part, name, record + shift, value) for part, name, record, value in run.patches]
            strided += [(record + shift, value) for record, value in run.strided]
            shift += len(run.records)
        return NativeRun(runs[0].isa, np.concatenate([run.records for run in runs]), patches, strided)


class TorchRun:
    """One node by torch."""

    def __init__(self, node: Node, step: Step) -> None:
        self.node = node
        self.step = step

    def __call__(self, values: Values) -> None:
        values[self.node.output] = self.step(*[values[v] for v in self.node.inputs])


Run = NativeRun | TorchRun


class Schedule:
    """Runs one batch size. Not for several threads at once: the memory is its own."""

    def __init__(
        self,
        output: int,
        items: tuple[Item, ...],
        prepared: Callable[[Item], Any],
        forms: Mapping[int, Form],
        batch: int,
    ) -> None:
        self.output = output
        self._forms = forms
        self._batch = batch
        self._convs: dict[int, ops.PreparedRealConv] = {}
        self._lanes: dict[int, int] = {}
        self.items = items = tuple(part for item in items for part in self._resolved(item, prepared))
        self._last_use = last_uses(items, output)
        self._plan = MemoryPlan(items, forms, batch, self._last_use)
        self._known = self._plan.values
        """Values in planned memory, which are where they are before anything has run."""
        self._each = [self._run_of(item, prepared(item)) for item in items]
        self._runs = _joined(self._each, self._released())

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
        """The same, item by item; `before` and `after` may read the values that are there."""
        values: Values = {**self._known, 0: x}
        for item, run in zip(self.items, self._each, strict=True):
            before(item, values.__getitem__)
            run(values)
            if after is not None:
                after(item, values.__getitem__)
        return self._result(values)

    def _released(self) -> list[tuple[int, ...]]:
        """For each item, the values outside planned memory that nothing reads any more; a view keeps their memory."""
        return [
            tuple(value for value in values if value not in self._known)
            for values in released_after(self.items, self.output)
        ]

    def _result(self, values: Values) -> Any:
        return mapped(values[self.output], lambda result: result.clone() if self._plan.holds(result) else result)

    # -- real layers: native where an order of summation gives torch's bits

    def _resolved(self, item: Item, prepared: Callable[[Item], Any]) -> tuple[Item, ...]:
        if not isinstance(item, RealProduct | WholeMean):
            return (item,)
        shape = (self._batch, *self._forms[item.node.inputs[0]].shape[1:])
        if isinstance(item, WholeMean):
            lanes = None if 0 in shape else exact_lanes(prepared(item), shape)
            if lanes is None:
                return (item.node,)
            self._lanes[number_of(item)] = lanes
            return (item,)
        trial, tail = prepared(item)
        order = None if 0 in shape else exact_order(item.node, trial, shape)
        if order is None:
            return by_torch(item)
        weight = trial.tensors["weight"]
        stride, padding, dilation = (integers(item.node, key) for key in ("stride", "padding", "dilation"))
        self._convs[number_of(item)] = ops.PreparedRealConv(weight, stride, padding, dilation, order, *tail)
        return (item,)

    # -- making runs

    def _run_of(self, item: Item, prepared: Any) -> Run:
        if isinstance(item, Block):
            return self._block_run(item, prepared)
        if isinstance(item, Encode):
            return self._encode_run(item, prepared)
        if isinstance(item, Pool):
            return self._pool_run(item, *prepared)
        if isinstance(item, RealProduct):
            return self._real_run(item)
        if isinstance(item, WholeMean):
            return self._mean_run(item)
        if isinstance(item, BitStep):
            return self._bit_run(item, prepared)
        assert isinstance(item, Node)
        return TorchRun(item, self._torch_step(item, *prepared))

    def _block_run(self, block: Block, prepared: ops.PreparedBlock) -> NativeRun:
        source = block.node.inputs[0]
        x, patches = self._bits_at(source, ("conv", "input", 0, source))
        residual = None
        if block.residual is not None:
            residual = self._plan.images.get(block.residual)
            if residual is None:
                size = image_size(self._forms[block.residual])
                residual = (
                    torch.empty(0, dtype=torch.float32).expand(self._batch, *size)
                    if 0 in size
                    else torch.empty(1, dtype=torch.float32).expand(self._batch, *size)
                )
                patches.append(("tail", "residual", 0, block.residual))
        real = self._plan.images[block.value] if block.real else None
        bits = None if block.bits is None else self._plan.bits[block.bits]
        return NativeRun(prepared.isa, prepared.step(x, residual, real, bits), patches)

    def _reading(self, record: np.ndarray, part: str, value: int) -> NativeRun:
        """The run of a record that reads images: where they lie in planned memory, else patched at every call."""
        images = self._plan.images.get(value)
        if images is None:
            return NativeRun(ops.chosen_isa(), record, [(part, "x", 0, value)])
        record[part]["x"], record["sizes"]["input"] = images.data_ptr(), ops.bytes_of(images)
        return NativeRun(ops.chosen_isa(), record)

    def _bits_at(self, value: int, patch: Patch) -> tuple[ops.BitImages, list[Patch]]:
        """Where bits lie; else (torch's own packing: words of one plane) their sizes, and what is to be patched."""
        bits = self._plan.bits.get(value)
        if bits is not None:
            return bits, []
        size = image_size(self._forms[value])
        if self._forms[value].planes > 1:
            raise AssertionError(f"schedule: bits that torch packs have one plane; value {value} has several")
        return ops.BitImages(torch.empty(0, dtype=torch.int64), self._batch, *size), [patch]

    def _bit_run(self, item: BitStep, flip: Tensor | None) -> NativeRun:
        node, part = item.node, item.node.kind
        out = self._plan.bits[node.output]
        found = [self._bits_at(value, (part, "x", index, value)) for index, value in enumerate(node.inputs)]
        patches = [patch for _, missing in found for patch in missing]
        sources = [bits for bits, _ in found]
        if part == "pool_bits":
            record = ops.pool_bits_step(*image_windows(node), flip, sources[0], out)
            return NativeRun(ops.chosen_isa(), record, patches)
        return NativeRun(ops.chosen_isa(), ops.concatenate_bits_steps(sources, out), patches)

    def _encode_run(self, item: Encode, threshold: Tensor | None) -> NativeRun:
        node, source = item.node, item.node.inputs[0]
        bits = self._plan.bits[node.output]
        record = ops.encode_step(self._batch, *image_size(self._forms[source])[:2], threshold, bits)
        return self._reading(record, "encode", source)

    def _pool_run(self, item: Pool, rule: ops.PoolRule, affine: Tensor | None) -> NativeRun:
        size = (self._batch, *image_size(self._forms[item.source]))
        record = ops.pool_step(rule, size, self._plan.images[item.node.output], affine)
        return self._reading(record, "pool", item.source)

    def _real_run(self, item: RealProduct) -> NativeRun:
        source, isa = item.node.inputs[0], ops.chosen_isa()
        conv, out = self._convs[number_of(item)], self._plan.images[number_of(item)]
        images = self._plan.images.get(source)
        strided = [] if images is not None else [(0, source)]
        if images is None:
            images = torch.empty(1, dtype=torch.float32).expand(self._batch, *image_size(self._forms[source]))
        record = conv.step(images, out) if item.pool is None else conv.pooled_step(images, pool_rule(item.pool), out)
        return NativeRun(isa, record, strided=strided)

    def _mean_run(self, item: WholeMean) -> NativeRun:
        source = item.node.inputs[0]
        size = (self._batch, *image_size(self._forms[source]))
        record = ops.mean_step(size, self._plan.images[item.node.output], self._lanes[item.node.output])
        return self._reading(record, "pool", source)

    def _torch_step(self, node: Node, as_trained: Step, last: Step | None) -> Step:
        """The step with channels last where its result is the same, bit for bit, as in the training graph's layout."""
        shape = self._forms[node.inputs[0]].shape
        if last is None or len(shape) != 4 or self._batch == 0:
            return as_trained
        size = (self._batch, *shape[1:])
        same = same_bits(as_trained, lambda x, expected: torch.equal(last(channels_last(x)), expected), size)
        return last if same else as_trained


def _joined(each: list[Run], released: list[tuple[int, ...]]) -> list[tuple[Run, tuple[int, ...]]]:
    """Neighbouring native runs as one; each run with the values that are released after it."""
    runs: list[tuple[Run, tuple[int, ...]]] = []
    pairs = zip(each, released, strict=True)
    for native, group in groupby(pairs, key=lambda pair: isinstance(pair[0], NativeRun)):
        neighbours = list(group)
        if not native:
            runs += neighbours
            continue
        joined = NativeRun.joined(cast(list[NativeRun], [run for run, _ in neighbours]))
        runs.append((joined, tuple(value for _, values in neighbours for value in values)))
    return runs
