# SPDX-License-Identifier: Apache-2.0
"""The parts of a network that are rounded together: layers by themselves, or blocks between the values that all else
goes through.

Where one value alone is still to be read, the network could be cut. What lies between two such places and holds layers
with weights in integers is a block: a residual block from where its ways part to their sum with the limits behind it,
and a layer in a chain by itself. Blocks of more than `MOST_PRODUCTS` such layers, and those that read or give something
else than real numbers of samples, are taken layer by layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bittern.deploy.interpreter import step_of
from bittern.ptq.moves import MOVE_RULES
from bittern.ptq.numbers import with_numbers
from bittern.ptq.plan import Facts, Unit
from bittern.ptq.products import Product
from bittern.ptq.recurrent import is_recurrent
from bittern.ptq.rule import kind_of

MOST_PRODUCTS = 16
"""Layers with weights of one block."""
CPU = torch.device("cpu")


class Block(NamedTuple):
    """Units that are rounded together."""

    units: tuple[Unit, ...]
    inputs: tuple[int, ...]
    """Values that they read and others write."""
    output: int
    """The one value that others read."""

    @property
    def products(self) -> tuple[Unit, ...]:
        """Its layers with weights in integers."""
        return tuple(unit for unit in self.units if is_product(unit))


Blocks = Callable[[Facts, Sequence[Unit]], Sequence[Block]]
"""How a network is parted."""


def is_product(unit: Unit) -> bool:
    """Whether its rounding may be learned; the products of recurrent layers are rounded to the nearest."""
    return unit.reason is None and unit.rule.leads and not is_recurrent(unit.node)


def layers(facts: Facts, units: Sequence[Unit]) -> list[Block]:
    """Each layer with weights in integers by itself."""
    return [_block((unit,), unit.output) for unit in units if is_product(unit)]


def blocks(facts: Facts, units: Sequence[Unit]) -> list[Block]:
    """The blocks of a network, in its order."""
    found: list[Block] = []
    for part, output in _parts(facts, units):
        block = None if output is None else _block(part, output)
        products = [unit for unit in part if is_product(unit)]
        if block is not None and len(products) <= MOST_PRODUCTS and _of_samples(facts, block):
            found += [block] if products else []
        else:
            found += layers(facts, products)
    return found


def _block(units: tuple[Unit, ...], output: int) -> Block:
    own = {node.output for unit in units for node in (unit.node, *unit.fused)}
    reads = dict.fromkeys(value for unit in units for value in unit.node.inputs if value not in own)
    return Block(units, tuple(reads), output)


def _parts(facts: Facts, units: Sequence[Unit]) -> Iterator[tuple[tuple[Unit, ...], int | None]]:
    """Units between cuts, and the value that goes on from there; None: several do."""
    program = facts.program
    last = {value: place for place, unit in enumerate(units) for value in unit.node.inputs}
    behind = program.producer(program.output)
    ends = (program.output,) if behind is None or behind.output in {u.output for u in units} else behind.inputs
    last |= dict.fromkeys(ends, len(units))
    live = {value for value in range(len(program.inputs)) if value in last}
    part: list[Unit] = []
    for place, unit in enumerate(units):
        part.append(unit)
        if unit.output in last:
            live.add(unit.output)
        live -= {value for value in unit.node.inputs if last[value] == place}
        if len(live) == 1:
            yield tuple(part), next(iter(live))
            part = []
    if part:
        yield tuple(part), None


def _of_samples(facts: Facts, block: Block) -> bool:
    """Whether all that it reads and writes are real numbers [batch, ...]."""
    forms = [facts.forms[v] for v in (*block.inputs, *(unit.output for unit in block.units))]
    return all(form.type == "real" and form.samples_first for form in forms)


def run(
    facts: Facts,
    block: Block,
    products: Mapping[str, Product],
    at: Callable[[int, Tensor], Tensor] | None,
    inputs: Sequence[Tensor],
) -> Tensor:
    """A block of real numbers, some of its layers with other numbers.

    at: what becomes of a value that is made of integers; None: nothing.
    """
    values: dict[int, Tensor] = dict(zip(block.inputs, inputs, strict=True))
    snapped: dict[int, Tensor] = {}

    def read(value: int, whole: bool) -> Tensor:
        if not whole or at is None:
            return values[value]
        if value not in snapped:
            snapped[value] = at(value, values[value])
        return snapped[value]

    for unit in block.units:
        node, tensors, whole = unit.node, facts.tensors, unit.reason is None
        given = [read(value, whole) for value in node.inputs]
        if node.name in products:
            node, tensors = with_numbers(node, tensors, products[node.name])
        y: Tensor = step_of(node, tensors, CPU)(*given)
        for limit in unit.fused:
            y = step_of(limit, facts.tensors, CPU)(y)
        if whole and at is not None:
            # what only moves lies on its grid already
            moved = unit.rule.keeps_scale and kind_of(unit.node) in MOVE_RULES
            y = snapped[unit.output] = y if moved else at(unit.output, y)
        values[unit.output] = y
    return values[block.output]
