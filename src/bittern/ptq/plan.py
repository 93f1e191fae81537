# SPDX-License-Identifier: Apache-2.0
"""Which nodes of a network run in integers, and why others do not.

Products ask for integers. Everything else follows what it reads: it runs in integers where one of its inputs is made of
them, so that no value goes to integers and back only to be moved. A minimum and a maximum behind a node become limits
of its result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from torch import Tensor

from bittern.deploy.form import Form
from bittern.deploy.kinds.results import RESULTS
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.program import Node, Program
from bittern.ptq.recurrent import State
from bittern.ptq.rule import Rule, kind_of
from bittern.ptq.rules import RULES


@dataclass(frozen=True)
class Facts:
    """A network of real nodes, and what is known of its values."""

    program: Program
    tensors: Mapping[str, Tensor]
    forms: Mapping[int, Form]
    states: Mapping[str, State] = field(default_factory=dict)
    """Of recurrent layers in integers, by name."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a node has no integers that one of its kind might have, by name."""


@dataclass(frozen=True)
class Unit:
    """A node with the limits that stand behind it."""

    node: Node
    output: int
    """The value behind its limits."""
    least: float = -math.inf
    most: float = math.inf
    fused: tuple[Node, ...] = ()
    """Nodes that are a minimum and a maximum, in its limits."""
    reason: str | None = None
    """Why it stays float; None: it runs in integers."""

    @property
    def rule(self) -> Rule:
        return RULES[kind_of(self.node)]

    @property
    def bounded(self) -> bool:
        return self.least > -math.inf or self.most < math.inf


def plan(facts: Facts, keep: Sequence[str]) -> tuple[Unit, ...]:
    """One unit for each node but those in the limits of others. Raises: ValueError for a pattern that fits no node."""
    check_patterns("keep", keep, [node.name for node in facts.program.nodes])
    reasons = _forward(facts, keep)
    _backward(facts, reasons)
    return tuple(_units(facts, reasons))


def check_patterns(option: str, patterns: Iterable[str], names: Sequence[str]) -> None:
    """Raises: ValueError for a pattern that fits no name."""
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            raise ValueError(
                f"quantize: {option}: {pattern!r} names no layer; there are {', '.join(map(repr, names[:12]))}, ..."
            )


def matches(name: str, pattern: str) -> bool:
    """Whether a name, or the module that it lies in, fits a pattern with * and ?."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[: count + 1]), pattern) for count in range(len(parts)))


def _forward(facts: Facts, keep: Sequence[str]) -> dict[int, str | None]:
    """By value: why its node stays float, with what it reads in view."""
    reasons: dict[int, str | None] = {}
    for value, given in enumerate(facts.program.inputs):
        reasons[value] = None if facts.forms[value].type == "real" and given.batch == 0 else "it is no real number"
    for node in facts.program.nodes:
        if node.kind != RESULTS.name:
            reasons[node.output] = _reason(facts, node, keep, reasons)
    return reasons


def _reason(facts: Facts, node: Node, keep: Sequence[str], reasons: Mapping[int, str | None]) -> str | None:
    kept = next((pattern for pattern in keep if matches(node.name, pattern)), None)
    if kept is not None:
        return f"keep={kept!r}"
    rule = RULES.get(kind_of(node))
    if rule is None and node.name in facts.reasons:
        return facts.reasons[node.name]
    if rule is None:
        if KINDS[node.kind].low_bit:
            return "its numbers have few bits already"
        return FLOAT_BY_NATURE.get(node.kind, f"no integer kind computes {_called(node)}")
    for value in (*node.inputs, node.output):
        form = facts.forms[value]
        if form.type != "real" or not form.samples_first or len(form.shape) < 2:
            return "it reads or writes something else than real numbers [batch, ...]"
    problem = rule.problem(facts.forms, facts.tensors, node)
    if problem is not None:
        return problem
    if not rule.leads and all(reasons[value] is not None for value in node.inputs):
        return "what it reads is float"
    return None


FLOAT_BY_NATURE = {
    "layer_norm": "it divides each row by its own deviation, for which 8 bits have no range that is calibrated once",
}
"""Why kinds stay float that networks of integers often hold."""


def _called(node: Node) -> str:
    return str(node.attrs["operator"]) if node.kind == "aten" else node.kind


def _backward(facts: Facts, reasons: dict[int, str | None]) -> None:
    """Leave nodes float that stand between the inputs of the network and float layers alone."""
    rooted = set()
    for node in facts.program.nodes:
        if reasons.get(node.output, "") is None and (
            RULES[kind_of(node)].leads or any(value in rooted for value in node.inputs)
        ):
            rooted.add(node.output)
    for node in reversed(facts.program.nodes):
        if reasons.get(node.output, "") is not None or node.output in rooted:
            continue
        readers = facts.program.consumers(node.output)
        if not any(reasons.get(reader.output, "") is None for reader in readers):
            reasons[node.output] = "no layer of integers reads it"


def _units(facts: Facts, reasons: Mapping[int, str | None]) -> Iterator[Unit]:
    """Nodes with the limits behind them, in the order of the program."""
    program = facts.program
    taken: set[int] = set()
    for node in program.nodes:
        if node.kind == RESULTS.name or node.output in taken:
            continue
        unit = Unit(node, node.output, reason=reasons[node.output])
        if unit.reason is None and unit.rule.takes_limits:
            for clamp in _clamps(program, node, reasons):
                least, most = _clamp_of(clamp)
                ends = min(max(unit.least, least), most), max(min(unit.most, most), least)
                unit = replace(unit, output=clamp.output, least=ends[0], most=ends[1], fused=(*unit.fused, clamp))
                taken.add(clamp.output)
        yield unit


def _clamps(program: Program, node: Node, reasons: Mapping[int, str | None]) -> Iterator[Node]:
    reader = program.single_consumer(node.output)
    while reader is not None and KINDS[reader.kind].clamp is not None and reasons.get(reader.output, "") is None:
        yield reader
        reader = program.single_consumer(reader.output)


def _clamp_of(node: Node) -> tuple[float, float]:
    clamp = KINDS[node.kind].clamp
    assert clamp is not None
    return clamp(node)
