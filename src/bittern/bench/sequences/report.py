# SPDX-License-Identifier: Apache-2.0
"""What `bittern bench sequences` measured, as a table and as a page."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from bittern.bench.core.machine import Machine
from bittern.bench.core.store import to_json
from bittern.nn._table import text_table

FLOAT = "float"
HEAD = ("network", "weights", "inputs", "perplexity", "deviation", "of float", "seeds")


@dataclass(frozen=True, slots=True)
class Setting:
    """What determines the figures, but for the seed."""

    text: str
    level: str
    vocabulary: int
    train_tokens: int
    test_tokens: int
    kind: str
    width: int
    layers: int
    tied: bool
    batch: int
    unroll: int
    epochs: int
    retrain_epochs: int
    learning_rate: float
    retrain_rate: float
    cycles: int
    """Of weights without training."""
    train_cycles: int
    """Of weights and inputs in training."""


@dataclass(frozen=True, slots=True)
class SequenceRun:
    """One network on the test text."""

    name: str
    weight_bits: int
    input_bits: int
    seed: int
    perplexity: float

    @property
    def key(self) -> tuple[str, int, int, int]:
        return self.name, self.weight_bits, self.input_bits, self.seed


@dataclass(frozen=True, repr=False, slots=True)
class SequenceReport:
    """All networks; `print(report)` shows the table."""

    command: str
    machine: Machine
    setting: Setting
    runs: tuple[SequenceRun, ...]

    def to_json(self) -> str:
        return to_json(self)

    def rows(self) -> list[tuple[str, ...]]:
        """Per kind of network: mean and deviation over seeds, and the mean of ratios to the float network's."""
        floats = {run.seed: run.perplexity for run in self.runs if run.name == FLOAT}
        found: dict[tuple[str, int, int], list[SequenceRun]] = {}
        for run in self.runs:
            found.setdefault(run.key[:3], []).append(run)
        rows = []
        for (name, weights, inputs), runs in found.items():
            values = [run.perplexity for run in runs]
            spread = f"{statistics.stdev(values):.2f}" if len(values) > 1 else "-"
            ratios = [run.perplexity / floats[run.seed] for run in runs if run.seed in floats]
            ratio = f"{statistics.mean(ratios):.3f}" if ratios else "-"
            bits = tuple("real" if b == REAL else str(b) for b in (weights, inputs))
            rows.append((name, *bits, f"{statistics.mean(values):.2f}", spread, ratio, str(len(runs))))
        return rows

    def __str__(self) -> str:
        return f"{text_table(HEAD, self.rows())}\n\n{_words(self.setting)}\n\n{self.machine}"

    __repr__ = __str__

    def page(self) -> str:
        lines = ["| " + " | ".join(HEAD) + " |", "|---|---|---|---:|---:|---:|---:|"]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows()]
        table = "\n".join(lines)
        return (
            f"# Recurrent language models of few bits\n\n{table}\n\n{_words(self.setting)}\n\n"
            f"Command: `{self.command}`\n\nMachine: {self.machine}\n"
        )


REAL = 32


def _words(s: Setting) -> str:
    """What was measured, in sentences."""
    weights = "tied to the embedding" if s.tied else "with a weight of its own"
    return (
        f"{s.kind.upper()}, {s.layers} layer(s) of {s.width}, output {weights}; {s.text} by {s.level}s, "
        f"{s.train_tokens:,} to train and {s.test_tokens:,} to test, a vocabulary of {s.vocabulary:,}. Perplexity of "
        "the test text, which no choice was made on. Without training: every matrix, the embedding too, row by row as "
        f"a sum of scaled signs (alternating: {s.cycles} cycles). Retrained: the products of the layers and of the "
        f"output with quantized weights and inputs ({s.train_cycles} cycles), {s.retrain_epochs} epoch(s) at a rate of "
        f"{s.retrain_rate:g} from the float network, which had {s.epochs} at {s.learning_rate:g}; Adam, half a cosine, "
        f"{s.batch} columns, {s.unroll} steps of backpropagation. The float network retrained alike stands beside "
        "them. A small text and a small network: figures of papers are of other ones."
    )
