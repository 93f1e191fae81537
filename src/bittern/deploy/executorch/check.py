# SPDX-License-Identifier: Apache-2.0
"""Comparing a `.pte` with the packed model, part by part.

XNNPACK rounds sums in another order than torch. A real value that lies within such a rounding of a threshold may then
get the other sign, after which everything behind it differs without anything being wrong. So every part is compared on
the very inputs that the `.pte` gave it: the low-bit parts must be equal bit for bit, and the real parts must lie within
64 * sqrt(n) * eps * max (docs/numerics.md), n the number of terms summed since the last low-bit part. How far the two
models are apart end to end is reported beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from bittern.deploy.executorch.lowering import CPU, LOWERINGS
from bittern.deploy.kinds.bits import Planes
from bittern.deploy.kinds.kind import Step, integers
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.packed import Packed
from bittern.deploy.program import Node, Program
from bittern.deploy.verify import LayerReport

Value = Tensor | Planes


class RealReport(NamedTuple):
    """One real part, up to a value that a low-bit part reads, or to the logits."""

    name: str
    max_difference: float
    tolerance: float


@dataclass(frozen=True)
class EdgeReport:
    """What `to_executorch` found."""

    layers: tuple[LayerReport, ...]
    """Low-bit parts on the inputs that the `.pte` gave them; "accumulators" counts words for signs."""
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
    logits: Tensor | None = None

    @property
    def agrees(self) -> bool:
        """All low-bit parts are equal, all real ones within their tolerance."""
        within = all(part.max_difference <= part.tolerance for part in self.real)
        return within and self.probe_identical and not any(layer.different for layer in self.layers)

    def beside(self, logits: Tensor) -> EdgeReport:
        """This report, if the written program has these logits."""
        return replace(self, probe_identical=self.logits is not None and torch.equal(self.logits, logits))

    def __str__(self) -> str:
        wrong = [layer for layer in self.layers if layer.different]
        worst = max(self.real, key=lambda part: part.max_difference / (part.tolerance or 1), default=None)
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
        if not self.probe_identical:
            lines.append("the program that was compared gives other logits than the one to be written")
        return "\n".join(lines)


def _is_low_bit(node: Node) -> bool:
    """Whether a part is exact on every device; the input scales that lowering splits off are no kind of a file."""
    return node.kind in KINDS and KINDS[node.kind].low_bit


def low_bit_values(program: Program) -> tuple[int, ...]:
    """Values that low-bit parts read or write, in order; the input and the result are known anyway."""
    found: dict[int, None] = {}
    for node in program.nodes:
        if _is_low_bit(node):
            found |= dict.fromkeys((*node.inputs, node.output))
    return tuple(v for v in found if v not in (0, program.output))


def check_program(packed: Packed, program: Program, batch: Tensor, logits: Tensor, values: list[Tensor]) -> EdgeReport:
    """Compare what a `.pte` gave for `batch`, its logits and then the values of `low_bit_values`, with the engine."""
    own = dict(_run(packed, program, batch))
    given = {0: batch, program.output: logits, **_grouped(program, own, values)}
    layers, real = _compare_parts(packed, program, given)
    signs = [v for v, value in own.items() if isinstance(value, tuple)]
    expected = own[program.output]
    assert isinstance(expected, Tensor)
    gap = float((expected - logits).abs().max()) if expected.shape == logits.shape else math.inf
    return EdgeReport(
        tuple(layers),
        tuple(real),
        len(batch),
        sum(_count(own[v]) for v in signs),
        sum(_different(own[v], given[v]) for v in signs),
        math.inf if math.isnan(gap) else gap,
        float(expected.abs().max()),
        int((expected.flatten(1).argmax(1) != logits.flatten(1).argmax(1)).sum()),
        logits=logits,
    )


def _steps(packed: Packed, program: Program) -> Iterator[tuple[Node, Step]]:
    for node in program.nodes:
        tensors = {role: packed.tensors[name] for role, name in node.tensors.items()}
        known = KINDS.get(node.kind)
        yield node, known.build(node, tensors, CPU) if known is not None else LOWERINGS[node.kind].call(node, tensors)


def _run(packed: Packed, program: Program, batch: Tensor) -> Iterator[tuple[int, Value]]:
    """Every value of a program, by the engine."""
    values: dict[int, Value] = {0: batch}
    for node, step in _steps(packed, program):
        values[node.output] = step(*(values[v] for v in node.inputs))
        yield node.output, values[node.output]


def _grouped(program: Program, own: Mapping[int, Value], values: list[Tensor]) -> dict[int, Value]:
    """Tensors by value: one a value, or one a bit plane."""
    rest, found = list(values), dict[int, Value]()
    for v in low_bit_values(program):
        value = own[v]
        if isinstance(value, Tensor):
            found[v] = rest.pop(0)
        else:
            found[v] = tuple(rest.pop(0) for _ in value)
    return found


class _Real(NamedTuple):
    """A real value, and what went into it since the last low-bit part."""

    value: Value
    terms: int
    largest: float


def _compare_parts(
    packed: Packed, program: Program, given: Mapping[int, Value]
) -> tuple[list[LayerReport], list[RealReport]]:
    layers: list[LayerReport] = []
    real: list[RealReport] = []
    values = {0: _Real(given[0], 0, 0.0)}
    for node, step in _steps(packed, program):
        inputs = [values[v] for v in node.inputs]
        found = step(*(entry.value for entry in inputs))
        if _is_low_bit(node):
            layers.append(LayerReport(node.name, _count(found), _different(found, given[node.output])))
        else:
            terms = sum(entry.terms for entry in inputs) + _terms(packed, node, inputs[0].value, found)
            largest = max(_largest(found), *(max(entry.largest, _largest(entry.value)) for entry in inputs))
            values[node.output] = _Real(found, terms, largest)
            if node.output in given:
                tolerance = 64 * math.sqrt(terms) * torch.finfo(torch.float32).eps * largest
                real.append(RealReport(node.name, _gap(found, given[node.output]), tolerance))
        if node.output in given:
            values[node.output] = _Real(given[node.output], 0, 0.0)
    return layers, real


def _terms(packed: Packed, node: Node, x: Value, y: Value) -> int:
    """Numbers that one number of the result sums."""
    assert isinstance(x, Tensor)
    assert isinstance(y, Tensor)
    if "weight" in node.tensors and node.kind in ("conv", "linear"):
        return packed.tensors[node.tensors["weight"]][0].numel()
    if node.kind == "pool":
        return math.prod(integers(node, "kernel"))
    if node.kind in ("mean", "adaptive_pool"):
        return max(1, x.numel() // max(1, y.numel()))
    if node.kind in ("layer_norm", "softmax"):
        return x[0].numel()
    return 1


def _parts(value: Value) -> Planes:
    return (value,) if isinstance(value, Tensor) else value


def _count(value: Value) -> int:
    return sum(part.numel() for part in _parts(value))


def _different(a: Value, b: Value) -> int:
    """How many entries differ, bit for bit but for the sign of a zero."""
    pairs = zip(_parts(a), _parts(b), strict=True)
    return sum(int((m != n).sum()) if m.shape == n.shape else m.numel() for m, n in pairs)


def _largest(value: Value) -> float:
    assert isinstance(value, Tensor)
    return float(value.abs().max()) if value.numel() else 0.0


def _gap(a: Value, b: Value) -> float:
    assert isinstance(a, Tensor)
    assert isinstance(b, Tensor)
    gap = float((a - b).abs().max()) if a.shape == b.shape else math.inf
    return math.inf if math.isnan(gap) else gap
