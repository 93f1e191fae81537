# SPDX-License-Identifier: Apache-2.0
"""What happens to each number of an image by itself, by one native step: maps, activations, sums and products."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.engine.groups.group import AtBatch, Material, always
from bittern.deploy.engine.groups.native import RealGroup
from bittern.deploy.engine.kernel_parameters import Tensors, clamp_limits
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.native_run import NativeRun
from bittern.deploy.kinds.activations import DPRELU_ROWS
from bittern.deploy.kinds.kind import number
from bittern.deploy.program import Node
from bittern.ops import MapOperation, MapStep

ALONE = frozenset(
    ("affine", "bias", "constant", "relu", "relu6", "hardtanh", "prelu", "rprelu", "dprelu", "hardsigmoid")
)
"""Kinds of one input that are an operation."""

PAIRS = {
    "add": (MapOperation.ADD_RESIDUAL, MapOperation.ADD_FACTOR),
    "multiply": (MapOperation.MULTIPLY_RESIDUAL, MapOperation.MULTIPLY_FACTOR),
}
"""Kinds of two inputs that are an operation with either operand."""

OPERANDS = ("residual", "factor")
"""What native code calls them."""


class Link(NamedTuple):
    """One node of a chain."""

    node: Node
    operand: int | None = None
    """Number of the value beside it, where it has two inputs."""
    mapped: Node | None = None
    """The affine node that the operand goes through."""


@dataclass(frozen=True)
class Map(RealGroup):
    """Nodes behind one another, each of which changes every number of the one before."""

    node: Node
    """The last."""
    source: int
    """Number of the value that the first one changes."""
    links: tuple[Link, ...]
    operands: tuple[int, ...] = ()
    """Numbers of the values that they read beside it, at most as many as `OPERANDS`."""

    @property
    def output(self) -> int:
        return self.node.output

    @property
    def nodes(self) -> tuple[int, ...]:
        mapped = (link.mapped.output for link in self.links if link.mapped is not None)
        return (*(link.node.output for link in self.links), *mapped)

    @property
    def reads(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys((self.source, *self.operands)))

    @property
    def in_place(self) -> int | None:
        return self.source

    def does(self) -> str:
        words = {"affine": "scale", "constant": "scale", "add": "sum", "multiply": "product"}
        return ", ".join(words.get(link.node.kind, link.node.kind) for link in self.links)

    def prepare(self, material: Material) -> AtBatch:
        channels = material.forms[self.output].channels
        steps = [self._step(link, material.tensors, channels) for link in self.links]
        return always(self, partial(self._run, ops.PreparedMap(steps, channels)))

    def _step(self, link: Link, tensors: Tensors, channels: int) -> MapStep:
        if link.operand is None:
            return _alone(link.node, link.node.named(tensors), channels)
        if link.mapped is not None:
            return MapStep(MapOperation.ADD_MAPPED, tensors[link.mapped.tensors["affine"]])
        return MapStep(PAIRS[link.node.kind][self.operands.index(link.operand)])

    def _run(self, prepared: ops.PreparedMap, layout: Layout) -> NativeRun:
        sizes = [layout.size(value) for value in self.operands]
        record = prepared.step(
            layout.size(self.source),
            layout.plan.images[self.output],
            *(height * width for _, height, width, _ in sizes),
        )
        patches = layout.beside(record, "map", dict(zip(OPERANDS, self.operands, strict=False)))
        return layout.reading(record, "map", self.source, patches)


def _alone(node: Node, tensors: Tensors, channels: int) -> MapStep:
    """What a node of one input does."""
    limits = clamp_limits(node)
    if node.kind == "relu":
        return MapStep(MapOperation.RELU)
    if node.kind == "hardsigmoid":
        return MapStep(MapOperation.HARD_SIGMOID)
    if limits is not None:
        return MapStep(MapOperation.CLAMP, _rows(channels, *limits))
    match node.kind:
        case "affine":
            return MapStep(MapOperation.AFFINE, tensors["affine"])
        case "bias":
            return MapStep(MapOperation.AFFINE, torch.stack([torch.ones_like(tensors["bias"]), tensors["bias"]]))
        case "constant":
            value = number(node, "value")
            # a product plus -0 rounds once, as torch, and keeps a -0
            rows = (1.0, value) if node.attrs["operation"] == "add" else (value, -0.0)
            return MapStep(MapOperation.AFFINE, _rows(channels, *rows))
        case "prelu":
            return MapStep(MapOperation.PRELU, tensors["weight"].expand(channels)[None])
        case "rprelu":
            return MapStep(MapOperation.RPRELU, torch.stack([tensors[role] for role in ("before", "slope", "after")]))
        case "dprelu":
            return MapStep(MapOperation.DPRELU, torch.stack([tensors[role] for role in DPRELU_ROWS]))
        case _:
            raise AssertionError(f"map: a node of kind {node.kind!r} is no operation")


def _rows(channels: int, *values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None].expand(-1, channels)
