# SPDX-License-Identifier: Apache-2.0
"""Learned rounding of a quantized network: part after part, from what the integers before it give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from bittern.ptq.blocks import Block, Blocks, blocks, layers, run
from bittern.ptq.calibrate import Groups
from bittern.ptq.grid import Grid
from bittern.ptq.network import QuantizedNetwork
from bittern.ptq.plan import Facts
from bittern.ptq.products import Product
from bittern.ptq.reconstruct import Point, Schedule, fake_quantized, reconstruct
from bittern.ptq.report import RoundedBlock
from bittern.ptq.soft_rounding import Weight
from bittern.ptq.steps import Limits
from bittern.ptq.values import values_of

Told = Callable[[str, float, float], None]
"""Called with the names of the layers of each part, and its mean squared error with weights rounded to the nearest and
as learned."""


class Way(NamedTuple):
    """What a rounding learns."""

    parts: Blocks
    steps: bool
    """Whether it learns the steps of values within a part, too."""
    drop: float


@dataclass(frozen=True, kw_only=True)
class AdaRound:
    """The rounding of `bittern.quantize` that learns for each weight whether it goes up or down (arXiv:2004.10568).

    A layer is to give what the float network's gives, limits behind it included, where it reads what the integers of
    the layers before give. Steps stay as they are, and so do biases.
    """

    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0
    progress: Told | None = None

    def way(self) -> Way:
        return Way(layers, steps=False, drop=0.0)


@dataclass(frozen=True, kw_only=True)
class BRECQ:
    """As `AdaRound`, for the layers of a block at once, whose values' steps are learned with them (arXiv:2102.05426).

    Blocks are those of `bittern.ptq.blocks`; the report lists them. The loss is the plain squared error.
    """

    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0
    progress: Told | None = None

    def way(self) -> Way:
        return Way(blocks, steps=True, drop=0.0)


@dataclass(frozen=True, kw_only=True)
class QDrop:
    """As `BRECQ`, and while it learns each number stays unquantized with probability `drop` (arXiv:2203.05740).

    Raises: ValueError for a drop outside (0, 1).
    """

    drop: float = 0.5
    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0
    progress: Told | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.drop < 1.0:
            raise ValueError(f"QDrop: drop must lie between 0 and 1; got {self.drop!r}; without any it is BRECQ")

    def way(self) -> Way:
        return Way(blocks, steps=True, drop=self.drop)


Rounding = AdaRound | BRECQ | QDrop


def learn_rounding(network: QuantizedNetwork, batches: Sequence[Sequence[Tensor]], rounding: Rounding) -> None:
    """Give the layers of a network the latent numbers that round as learned, and its values the steps; in place.

    batches: the inputs of the network's program, all of which each part learns from. A part whose error on them is not
    less than with weights rounded to the nearest stays so.
    """
    way = rounding.way()
    groups = Groups(network.facts, network.units)
    own = _owners(network, groups) if way.steps else {}
    for block in way.parts(network.facts, network.units):
        free = {group for unit in block.units for group in own.get(unit.node.name, ())}
        found = _learn(network, block, batches, rounding, _Values(network, groups, block, free))
        network.rounded = (*network.rounded, found)
        if rounding.progress is not None:
            rounding.progress(" + ".join(found.layers), found.nearest_error, found.error)


def _owners(network: QuantizedNetwork, groups: Groups) -> dict[str, list[int]]:
    """Which grids the block of a unit may learn, by its name: those that its result is the first to have."""
    found: dict[str, list[int]] = {}
    seen = {groups.of(v) for v in range(len(network.facts.program.inputs)) if v in groups.values} | set(groups.fixed)
    for unit in network.units:
        for value in (*unit.node.inputs, unit.output):
            if value not in groups.values or groups.of(value) in seen:
                continue
            group = groups.of(value)
            seen.add(group)
            if unit.reason is None and value == unit.output:
                found.setdefault(unit.node.name, []).append(group)
    return found


@dataclass(frozen=True)
class _Values:
    """The grids of a block's values."""

    network: QuantizedNetwork
    groups: Groups
    block: Block
    free: set[int]
    """Groups whose steps are learned."""

    @property
    def whole(self) -> set[int]:
        """Values that units of integers write."""
        return {unit.output for unit in self.network.units if unit.reason is None}

    def points(self) -> dict[str, Point]:
        found = {}
        for unit in self.block.units:
            if unit.reason is None and self.groups.of(unit.output) in self.free:
                grid = self.network.grids[unit.output]
                found[str(self.groups.of(unit.output))] = Point(grid.scale, grid.zero, grid.bits)
        return found

    def scales(self, learned: Mapping[str, float]) -> dict[int, float]:
        """Of all values of the network that have a grid which was learned."""
        found = {value: learned.get(str(self.groups.of(value))) for value in self.network.grids}
        return {value: scale for value, scale in found.items() if scale is not None}

    def at(self, learned: Callable[[str, Tensor], Tensor] | None) -> Callable[[int, Tensor], Tensor]:
        """What becomes of each value, from what becomes of it at a point.

        learned: None: only what the block reads is rounded.
        """
        given = self.whole.intersection(self.block.inputs)

        def quantized(value: int, x: Tensor) -> Tensor:
            if value in given or (learned is None and value not in self.block.inputs):
                return x  # it lies on its grid, or is not to
            group = self.groups.of(value)
            if learned is not None and group in self.free:
                return learned(str(group), x)
            return on_fixed(self.network.grids[value], x)

        return quantized


def on_fixed(grid: Grid, x: Tensor) -> Tensor:
    """The real numbers of the nearest integers, with straight-through gradients within the grid."""
    return fake_quantized(x, torch.tensor(grid.scale), grid.zero, Limits(grid.low, grid.high))


def _learn(
    network: QuantizedNetwork,
    block: Block,
    batches: Sequence[Sequence[Tensor]],
    rounding: Rounding,
    values: _Values,
) -> RoundedBlock:
    facts, way = network.facts, rounding.way()
    own = {layer.name: layer for layer in network.own_layers()}
    learners = {unit.node.name: own[unit.node.name] for unit in block.products}
    latent = {n: Weight(layer.weight.detach(), layer.scales.float(), layer.bits) for n, layer in learners.items()}
    biases = {name: layer.bias.detach() for name, layer in learners.items()}
    read = _read(network, block, batches, values.whole)
    real = _float(facts, batches, (*block.inputs, block.output) if way.drop else (block.output,))

    def step(weights: Mapping[str, Tensor], at: Callable[[str, Tensor], Tensor], *inputs: Tensor) -> Tensor:
        products = {name: Product(weight, biases[name]) for name, weight in weights.items()}
        return run(facts, block, products, values.at(at if way.steps else None), inputs)

    found = reconstruct(
        step,
        latent,
        read,
        real[-1],
        points=values.points(),
        float_inputs=real[:-1] if way.drop else None,
        drop=way.drop,
        schedule=rounding.schedule,
        seed=rounding.seed,
    )
    better = found.error < found.nearest_error
    if better:
        for name, layer in learners.items():
            with torch.no_grad():
                layer.weight.copy_(found.codes[name].double() * latent[name].along().double())
        network.set_scales(values.scales(found.scales))
    return RoundedBlock(tuple(learners), found.nearest_error, found.error if better else found.nearest_error)


def _read(
    network: QuantizedNetwork, block: Block, batches: Sequence[Sequence[Tensor]], whole: set[int]
) -> list[Tensor]:
    """What the network quantized so far gives a block, of all samples: real numbers."""
    written = network.written()
    twins = [(written.integers if value in whole else written.reals)[value] for value in block.inputs]
    found = map(torch.cat, values_of(written.program, written.tensors, batches, twins))
    return [
        network.grids[value].reals(x) if value in whole else x for value, x in zip(block.inputs, found, strict=True)
    ]


def _float(facts: Facts, batches: Sequence[Sequence[Tensor]], wanted: Sequence[int]) -> list[Tensor]:
    """Values of the float network, of all samples."""
    return [torch.cat(parts) for parts in values_of(facts.program, facts.tensors, batches, wanted)]
