# SPDX-License-Identifier: Apache-2.0
"""How many times fewer bits and operations a network takes, by counting.

    OM_comp = sqrt( ( E[r_c]^2 + E[r_s]^2 ) / 2 )
    r_c = bits of the twin / bits stored,   r_s = operations of the twin / (BMAC / 64 + FMAC)

E is the mean over tasks and networks. Bits are those of `bittern.nn.summary`: one a weight of a low-bit layer, 32 a
real number; 64 products of signs count as one operation.
Derivation: BiBench (arXiv 2301.11233) has r_c = |M| / ((|M| - |M'|) / 32 + |M'|) and r_s = F / ((F - F') / 64 + F'),
where M' and F' stay in full precision (from memory; its text was not at hand). With |M| and F of the twin these are the
ratios above, but for what a method adds: scales, thresholds and slopes are counted here as stored.
Differences: an operation is a multiply-accumulate, as `summary` says; what it does not count (norms, activations,
pooling) counts in neither network. What stays real is in each trial's notes, and layer by layer in layers.json.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from bittern.bench.core.training import fresh
from bittern.bench.tracks import artefacts
from bittern.bench.tracks.overall import beside_twins, complete, quadratic_mean, times_less
from bittern.bench.tracks.planning import cells
from bittern.bench.tracks.problem import Problem, find
from bittern.bench.tracks.problems import PROBLEMS
from bittern.bench.trials.track import Choice, Plan, Track, Work
from bittern.bench.trials.trial import TWIN, Done, Result, Trial
from bittern.nn.summary import Report, SummaryRow, summary

BITS, OPS = "stored_bits", "ops"
MOST_NAMED = 8
"""Layers that a note names."""


class TheoreticalComplexity(Track):
    """Counts each network with each method; nothing is trained, and no data are needed."""

    name = "theoretical_complexity"
    title = "Theoretical complexity"
    question = "How many bits and operations are saved by counting, and what stays real?"
    metric = OPS
    higher_is_better = False

    def __init__(self, problems: Sequence[Problem] = PROBLEMS) -> None:
        self.problems = tuple(problems)

    def plan(self, choice: Choice) -> Plan:
        found = cells(self.problems, choice, lambda problem: tuple(problem.networks), needs_data=False)
        return Plan(untrained(self.name, found.found, choice), found.dropped)

    def run(self, trial: Trial, work: Work) -> Result:
        problem = find(self.problems, trial.task)
        method = None if trial.method == TWIN else work.methods[trial.method]
        network = problem.network(trial.network)
        report = summary(fresh(lambda: network.build(method), trial.seed), problem.inputs(1))
        metrics = {
            BITS: 8.0 * report.bytes,
            OPS: report.ops,
            "binary_products": float(report.bmac),
            "real_products": float(report.fmac),
            "binary_weights": float(report.binary_params),
            "real_numbers": float(report.float_params),
        }
        files = {artefacts.LAYERS: artefacts.layers_json(report)}
        return Result(metrics, artefacts=files, notes=() if method is None else _stays_real(report))

    def overall(self, done: Sequence[Done]) -> Mapping[str, float]:
        bits, ops = (complete(beside_twins(done, self.name, times_less(metric))) for metric in (BITS, OPS))
        return {
            method: quadratic_mean(statistics.fmean(places.values()) for places in (bits[method], ops[method]))
            for method in bits
            if method in ops
        }


def untrained(track: str, found: Sequence[tuple[Problem, tuple[str, ...]]], choice: Choice) -> tuple[Trial, ...]:
    """Every network with the twin and each method, without epochs, seeds and recipes."""
    return tuple(
        Trial(track, problem.name, network, method, "", 0, 0).having(**dict(problem.settings))
        for problem, networks in found
        for network in networks
        for method in (TWIN, *choice.methods)
    )


def _stays_real(report: Report) -> tuple[str, ...]:
    """Layers with products of real numbers, and what else is stored in 32 bits."""
    real = sorted((row for row in report.rows if row.fmac), key=lambda row: -row.fmac)
    named = ", ".join(_words(row) for row in real[:MOST_NAMED])
    more = f", and {len(real) - MOST_NAMED} more" if len(real) > MOST_NAMED else ""
    others = sum(row.float_params for row in report.rows if not row.fmac)
    return (
        f"Stays real: {named or 'no product'}{more}.",
        f"Norms, biases, scales, thresholds and slopes elsewhere are {others:,} real numbers.",
        *report.notes,
    )


def _words(row: SummaryRow) -> str:
    return f"{row.name or '(model)'} ({row.kind}, {row.fmac:,} products, {row.float_params:,} numbers)"
