# SPDX-License-Identifier: Apache-2.0
"""`bittern bench optim-rules`: optimizers beside each other on the language tasks, each at a learning rate of its own.

The rate of a rule is searched with one seed on the training text without its last tenth, by the loss on that tenth, in
steps of a factor of the root of 10 from the rule's own default or another start, until the best one has a worse one on
both sides. Then every seed trains with it on the whole training text and is judged on the held-out text.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from bittern import optim
from bittern.bench.core.machine import Machine, this_machine
from bittern.bench.core.runner import Trial, run_trials
from bittern.bench.core.timing import torch_threads
from bittern.bench.optim.run import state_bytes
from bittern.bench.optim.training import Task, training_losses
from bittern.data.text import TextData
from bittern.train.modes import TwoModes, in_eval

FACTOR = math.sqrt(10)
MOST_RATES = 9
SEARCH_SEED = 1000
HELD_BACK = 0.1
"""Of the training text, while a rate is searched."""
MakeOptimizer = Callable[..., torch.optim.Optimizer]
"""(parameters, lr) -> optimizer."""


@dataclass(frozen=True)
class Rule:
    """An optimizer with its options; its learning rate is found."""

    name: str
    make: MakeOptimizer


@dataclass(frozen=True)
class RuleTask:
    """A training on a text; `task` makes it, so that a rate can be searched on a part of the text."""

    text: TextData
    task: Callable[[TextData], Task]

    def search(self) -> Task:
        """The same on the training text, whose end is held out."""
        cut = round(len(self.text.train) * (1 - HELD_BACK))
        return self.task(replace(self.text, train=self.text.train[:cut], held_out=self.text.train[cut:]))


@dataclass(frozen=True, slots=True)
class RuleRun:
    """One rule on one task: the rates that were tried, and the trainings with the best of them."""

    task: str
    metric: str
    steps: int
    rule: str
    rates: tuple[float, ...]
    losses: tuple[float | None, ...]
    """Of the text held back, by rate; None where a loss was not finite."""
    rate: float
    seeds: tuple[int, ...]
    values: tuple[float | None, ...]
    """Of the held-out text, by seed."""
    state_bytes: int


@dataclass(frozen=True, slots=True)
class RulesReport:
    """All runs."""

    command: str
    machine: Machine
    falling: bool
    runs: tuple[RuleRun, ...]

    def page(self) -> str:
        """The table with what it was measured by."""
        course = (
            "Rates fall to 0 along half a cosine, but for rules that average their weights instead, whose rates stay. "
            if self.falling
            else "Rates stay as they are. "
        )
        return (
            "# Optimizers beside each other\n\n"
            "Equal seeds mean equal initial weights and batches. The learning rate of each rule was searched with one "
            "further seed on the training text without its last tenth, by the loss on that tenth, in steps of the root "
            f"of 10 until both neighbours were worse. {course}Further arguments are the defaults, and Nesterov's "
            "momentum of 0.9 for sgd, unless the name says otherwise. Schedule-free rules are judged by their average "
            "x, ASGD by `ax`.\n\n"
            f"{self.markdown()}\n"
            f"Command: `{self.command}`\n\nMachine: {self.machine}\n"
        )

    def markdown(self) -> str:
        """One line per task and rule."""
        lines = [
            "| task | steps | rule | rate | metric | mean over seeds | each seed | states |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for run in self.runs:
            found = [value for value in run.values if value is not None]
            mean = f"{statistics.mean(found):.3f}" if len(found) == len(run.values) else "diverged"
            each = ", ".join("diverged" if value is None else f"{value:.3f}" for value in run.values)
            lines.append(
                f"| {run.task} | {run.steps} | {run.rule} | {run.rate:.2g} | {run.metric} | {mean} | {each} | "
                f"{run.state_bytes / 1e6:.2f} MB |"
            )
        return "\n".join(lines) + "\n"


def search_rate(loss: Callable[[float], float | None], start: float) -> tuple[dict[float, float | None], float]:
    """(losses by rate, the best rate): from `start` in steps of FACTOR until the best has a worse one on both sides.

    loss: None for a rate that diverges. At most MOST_RATES are tried. Raises: ValueError if all diverge.
    """
    found: dict[int, float | None] = {}
    best = 0
    while len(found) < MOST_RATES:
        place = next((place for place in (best, best + 1, best - 1) if place not in found), None)
        if place is None:
            break
        found[place] = loss(start * FACTOR**place)
        best = min(found, key=lambda place: (_or_infinite(found[place]), place))
    if found[best] is None:
        raise ValueError(f"optim-rules: every rate from {start} on diverges; start the rule from another one")
    return {start * FACTOR**place: found[place] for place in sorted(found)}, start * FACTOR**best


def train(task: Task, rule: Rule, rate: float, seed: int, falling: bool) -> tuple[float | None, int]:
    """(the metric, None where a loss is not finite; bytes of the states). Everything random comes from `seed`."""
    torch.manual_seed(seed)
    model = task.make_model()
    optimizer = rule.make(model.parameters(), lr=rate)
    averages = isinstance(optimizer, TwoModes | optim.ASGD)
    schedule = CosineAnnealingLR(optimizer, task.steps) if falling and not averages else None
    draw = torch.Generator().manual_seed(seed)
    for loss in training_losses(model, optimizer, lambda: task.batch(draw), task.steps, schedule):
        if not math.isfinite(loss):
            return None, state_bytes(optimizer)
    model.eval()
    with torch.no_grad(), in_eval(optimizer), averaged(optimizer, model):
        value = task.evaluate(model)
    return (value if math.isfinite(value) else None), state_bytes(optimizer)


@contextmanager
def averaged(optimizer: torch.optim.Optimizer, model: nn.Module) -> Iterator[None]:
    """ASGD's average in place of the weights; nothing for others."""
    kept: list[tuple[Tensor, Tensor]] = []
    if isinstance(optimizer, optim.ASGD):
        for p in model.parameters():
            if "ax" in optimizer.state[p]:
                kept.append((p.detach(), p.detach().clone()))
                p.detach().copy_(optimizer.state[p]["ax"])
    yield
    for weight, value in kept:
        weight.copy_(value)


def compare(where: RuleTask, rule: Rule, seeds: Sequence[int], falling: bool) -> RuleRun:
    """The search of a rate and the trainings with it."""
    search, task = where.search(), where.task(where.text)
    tried, rate = search_rate(lambda rate: train(search, rule, rate, SEARCH_SEED, falling)[0], _default_rate(rule))
    results = [train(task, rule, rate, seed, falling) for seed in seeds]
    return RuleRun(
        task.name.rpartition(",")[0],
        task.metric,
        task.steps,
        rule.name,
        tuple(tried),
        tuple(tried.values()),
        rate,
        tuple(seeds),
        tuple(value for value, _ in results),
        max(count for _, count in results),
    )


def run(
    tasks: Sequence[RuleTask],
    rules: Sequence[Rule],
    *,
    command: str,
    out: Path,
    seeds: Sequence[int] = (0, 1, 2),
    falling: bool = False,
    threads: int = 1,
    on_run: Callable[[RuleRun], None] | None = None,
) -> RulesReport:
    """Every rule on every task; `out` (JSON) and its page are written after each, and a later call goes on.

    Raises: OSError; what `run_trials` raises for an `out` that cannot be continued.
    """
    with torch_threads(threads):
        trials = []
        for where in tasks:
            task = where.task(where.text)
            for rule in rules:
                key = (task.name.rpartition(",")[0], task.steps, rule.name, tuple(seeds))
                trials.append(Trial(key, partial(compare, where, rule, seeds, falling)))
        fresh = RulesReport(command, this_machine(), falling, ())
        return run_trials("bench optim-rules", out, fresh, trials, _key, on_run=on_run)


def _key(run: RuleRun) -> tuple[str, int, str, tuple[int, ...]]:
    return run.task, run.steps, run.rule, run.seeds


def _default_rate(rule: Rule) -> float:
    rate = signature(rule.make).parameters["lr"].default
    return float(rate)


def _or_infinite(loss: float | None) -> float:
    return math.inf if loss is None else loss
