# SPDX-License-Identifier: Apache-2.0
"""`bittern bench optim-curvature`: what few bits do to a quadratic with unlike curvatures, and to rare gradients.

Quadratic: 1/2 sum d x^2 over 4,096 curvatures d from 1e-3 to 10 in any order, from x = 1, so that gradients of unlike
size share blocks. Without noise it shows whether the small ones are still seen; with noise in the gradients the loss at
the end is the noise floor, which grows with the steps that the optimizer really takes: one below that of 32 bits means
smaller steps, not better training. Zipf: an embedding whose rows get gradients as often as words do, and the share of
all 2,000 words that its layer tells apart afterwards.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from bittern import optim
from bittern.bench.core.machine import Machine, this_machine
from bittern.bench.core.runner import Trial, run_trials
from bittern.bench.core.timing import torch_threads
from bittern.bench.optim.training import STORAGES, training_losses

CURVATURES = 4096
"""As many as have states in few bits by default."""
NOISE = 0.1
WORDS, WIDTH, CLASSES, BATCH = 2000, 32, 50, 64


@dataclass(frozen=True, slots=True)
class CurvatureRun:
    """One training."""

    task: str
    storage: str
    seed: int
    value: float
    """Loss at the end, or share in [0, 1] of words that are told apart."""


@dataclass(frozen=True, slots=True)
class CurvatureReport:
    """All trainings."""

    command: str
    machine: Machine
    steps: int
    runs: tuple[CurvatureRun, ...]

    def page(self) -> str:
        """The table with what it was measured by."""
        about = " ".join(str(__doc__).split("\n\n")[1].split())
        return (
            "# Optimizer states and unlike curvatures\n\n"
            f"{about}\n\n"
            f"AdamW without decay; {self.steps:,} steps with rate 1e-3, for Zipf {_zipf_steps(self.steps):,} with "
            "3e-3. Mean and standard deviation over the seeds.\n\n"
            f"{self.markdown()}\n"
            "To nearest codes, a square that falls by 0.1 % a step never reaches the next code: with 4 bits it keeps "
            "the order of the first steps, and with 8 bits it stays too large, which makes the steps of such elements "
            "too small. Rounded at random, squares and means are right on average; of 8 bits the squares are, where "
            "`stochastic` stands.\n\n"
            f"Command: `{self.command}`\n\nMachine: {self.machine}\n"
        )

    def markdown(self) -> str:
        """One line per storage, one column per task."""
        tasks = list(dict.fromkeys(run.task for run in self.runs))
        lines = [f"| state bits | {' | '.join(tasks)} |", "|---|" + "--:|" * len(tasks)]
        for storage in STORAGES:
            cells = [_cell([r.value for r in self.runs if (r.task, r.storage) == (task, storage)]) for task in tasks]
            lines.append(f"| {storage} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4g}{spread}"


def quadratic(noise: float, storage: str, seed: int, steps: int) -> float:
    """The loss after so many steps; noise: standard deviation of what is added to the gradients."""
    draw = torch.Generator().manual_seed(seed)
    curvature = torch.logspace(-3, 1, CURVATURES)[torch.randperm(CURVATURES, generator=draw)]
    x = nn.Parameter(torch.ones(CURVATURES))
    optimizer = optim.AdamW([x], lr=1e-3, weight_decay=0.0, **STORAGES[storage])
    for _ in range(steps):
        x.grad = curvature * x.detach()
        if noise:
            x.grad += noise * torch.randn(CURVATURES, generator=draw)
        optimizer.step()
    return float(0.5 * (curvature * x.detach().square()).sum())


def zipf(storage: str, seed: int, steps: int) -> float:
    """The share of words whose class is recognized after so many steps."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, CLASSES))
    optimizer = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0, **STORAGES[storage])
    draw = torch.Generator().manual_seed(1 + seed)
    chance = 1.0 / torch.arange(1, WORDS + 1)
    classes = torch.randint(0, CLASSES, (WORDS,), generator=draw)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        words = torch.multinomial(chance, BATCH, replacement=True, generator=draw)
        return words, classes[words]

    for _ in training_losses(model, optimizer, batch, steps):
        pass
    with torch.no_grad():
        return float((model(torch.arange(WORDS)).argmax(1) == classes).float().mean())


def _zipf_steps(steps: int) -> int:
    return max(1, steps * 3 // 8)


def tasks(steps: int) -> dict[str, Callable[[str, int], float]]:
    """(storage, seed) -> value, by the title of the column."""
    return {
        "quadratic": lambda storage, seed: quadratic(0.0, storage, seed, steps),
        f"quadratic, noise {NOISE:g}": lambda storage, seed: quadratic(NOISE, storage, seed, steps),
        "Zipf, accuracy": lambda storage, seed: zipf(storage, seed, _zipf_steps(steps)),
    }


def run(
    *,
    command: str,
    out: Path,
    steps: int = 4000,
    seeds: Sequence[int] = (0, 1, 2),
    threads: int = 1,
    on_run: Callable[[CurvatureRun], None] | None = None,
) -> CurvatureReport:
    """Every task with every storage and seed; `out` (JSON) and its page are written after each, a later call goes on.

    Raises: OSError; what `run_trials` raises for an `out` that cannot be continued.
    """

    def train(task: str, value: Callable[[str, int], float], storage: str, seed: int) -> CurvatureRun:
        return CurvatureRun(task, storage, seed, value(storage, seed))

    with torch_threads(threads):
        trials = [
            Trial((task, storage, seed), partial(train, task, value, storage, seed))
            for task, value in tasks(steps).items()
            for seed in seeds
            for storage in STORAGES
        ]
        fresh = CurvatureReport(command, this_machine(), steps, ())
        return run_trials("bench optim-curvature", out, fresh, trials, _key, on_run=on_run)


def _key(run: CurvatureRun) -> tuple[str, str, int]:
    return run.task, run.storage, run.seed
