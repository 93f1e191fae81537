# SPDX-License-Identifier: Apache-2.0
"""Native steps that write bits without a product: the signs of real values, pools and concatenations of bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import NamedTuple

from torch import Tensor

from bittern import ops
from bittern.deploy.engine.groups.behind_affine import BehindAffine
from bittern.deploy.engine.groups.group import CPU, AtBatch, Material, OneNode, always
from bittern.deploy.engine.groups.native import BitsGroup, NativeGroup
from bittern.deploy.engine.kernel_parameters import affine_rows, sign_threshold
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.native_run import NativeRun
from bittern.deploy.kinds.bits import flip_words, image_windows
from bittern.deploy.program import Node
from bittern.ops.binary_block.layout import one_array


@dataclass(frozen=True)
class BitGroup(OneNode, BitsGroup):
    """One node that writes bits."""

    node: Node


@dataclass(frozen=True)
class Encode(BehindAffine, BitsGroup):
    """An encode node that native code runs, with an affine node in front of it if there is one."""

    pieces: tuple[int, ...] = ()
    """Values whose channels, one behind the other, are what it reads; (): one value, what its first node reads."""

    @property
    def reads(self) -> tuple[int, ...]:
        return self.pieces or (self.source,)

    def does(self) -> str:
        return f"{self.mapped}bits" + (f" of {len(self.pieces)} parts" if self.pieces else "")

    def prepare(self, material: Material) -> AtBatch:
        threshold = sign_threshold(self.node, material.tensors) if self.node.attrs["planes"] == 1 else None
        affine = affine_rows(self.before, material.tensors)
        channels = [material.forms[value].channels for value in self.reads]
        firsts = tuple(accumulate(channels, initial=0))
        parts = [
            _Part(
                value,
                first,
                threshold if threshold is None else threshold[first:end].contiguous(),
                affine if affine is None else affine[:, first:end].contiguous(),
            )
            for value, (first, end) in zip(self.reads, pairwise(firsts), strict=True)
        ]
        return always(self, partial(self._run, parts))

    def _run(self, parts: Sequence[_Part], layout: Layout) -> NativeRun:
        bits, records, strided = layout.plan.bits[self.node.output], [], []
        for index, part in enumerate(parts):
            images, planned = layout.images_at(part.value)
            records.append(ops.encode_step(images, part.threshold, bits, part.affine, first=part.first))
            strided += [] if planned else [("encode", index, part.value)]
        return NativeRun(ops.chosen_isa(), one_array(records), strided=strided, rows=layout.rows)


class _Part(NamedTuple):
    """Some channels of what an encode node reads."""

    value: int
    first: int
    """Of its channels, in the bits."""
    threshold: Tensor | None
    affine: Tensor | None


class Unread(OneNode, NativeGroup):
    """A node that is not run: whoever reads it reads the parts that it would put together or take out."""

    def __init__(self, node: Node) -> None:
        self.node = node

    @property
    def reads(self) -> tuple[int, ...]:
        return ()

    @property
    def writes(self) -> tuple[int, ...]:
        return ()

    @property
    def real(self) -> int | None:
        return None

    @property
    def bits(self) -> int | None:
        return None

    def does(self) -> str:
        return "nothing: its parts are read"

    def prepare(self, material: Material) -> AtBatch:
        return always(self, lambda layout: NativeRun(ops.chosen_isa(), one_array([])))


class BitPool(BitGroup):
    """A pool of bits."""

    def does(self) -> str:
        return "max pool of bits"

    def prepare(self, material: Material) -> AtBatch:
        return always(self, partial(self._run, flip_words(self.node, self.node.named(material.tensors), CPU)))

    def _run(self, flip: Tensor | None, layout: Layout) -> NativeRun:
        source = self.node.inputs[0]
        bits, patches = layout.bits_at(source, ("pool_bits", "x", 0, source))
        record = ops.pool_bits_step(*image_windows(self.node), flip, bits, layout.plan.bits[self.node.output])
        return NativeRun(ops.chosen_isa(), record, patches)


class BitConcatenation(BitGroup):
    """Bits side by side."""

    def does(self) -> str:
        return "bits side by side"

    def prepare(self, material: Material) -> AtBatch:
        return always(self, self._run)

    def _run(self, layout: Layout) -> NativeRun:
        inputs = enumerate(self.node.inputs)
        found = [layout.bits_at(value, ("concatenate_bits", "x", index, value)) for index, value in inputs]
        patches = [patch for _, missing in found for patch in missing]
        records = ops.concatenate_bits_steps([bits for bits, _ in found], layout.plan.bits[self.node.output])
        return NativeRun(ops.chosen_isa(), records, patches)
