# SPDX-License-Identifier: Apache-2.0
"""What each layer of a quantized network became, what it costs, and how far it is from the float network's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.few_bits import stored_bytes
from bittern.deploy.interpreter import step_of
from bittern.nn._table import text_table
from bittern.ptq.calibrate import walk
from bittern.ptq.fold import is_transposed
from bittern.ptq.grid import Grid
from bittern.ptq.matrices import is_matmul, macs_of
from bittern.ptq.plan import Facts, Unit
from bittern.ptq.products import product_of
from bittern.ptq.recurrent import is_recurrent
from bittern.ptq.rewrite import Written

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Row:
    """One layer: a node of the network with the limits behind it."""

    name: str
    kind: str
    """Of the real node; an operator of torch by its name."""
    weight_bits: int | None
    """None: it has no weight, or stays float."""
    input_bits: int | None
    """Of what it reads; None: it stays float."""
    low: float | None
    """The least real number of its result's grid; None: its result is float."""
    high: float | None
    scale: float | None
    zero: int | None
    noise_db: float
    """10 log10(sum y^2 / sum (y - q)^2), y the float network's result and q this one's; infinity: equal."""
    bytes: int
    """Of its numbers as the file stores them: weights of few bits take so many."""
    macs: int
    """Multiply-accumulates of one sample."""
    reason: str | None
    """Why it stays float; None: it runs in integers."""


class RoundedBlock(NamedTuple):
    """Layers whose rounding was learned together, and the mean squared error of what they give."""

    layers: tuple[str, ...]
    nearest_error: float
    """With weights rounded to the nearest."""
    error: float
    """As learned; the same where that was no less."""


class Spent(NamedTuple):
    """What a budget made of a network."""

    limit: str
    used: str
    """By all of the network."""
    bits: Mapping[str, int]
    """Of the weights of the layers that were free."""
    damages: Mapping[str, Mapping[int, float]]
    """Layer -> bits -> what the answers lose when its weights alone have so many: noise over signal."""
    score: float | None = None
    """What the metric of a floor gives; None: there was no floor."""
    float_score: float | None = None

    def __str__(self) -> str:
        scores = "" if self.score is None else f"; metric {self.score:g}, in float {self.float_score:g}"
        return f"budget: {self.used} of {self.limit}{scores}"


@dataclass(frozen=True)
class Report:
    """Rows in the order of the program; noise is measured on `samples` samples."""

    rows: tuple[Row, ...]
    samples: int
    rounded: tuple[RoundedBlock, ...] = ()
    """What was rounded together, where rounding was learned."""
    spent: Spent | None = None
    """What a budget made of it, where there was one."""

    @property
    def kept_float(self) -> tuple[Row, ...]:
        """Layers that stay float."""
        return tuple(row for row in self.rows if row.reason is not None)

    @property
    def integer_macs(self) -> float:
        """Share of the multiply-accumulates in integers: of convolutions, linear and recurrent layers, and matrices."""
        total = sum(row.macs for row in self.rows)
        return sum(row.macs for row in self.rows if row.reason is None) / total if total else 0.0

    @property
    def bytes(self) -> int:
        """Of all numbers as stored."""
        return sum(row.bytes for row in self.rows)

    @property
    def worst(self) -> tuple[Row, ...]:
        """Layers by what the noise is, the loudest first."""
        return tuple(sorted(self.rows, key=lambda row: row.noise_db))

    def __str__(self) -> str:
        heads = ("layer", "kind", "bits", "range", "signal/noise", "bytes", "MACs", "")
        body = [
            (row.name, row.kind, bits(row), span(row), decibels(row.noise_db), *counts(row), note(row))
            for row in self.rows
        ]
        table = f"{text_table(heads, body, right=(3, 4, 5, 6))}\n{self.summary}"
        if self.spent is not None:
            table = f"{table}\n{self.spent}"
        if not self.rounded:
            return table
        return f"{table}\n\n{text_table(ROUNDED_HEADS, [*map(rounded_cells, self.rounded)], right=(1, 2))}"

    @property
    def summary(self) -> str:
        """One line."""
        count = len(self.kept_float)
        kept = "none stays float" if not count else f"{count} stay{'s' if count == 1 else ''} float"
        return (
            f"{len(self.rows)} layers, {kept}; {self.integer_macs:.1%} of the multiply-accumulates in integers; "
            f"{self.bytes:,} bytes; signal to noise on {self.samples} samples"
        )

    def html(self, title: str = "Quantized network") -> str:
        """The same as one page that loads nothing."""
        from bittern.ptq.page import page

        return page(self, title)


ROUNDED_HEADS = ("rounded together", "error, nearest", "error, learned")


def rounded_cells(block: RoundedBlock) -> tuple[str, str, str]:
    return " + ".join(block.layers), f"{block.nearest_error:.3g}", f"{block.error:.3g}"


def bits(row: Row) -> str:
    if row.reason is not None:
        return "float"
    return f"W{row.weight_bits}A{row.input_bits}" if row.weight_bits is not None else f"A{row.input_bits}"


def span(row: Row) -> str:
    return "" if row.low is None or row.high is None else f"{row.low:.4g} ... {row.high:.4g}"


def decibels(noise: float) -> str:
    return "equal" if math.isinf(noise) and noise > 0 else f"{noise:.1f} dB"


def counts(row: Row) -> tuple[str, str]:
    """Bytes and multiply-accumulates."""
    return f"{row.bytes:,}", f"{row.macs:,}"


def note(row: Row) -> str:
    return f"float: {row.reason}" if row.reason is not None else ""


def measured(
    facts: Facts,
    units: Sequence[Unit],
    grids: Mapping[int, Grid],
    written: Written,
    weight_bits: Mapping[str, int],
    batches: Sequence[Sequence[Tensor]],
    rounded: tuple[RoundedBlock, ...] = (),
    spent: Spent | None = None,
) -> Report:
    """The report of a network on these inputs."""
    signal: dict[int, float] = {}
    noise: dict[int, float] = {}
    for inputs in batches:
        twins = _twins(units, grids, written, inputs)

        def compare(value: int, y: Any, twins: dict[int, Tensor] = twins) -> None:
            if value in twins:
                difference = (y.double() - twins.pop(value).double()).square().sum()
                signal[value] = signal.get(value, 0.0) + float(y.double().square().sum())
                noise[value] = noise.get(value, 0.0) + float(difference)

        walk(facts, inputs, compare)
    samples = sum(facts.program.batch_of(inputs) for inputs in batches)
    stored = stored_bytes(written.program, written.tensors)
    rows = [_row(facts, unit, grids, written, stored, weight_bits, signal, noise) for unit in units]
    return Report(tuple(row for row in rows if row is not None), samples, rounded, spent)


def _twins(
    units: Sequence[Unit], grids: Mapping[int, Grid], written: Written, inputs: Sequence[Tensor]
) -> dict[int, Tensor]:
    """The real numbers of each unit's result in the quantized network."""
    wanted: dict[int, list[int]] = {}
    for unit in units:
        integer = unit.reason is None
        place = (written.integers if integer and not unit.rule.real(unit.node) else written.reals)[unit.output]
        wanted.setdefault(place, []).append(unit.output)
    values: dict[int, Any] = dict(enumerate(inputs))
    found: dict[int, Tensor] = {}
    for node in written.program.nodes:
        y = values[node.output] = step_of(node, written.tensors, CPU)(*(values[v] for v in node.inputs))
        for value in wanted.get(node.output, ()):
            if isinstance(y, Tensor) and y.dtype in (torch.float32, torch.int8):
                found[value] = grids[value].reals(y) if y.dtype == torch.int8 else y
    return found


def _row(
    facts: Facts,
    unit: Unit,
    grids: Mapping[int, Grid],
    written: Written,
    stored: Mapping[str, int],
    weight_bits: Mapping[str, int],
    signal: Mapping[int, float],
    noise: Mapping[int, float],
) -> Row | None:
    node, integer = unit.node, unit.reason is None
    grid = grids[unit.output] if integer else None
    parts = written.parts.get(unit.output, ())
    names = {name for part in parts for name in part.tensors.values()}
    ends = (None, None) if grid is None else grid.range
    return Row(
        name=node.name,
        kind=" + ".join([_called(node.kind, node.attrs), *(clamp.kind for clamp in unit.fused)]),
        weight_bits=weight_bits.get(node.name) if integer else None,
        input_bits=max(grids[value].bits for value in node.inputs) if integer else None,
        low=ends[0],
        high=ends[1],
        scale=grid.scale if grid else None,
        zero=grid.zero if grid else None,
        noise_db=_ratio(signal.get(unit.output, 0.0), noise.get(unit.output, 0.0)),
        bytes=sum(stored[name] for name in names),
        macs=_macs(facts, unit),
        reason=unit.reason,
    )


def _called(kind: str, attrs: Mapping[str, Any]) -> str:
    return str(attrs["operator"]).split(".")[0] if kind == "aten" else kind


def _ratio(signal: float, noise: float) -> float:
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0.0 else -math.inf


RECURRENT = ("lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input")


def _macs(facts: Facts, unit: Unit) -> int:
    """Of a convolution, linear or recurrent layer, or product of matrices; padding counts."""
    node = unit.node
    if node.kind == "aten" and node.attrs["operator"] in RECURRENT:
        steps = facts.forms[node.inputs[0]].elements // facts.forms[node.inputs[0]].shape[-1]
        weights = (facts.tensors[name] for name in node.tensors.values())
        return steps * sum(weight.numel() for weight in weights if weight.ndim > 1)
    if is_matmul(node):
        return macs_of(node, facts.forms) if len(facts.forms[node.inputs[0]].shape) > 1 else 0
    if is_recurrent(node):
        sizes = [node.named(facts.tensors)[role].numel() for role in ("weight", "recurrent_weight")]
        return 0 if node.attrs["state"] else facts.forms[node.output].shape[1] * sum(sizes)
    if node.kind not in ("conv", "linear") and not is_transposed(node):
        return 0
    if is_transposed(node) and unit.reason is not None:
        return 0
    weight = product_of(node, facts.tensors).weight
    if is_transposed(node):  # each input number meets the weights of its group once
        return weight.numel() * math.prod(facts.forms[node.inputs[0]].shape[2:])
    return facts.forms[node.output].elements * weight[0].numel()
