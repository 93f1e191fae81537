# SPDX-License-Identifier: Apache-2.0
"""Scales of their own for the channels of a value, so that small channels do not take the steps of the largest.

int8 values have one scale. What it costs a channel whose numbers are far smaller than the largest of all is given back
by dividing the channel by d where a layer writes it, and by multiplying the weights that read it by d:

    y'_c = (W_c x + b_c) / d_c        z = sum_c V_c f(y_c) = sum_c (d_c V_c) f(y'_c)        f(d y) = d f(y) for d > 0

which is the float function again. The layer that writes has a scale a channel anyway; a depthwise layer that reads has
too, so both lose nothing. d_c = (r_c / R)^alpha, where r_c is the largest |y_c| on the calibration data and R the
largest of these. alpha = 1 gives all channels the range R, and weights that mix channels the most noise. Channels are
followed through all that keeps them apart and is homogeneous: moves, shuffles and joined values, ReLUs, pools,
resizing, sums (whose operands have one d), and products with a gate. What enters and leaves the network, and what reads
or writes other functions of a number, keeps d = 1.

A clamp at m, such as ReLU6, is one of x at m / d then. d lies in r / m ... 1 there, so that the integers never need it:
they end at the calibrated range, as everywhere.

Source: Nagel et al., arXiv:1906.04721, for the identity; Xiao et al., arXiv:2211.10438, for calibrated ranges and their
strength alpha.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.interpreter import step_of
from bittern.deploy.kinds.kind import integer, integers, number
from bittern.deploy.kinds.results import RESULTS
from bittern.deploy.program import Node
from bittern.ptq.calibrate import walk
from bittern.ptq.fold import is_transposed, transposed_arguments
from bittern.ptq.numbers import with_numbers
from bittern.ptq.plan import Facts, Unit
from bittern.ptq.products import Product, product_of
from bittern.ptq.rule import kind_of

CPU = torch.device("cpu")
FIXED = 0
"""The class of all numbers whose divisor is 1."""
LEAST_DIVISOR = 2.0**-20
ANY = -1
"""In the place of a class: a zero of padding, which every divisor leaves a zero."""


class _Sets:
    """Numbers 0, 1, ... in sets that are joined; the least of a set stands for it."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def __len__(self) -> int:
        return len(self._parent)

    def more(self, count: int) -> Tensor:
        """So many new numbers, each by itself."""
        fresh = range(len(self._parent), len(self._parent) + count)
        self._parent.extend(fresh)
        return torch.tensor(fresh)

    def root(self, one: int) -> int:
        while self._parent[one] != one:
            self._parent[one] = self._parent[self._parent[one]]
            one = self._parent[one]
        return one

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        self._parent[second] = first

    def roots(self) -> Tensor:
        return torch.tensor([self.root(one) for one in range(len(self._parent))])

    def members(self) -> Iterator[Tensor]:
        """The numbers of each set."""
        roots = self.roots()
        return ((roots == root).nonzero().flatten() for root in torch.unique(roots))


class Classes:
    """Which numbers of a sample have one divisor: for each value a class for each number, [1, ...]."""

    def __init__(self, facts: Facts, units: Sequence[Unit]) -> None:
        self._sets = _Sets(1)
        self._of: dict[int, Tensor] = {}
        self._facts = facts
        self._shared = Counter(name for node in facts.program.nodes for name in node.tensors.values())
        for value in range(len(facts.program.inputs)):
            self._fix_whole(value)
        for unit in units:
            self._add(unit)
            for clamp in unit.fused:
                self._of[clamp.output] = self._of[unit.node.output]
        self._fix(facts.program.output)
        last = facts.program.producer(facts.program.output)
        for value in last.inputs if last is not None and last.kind == RESULTS.name else ():
            self._fix(value)
        self._found = self._sets.roots()

    def of(self, value: int) -> Tensor:
        """int64, of the shape of a sample."""
        return self._found[self._of[value].clamp(min=FIXED)]

    def channels(self, value: int, dim: int) -> Tensor:
        """int64 [size of the dimension]."""
        return self.of(value).movedim(dim, 0).flatten(1).amax(1)

    def __len__(self) -> int:
        return len(self._sets)

    # -- one node after another

    def _add(self, unit: Unit) -> None:
        node = unit.node
        follow = None if unit.reason is not None else self._rule(node)
        if unit.least not in (-math.inf, 0.0) or unit.most <= 0.0:
            follow = None
        if follow is None or not follow(node):
            for value in node.inputs:
                self._fix(value)
            self._fix_whole(node.output)

    def _rule(self, node: Node) -> Callable[[Node], bool] | None:
        kind = kind_of(node)
        if kind in ("conv", "linear") or is_transposed(node):
            return self._product
        rules: dict[str, Callable[[Node], bool]] = {
            "concatenate": self._moved,
            "add": self._summed,
            "subtract": self._summed,
            "multiply": self._gated,
            "mean": self._by_channel,
            "pool": self._by_channel,
            "adaptive_pool": self._by_channel,
            "prelu": self._same,
            "constant": self._scaled,
        }
        if kind in rules:
            return rules[kind]
        if kind.startswith("aten upsample_bilinear2d."):
            return self._by_channel
        if kind in HOMOGENEOUS:
            return self._same
        return self._moved if kind in MOVES else None

    def _product(self, node: Node) -> bool:
        if any(self._shared[name] > 1 for name in node.tensors.values()):
            return False
        read, written = node.inputs[0], node.output
        self._one_a_channel(read, _dim(node, self._of[read]))
        shape = self._facts.forms[written].shape
        dim = 1 if node.kind != "linear" else len(shape) - 1
        fresh = self._sets.more(shape[dim])
        self._of[written] = fresh.view(-1, *(1,) * (len(shape) - 1 - dim)).expand(*(1, *shape[1:]))
        return True

    def _moved(self, node: Node) -> bool:
        """Zeros that padding adds become `ANY`."""
        if node.kind == "pad" and number(node, "value") != 0.0:
            return False
        given = [(self._of[value] + 1).float() for value in node.inputs]
        self._of[node.output] = step_of(node, self._facts.tensors, CPU)(*given).long() - 1
        return True

    def _by_channel(self, node: Node) -> bool:
        read = self._of[node.inputs[0]]
        if node.kind == "mean" and 1 in [dim % read.ndim for dim in integers(node, "dims")]:
            return False
        channels = self._one_a_channel(node.inputs[0], 1)
        shape = self._facts.forms[node.output].shape
        self._of[node.output] = channels.view(-1, *(1,) * (len(shape) - 2)).expand(1, *shape[1:])
        return True

    def _same(self, node: Node) -> bool:
        self._of[node.output] = self._of[node.inputs[0]]
        return True

    def _scaled(self, node: Node) -> bool:
        return node.attrs["operation"] != "add" and self._same(node)

    def _summed(self, node: Node) -> bool:
        shape = self._facts.forms[node.output].shape[1:]
        a, b = (self._of[value].expand(1, *shape) for value in node.inputs)
        for one, other in torch.unique(torch.stack([a, b]).flatten(1), dim=1).T.tolist():
            if one != ANY and other != ANY:
                self._sets.join(one, other)
        self._of[node.output] = torch.maximum(a, b)
        return True

    def _gated(self, node: Node) -> bool:
        """One factor keeps its scale, so that the result has the other's: the smaller one."""
        a, b = node.inputs
        fixed = [not bool((self._roots(value) > FIXED).any()) for value in (a, b)]
        gate = b if fixed[1] or (not fixed[0] and self._of[b].numel() <= self._of[a].numel()) else a
        self._fix(gate)
        kept = a if gate == b else b
        self._of[node.output] = self._of[kept].expand(1, *self._facts.forms[node.output].shape[1:])
        return True

    # -- classes

    def _roots(self, value: int) -> Tensor:
        return torch.tensor(
            [self._sets.root(one) for one in torch.unique(self._of[value]).tolist() if one != ANY] or [FIXED]
        )

    def _fix(self, value: int) -> None:
        for one in torch.unique(self._of[value]).tolist() if value in self._of else ():
            if one != ANY:
                self._sets.join(FIXED, one)

    def _fix_whole(self, value: int) -> None:
        self._of[value] = torch.tensor(FIXED).expand(1, *self._facts.forms[value].shape[1:])

    def _one_a_channel(self, value: int, dim: int) -> Tensor:
        """The classes of channels, where all numbers of a channel are in one from now on."""
        rows = self._of[value].movedim(dim, 0).flatten(1)
        found = rows.amax(1)
        for channel in (rows != found[:, None]).any(1).nonzero().flatten().tolist():
            for one in torch.unique(rows[channel]).tolist():
                if one != ANY:
                    self._sets.join(int(found[channel]), one)
        return found


HOMOGENEOUS = ("relu", "leaky_relu", "aten relu.default", "aten leaky_relu.default", "aten abs.default")
MOVES = (
    *("flatten", "reshape", "permute", "pad", "slice", "aten pixel_shuffle.default"),
    *("aten upsample_nearest2d.vec", "aten upsample_nearest2d.default"),
)


def _dim(node: Node, x: Tensor) -> int:
    """Along which dimension a product reads channels."""
    return x.ndim - 1 if node.kind == "linear" else 1


def with_channel_scales(
    facts: Facts, units: Sequence[Unit], batches: Sequence[Sequence[Tensor]], strength: float
) -> Facts:
    """The network with the ranges of its values' channels nearer to one, which computes the same but for roundings.

    strength: above 0 up to 1; the divisors are (r / R)^strength. Raises: ValueError for another.
    """
    if not 0.0 < strength <= 1.0:
        raise ValueError(f"quantize: channel_scales must lie above 0 and up to 1; got {strength!r}")
    classes = Classes(facts, units)
    divisors = _divisors(facts, units, classes, batches, strength)
    tensors = dict(facts.tensors)
    for unit in units:
        node = unit.node
        if unit.reason is not None or not (node.kind in ("conv", "linear") or is_transposed(node)):
            continue
        before = divisors[classes.channels(node.inputs[0], _dim(node, classes.of(node.inputs[0])))]
        after = divisors[classes.channels(node.output, _dim(node, classes.of(node.output)))]
        if bool((before == 1).all() and (after == 1).all()):
            continue
        scaled = _scaled(product_of(node, facts.tensors), before, after, _groups(node))
        renamed, own = with_numbers(node, facts.tensors, scaled)
        tensors |= {node.tensors[role]: own[name] for role, name in renamed.tensors.items()}
    return replace(facts, tensors=tensors)


def _scaled(product: Product, before: Tensor, after: Tensor, groups: int) -> Product:
    weight = product.weight.double()
    by_group = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    by_group = by_group * before.view(groups, 1, weight.shape[1], 1)
    rows = by_group.reshape(weight.shape) / after.view(-1, *(1,) * (weight.ndim - 1))
    return Product(rows.float(), (product.bias.double() / after).float())


def _groups(node: Node) -> int:
    if is_transposed(node):
        given = transposed_arguments(node)
        assert given is not None
        return int(given["groups"])
    return integer(node, "groups") if node.kind == "conv" else 1


def _divisors(
    facts: Facts, units: Sequence[Unit], classes: Classes, batches: Sequence[Sequence[Tensor]], strength: float
) -> Tensor:
    """Of each class, float64."""
    outputs = {unit.output: unit for unit in units if unit.reason is None}
    places = {value: classes.of(value).flatten() for value in outputs}
    ranges = torch.zeros(len(classes), dtype=torch.float64)

    def look(value: int, x: Any) -> None:
        if value in places:
            ranges.scatter_reduce_(0, places[value], x.detach().abs().flatten(1).amax(0).double(), "amax")

    for inputs in batches:
        walk(facts, inputs, look)
    most = torch.full_like(ranges, math.inf)
    together = _Sets(len(classes))
    for value, unit in outputs.items():
        here = torch.unique(places[value])
        most[here] = most[here].clamp(max=unit.most)
        free = here[here != FIXED].tolist()
        for one in free[1:]:
            together.join(free[0], one)
    divisors = torch.ones_like(ranges)
    for members in together.members():
        own, limits = ranges[members], most[members]
        goal = float(torch.minimum(own, limits).amax())
        if goal <= 0.0 or FIXED in members:
            continue
        found = torch.where(own > 0.0, (own / goal).clamp(min=LEAST_DIVISOR), 1.0) ** strength
        limited = torch.maximum(found.clamp(max=1.0), own / limits).clamp(max=1.0)
        divisors[members] = torch.where(limits < math.inf, limited, found)
    return divisors
