# SPDX-License-Identifier: Apache-2.0
"""Comparing a program that another runtime runs with the packed model, part by part.

A runtime rounds sums in another order than torch. A real value that lies within such a rounding of a threshold may then
get the other sign, after which everything behind it differs without anything being wrong. So every part is compared on
the very inputs that the runtime gave it: low-bit parts must be equal bit for bit, and real parts must lie within
64 * sqrt(n) * eps * max (docs/numerics.md), n the number of terms summed since the last low-bit part. How far the two
models are apart end to end is reported beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.kinds.kind import Step, integer, integers
from bittern.deploy.program import Node, Program
from bittern.deploy.structure import named
from bittern.deploy.verify_report import LayerReport

Value = Any
"""A tensor; a tuple of tensors (bit planes, several results); a dict of tensors by name."""


class Part(NamedTuple):
    """One node, and what the packed model computes there."""

    node: Node
    tensors: Mapping[str, Tensor]
    """By role."""
    step: Step
    low_bit: bool
    """Whether it is integers, or ends with a fixed order of roundings: then it is exact on every device."""


class RealReport(NamedTuple):
    """One real part, up to a value that a low-bit part reads, or to the logits."""

    name: str
    max_difference: float
    tolerance: float

    def share(self) -> float:
        """The difference as a share of what is allowed."""
        return self.max_difference / (self.tolerance or 1)


@dataclass(frozen=True)
class RuntimeReport:
    """How a program that another runtime runs compares with the packed model."""

    layers: tuple[LayerReport, ...]
    """Low-bit parts on the inputs that the runtime gave them; "accumulators" counts words for signs."""
    real: tuple[RealReport, ...]
    samples: int
    signs: int
    """Words of packed signs in all layers, end to end."""
    signs_different: int
    """How many of them the rounding of real parts changed."""
    max_difference: float
    """Largest absolute difference of a logit, end to end."""
    max_logit: float
    answers_different: int
    """Samples whose largest logit is another one."""
    probe_identical: bool = True
    """Whether the program that gave its values away has the logits of the one that is written."""
    answer: tuple[Tensor, ...] = ()
    """What the program that was compared gave."""
    sizes: tuple[str, ...] = ()
    """At which sizes it was compared, of those that a call chooses."""

    @property
    def agrees(self) -> bool:
        """All low-bit parts are equal, all real ones within their tolerance."""
        within = all(part.max_difference <= part.tolerance for part in self.real)
        return within and self.probe_identical and not any(layer.different for layer in self.layers)

    def beside(self, answer: Iterable[Tensor]) -> RuntimeReport:
        """This report, if the written program gives this answer too."""
        pairs = zip(self.answer, answer, strict=True)
        same = all(torch.equal(own.nan_to_num(), other.nan_to_num()) for own, other in pairs)
        return replace(self, probe_identical=same)

    def at(self, sizes: str) -> RuntimeReport:
        """This report, of inputs of these sizes."""
        return replace(self, sizes=(sizes,))

    def with_more(self, other: RuntimeReport) -> RuntimeReport:
        """This report and one of the same program on other inputs, as one."""
        layers = (
            LayerReport(own.name, own.accumulators + more.accumulators, own.different + more.different)
            for own, more in zip(self.layers, other.layers, strict=True)
        )
        real = (max(pair, key=RealReport.share) for pair in zip(self.real, other.real, strict=True))
        return RuntimeReport(
            tuple(layers),
            tuple(real),
            self.samples + other.samples,
            self.signs + other.signs,
            self.signs_different + other.signs_different,
            max(self.max_difference, other.max_difference),
            max(self.max_logit, other.max_logit),
            self.answers_different + other.answers_different,
            self.probe_identical and other.probe_identical,
            sizes=self.sizes + other.sizes,
        )

    def __str__(self) -> str:
        wrong = [layer for layer in self.layers if layer.different]
        worst = max(self.real, key=RealReport.share, default=None)
        lines = [
            f"agrees: {'yes' if self.agrees else 'NO'}",
            f"low-bit parts: {len(self.layers)}, {sum(layer.accumulators for layer in self.layers)} integers and "
            f"floats, {sum(layer.different for layer in wrong)} different",
        ]
        lines += [f"  layer {layer.name!r}: {layer.different} of {layer.accumulators} differ" for layer in wrong]
        if worst is not None:
            lines.append(
                f"real parts: {len(self.real)}, worst {worst.name!r}: {worst.max_difference:.3g} "
                f"(allowed {worst.tolerance:.3g})"
            )
        lines.append(
            f"end to end: {self.signs_different} of {self.signs} words of signs differ, logits by "
            f"{self.max_difference:.3g} (largest {self.max_logit:.3g}), "
            f"{self.answers_different} of {self.samples} answers"
        )
        if self.sizes:
            lines.append(f"compared at {'; '.join(self.sizes)}")
        if not self.probe_identical:
            lines.append("the program that was compared gives other logits than the one to be written")
        return "\n".join(lines)


def watched(program: Program, parts: Sequence[Part]) -> tuple[int, ...]:
    """Values that low-bit parts read or write, in order; the inputs and the result are known anyway."""
    found: dict[int, None] = {}
    for part in parts:
        if part.low_bit:
            found |= dict.fromkeys((*part.node.inputs, part.node.output))
    return tuple(v for v in found if v >= len(program.inputs) and v != program.output)


def compare(program: Program, parts: Sequence[Part], given: Mapping[int, Value]) -> RuntimeReport:
    """Compare what a runtime gave, the inputs, the result and the values `watched`, with the packed model."""
    inputs = [given[value] for value in range(len(program.inputs))]
    own = _run(parts, inputs)
    layers, real = _compare_parts(parts, given, len(inputs))
    signs = [v for v in watched(program, parts) if isinstance(own[v], tuple)]
    expected, answer = tensors_of(own[program.output]), tensors_of(given[program.output])
    return RuntimeReport(
        tuple(layers),
        tuple(real),
        program.batch_of(inputs),
        sum(_count(own[v]) for v in signs),
        sum(_different(own[v], given[v]) for v in signs),
        _gap(expected, answer),
        _largest(expected),
        _other_answers(expected, answer, program.batch_of(inputs)),
        answer=answer,
    )


def bit_planes(program: Program, value: int) -> int:
    """How many bit planes a value has; 0 for one that is no bits."""
    node = program.producer(value)
    if node is None or node.kind not in ("encode", "threshold", "pool_bits", "concatenate_bits"):
        return 0
    return integer(node, "planes") if node.kind == "encode" else bit_planes(program, node.inputs[0]) or 1


def tensors_of(value: Value) -> tuple[Tensor, ...]:
    """The tensors of a value."""
    return tuple((named(value) or {}).values())


def _run(parts: Sequence[Part], inputs: Sequence[Tensor]) -> dict[int, Value]:
    """Every value of a program, by the packed model's own steps."""
    values: dict[int, Value] = dict(enumerate(inputs))
    for part in parts:
        values[part.node.output] = part.step(*(values[v] for v in part.node.inputs))
    return values


def _other_answers(a: tuple[Tensor, ...], b: tuple[Tensor, ...], samples: int) -> int:
    """Samples for which the largest number of any result [batch, ...] is another one."""
    changed = [
        m.flatten(1).argmax(1) != n.flatten(1).argmax(1)
        for m, n in zip(a, b, strict=True)
        if m.shape == n.shape and m.ndim > 1 and len(m) == samples and m.numel() and m.is_floating_point()
    ]
    return int(torch.stack(changed).any(0).sum()) if changed else 0


class _Real(NamedTuple):
    """A real value, and what went into it since the last low-bit part."""

    value: Value
    terms: int
    largest: float


def _compare_parts(
    parts: Sequence[Part], given: Mapping[int, Value], count: int
) -> tuple[list[LayerReport], list[RealReport]]:
    layers: list[LayerReport] = []
    real: list[RealReport] = []
    values = {value: _Real(given[value], 0, 0.0) for value in range(count)}
    for part in parts:
        node = part.node
        inputs = [values[v] for v in node.inputs]
        found = part.step(*(entry.value for entry in inputs))
        if part.low_bit:
            layers.append(LayerReport(node.name, _count(found), _different(found, given[node.output])))
        else:
            terms = sum(entry.terms for entry in inputs) + _terms(part, inputs[0].value, found)
            largest = max((_largest(found), *(max(entry.largest, _largest(entry.value)) for entry in inputs)))
            values[node.output] = _Real(found, terms, largest)
            if node.output in given:
                tolerance = 64 * math.sqrt(terms) * torch.finfo(torch.float32).eps * largest
                real.append(RealReport(node.name, _gap(found, given[node.output]), tolerance))
        if node.output in given:
            values[node.output] = _Real(given[node.output], 0, 0.0)
    return layers, real


def _terms(part: Part, x: Value, y: Value) -> int:
    """Numbers that one number of the result sums, at most."""
    node = part.node
    if "weight" in node.tensors and node.kind in ("conv", "linear"):
        return part.tensors["weight"][0].numel()
    if node.kind == "pool":
        return math.prod(integers(node, "kernel"))
    first, result = tensors_of(x)[0], tensors_of(y)[0]
    if node.kind in ("mean", "adaptive_pool"):
        return max(1, first.numel() // max(1, result.numel()))
    if node.kind in ("layer_norm", "softmax", "aten"):
        return max(1, first.numel() // max(1, len(result) if result.ndim else 1))
    return 1


def _count(value: Value) -> int:
    return sum(part.numel() for part in tensors_of(value))


def _different(a: Value, b: Value) -> int:
    """How many entries differ, bit for bit but for the sign of a zero."""
    pairs = zip(tensors_of(a), tensors_of(b), strict=True)
    return sum(int((m != n).sum()) if m.shape == n.shape else m.numel() for m, n in pairs)


def _largest(value: Value) -> float:
    """The largest size of a finite number."""
    sizes = (part.double().abs().nan_to_num(nan=0.0, posinf=0.0) for part in tensors_of(value))
    return max((float(size.max()) for size in sizes if size.numel()), default=0.0)


def _gap(a: Value, b: Value) -> float:
    """The largest difference; infinity where a shape, a type or a NaN differs."""
    return max((_distance(m, n) for m, n in zip(tensors_of(a), tensors_of(b), strict=True)), default=0.0)


def _distance(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    other = (a != b) & ~(a.isnan() & b.isnan())
    gap = float((a[other].double() - b[other].double()).abs().max()) if other.any() else 0.0
    return math.inf if math.isnan(gap) else gap
