# SPDX-License-Identifier: Apache-2.0
"""Values that are several batches one after another, as torch.cat([a, b]) makes them.

Native kinds take one entry a sample. A low-bit layer treats each sample by itself, so such a value is taken apart into
its batches, and each of them goes through the layer; so does what changes each number by itself (`EACH`), which is then
fused behind the layer. All else, such as a sum that torch may order otherwise for fewer samples, reads the whole, put
together again; where nothing reads that, it is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.front.arguments import BatchSource
from bittern.deploy.front.builder import Builder, Ref
from bittern.deploy.front.call import Call
from bittern.deploy.front.native import recognised
from bittern.deploy.front.same import MOST_ELEMENTS
from bittern.deploy.front.sizes import NoSize, Size, Symbols
from bittern.deploy.part_names import part_name
from bittern.deploy.size_expression import BATCH, along_batch

MOST_BATCHES = 16

CONCATENATE, SLICE = "cat.default", "slice.Tensor"

EACH = (
    *("relu.default", "relu6.default", "hardtanh.default", "clamp.default", "leaky_relu.default", "prelu.default"),
    *("add.Tensor", "sub.Tensor", "mul.Tensor", "bittern::sign.default", "batch_norm.default"),
    *("flatten.using_ints", "view.default", "reshape.default", "_unsafe_view.default", "unflatten.int"),
    *("contiguous.default", "clone.default", "squeeze.dim", "squeeze.dims", "unsqueeze.default", "permute.default"),
    *("transpose.int", "pad.default", "constant_pad_nd.default", SLICE, CONCATENATE),
    *("max_pool1d.default", "max_pool2d.default"),
)
"""Operators that give a sample the same bits whatever other samples there are."""


class Joined:
    """Which values are several batches, and their parts.

    node: (name, operator, arguments, what torch says of the result) -> the value of a new operator of torch.
    """

    def __init__(
        self,
        builder: Builder,
        symbols: Symbols,
        metas: dict[Ref, Any],
        batch: BatchSource,
        node: Callable[[str, str, list[Any], Any], Ref],
    ) -> None:
        self._builder, self._symbols, self._metas, self._batch, self._node = builder, symbols, metas, batch, node
        self._parts: dict[Ref, tuple[Ref, ...]] = {}
        self._whole: dict[Ref, None] = {}
        """Values that were put together here."""

    def count(self, x: Any) -> int:
        """How many batches a value is; 0 where it is one, or no real numbers with samples first."""
        if not isinstance(x, Tensor) or x.dtype != torch.float32 or x.ndim < 2:
            return 0
        try:
            first, *rest = self._symbols.shape_of(x)
        except NoSize:
            return 0
        free = not any(isinstance(size, Size) and BATCH in size.names for size in rest)
        found = _batches(first) if free and isinstance(first, Size) else None
        return found if found is not None and 1 < found <= MOST_BATCHES else 0

    def parts(self, value: Ref) -> tuple[Ref, ...]:
        """The batches of a value that is several."""
        if value not in self._parts:
            meta = self._metas[value]
            part, count = self._part_of(meta), self.count(meta)
            steps = [_times(index) for index in range(count + 1)]
            self._parts[value] = tuple(
                self._node(f"batch{index}", SLICE, [value, 0, *steps[index : index + 2], 1], part)
                for index in range(count)
            )
        return self._parts[value]

    def known(self, value: Ref) -> bool:
        """Whether a value was made of its batches, or taken apart into them."""
        return value in self._parts

    def through_layer(self, value: Ref, name: str, meta: Any, layer: Callable[[str, Ref], Ref]) -> Ref:
        """A layer on each of the batches; layer: (name, value) -> its result; meta: of the whole."""
        values = self.parts(value)
        part, found = self._part_of(meta), []
        for index, own in enumerate(values):
            found.append(layer(part_name(name, index, len(values)), own))
            self._metas[found[-1]] = part
        return self._together(f"{name}.joined", tuple(found), meta)

    def called(self, call: Call, meta: Any) -> Ref | None:
        """The value of a call that joins batches, takes one out, or does the same to each; None: of another."""
        first = call.arguments.get("dim") == 0
        if first and call.operator == CONCATENATE:
            return self._concatenated(call, meta)
        if first and call.operator == SLICE:
            return self._taken(call, meta)
        return self._each(call, meta) if call.operator in EACH else None

    def unread(self, result: int) -> list[int]:
        """Values put together here that nothing reads; result: of the program, which counts as read."""
        gone: set[int] = set()
        for value in reversed(self._whole):
            readers = [n for n in self._builder.nodes if value in n.inputs and n.output not in gone]
            if value != result and not readers:
                gone.add(int(value))
        return [*gone]

    def _concatenated(self, call: Call, meta: Any) -> Ref | None:
        tensors = call["tensors"]
        if not self.count(meta) or not all(isinstance(entry, Ref) for entry in tensors):
            return None
        parts: list[Ref] = []
        for entry in tensors:
            if self.known(entry):
                parts += self._parts[entry]
            elif self._symbols.rows(self._metas[entry]) is not None:
                parts.append(entry)
            else:
                return None
        return self._together(call.name, tuple(parts), meta)

    def _taken(self, call: Call, meta: Any) -> Ref | None:
        source, start, end = call["self"], call["start"] or 0, call["end"]
        if not isinstance(source, Ref) or not self.known(source) or call["step"] != 1:
            return None
        to_the_end = end is None or (isinstance(end, int) and end >= MOST_ELEMENTS)
        first, last = _batches(start), len(self._parts[source]) if to_the_end else _batches(end)
        if first is None or last is None:
            return None
        taken = self._parts[source][first:last]
        if not taken:
            return None
        return taken[0] if len(taken) == 1 else self._together(call.name, taken, meta)

    def _each(self, call: Call, meta: Any) -> Ref | None:
        count = self.count(meta)
        if not count or not call.refs or any(len(self._parts.get(ref, ())) != count for ref in call.refs):
            return None
        part = self._part_of(meta)
        out, found = self._symbols.rows(part), []
        for index in range(count):
            arguments = {name: self._of_batch(value, index) for name, value in call.arguments.items()}
            own = Call(call.operator, part_name(call.name, index, count), call.node, arguments)
            inputs = [x for ref in own.refs if (x := self._symbols.rows(self._metas[ref])) is not None]
            if out is None or len(inputs) != len(own.refs):
                return None
            value = recognised(self._builder, own, inputs, out)
            if value is None:
                return None  # at the first batch, or at none
            self._metas[value] = part
            found.append(value)
        return self._together(f"{call.name}.joined", tuple(found), meta)

    def _of_batch(self, value: Any, index: int) -> Any:
        if isinstance(value, Ref):
            return self._parts[value][index]
        return [self._of_batch(entry, index) for entry in value] if isinstance(value, (list, tuple)) else value

    def _together(self, name: str, parts: tuple[Ref, ...], meta: Any) -> Ref:
        whole = self._node(name, CONCATENATE, [[*parts], 0], meta)
        self._parts[whole] = parts
        self._whole[whole] = None
        return whole

    def _part_of(self, x: Tensor) -> Tensor:
        """What torch says of one batch of a value."""
        samples = self._metas[self._batch.value].shape[self._batch.dim]
        return x.narrow(0, 0, samples)


def _batches(size: Any) -> int | None:
    """A size in batches; None where it is no multiple of the batch, whatever that is."""
    if isinstance(size, int):
        return 0 if size == 0 else None
    if not isinstance(size, Size) or size.names != {BATCH}:
        return None
    times, plus = along_batch(size.expression, {})
    return times if plus == 0 else None


def _times(count: int) -> int | Size:
    return Size(["*", count, BATCH]) if count else 0
