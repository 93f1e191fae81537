# SPDX-License-Identifier: Apache-2.0
"""`bittern bench optim-training`: the same trainings with optimizer states of 32, 8 and 4 bits.

Four tasks: a small GPT on characters (AdamW), an LSTM on words (Adam), ResNet-20 on images (AdamW, and SGD with
momentum). A task differs between its runs only in how states are stored and the seed; equal seeds mean
equal initial weights and batches. 32 bits are torch.optim's arithmetic in the same class.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from bittern import optim
from bittern.bench.core.machine import Machine, this_machine
from bittern.bench.core.runner import Trial, run_trials
from bittern.bench.core.timing import torch_threads
from bittern.bench.optim.curves import curves_svg
from bittern.bench.optim.run import state_bytes
from bittern.data.augment import normalize
from bittern.data.images import ImageData, channel_statistics
from bittern.data.text import TextData, windows
from bittern.models import resnet20_cifar
from bittern.models.language import GPT, GPTShape, LSTMLanguageModel

AT_RANDOM, NEAREST = "8, stochastic", "4, nearest"
STORAGES: dict[str, dict[str, Any]] = {
    "32": {"state_bits": 32},
    "8": {"state_bits": 8},
    AT_RANDOM: {"state_bits": 8, "state_rounding": "stochastic"},
    "4": {"state_bits": 4},
    NEAREST: {"state_bits": 4, "state_rounding": "nearest"},
}
"""Arguments of an optimizer by what the table calls them."""
CURVE_POINTS = 40
CURVES = "optimizers.svg"
"""Name of the drawing beside a page that names none."""
SMALL_GPT = GPTShape()
MakeOptimizer = Callable[..., torch.optim.Optimizer]
"""(parameters, **storage) -> optimizer."""


@dataclass(frozen=True)
class Task:
    """One training: everything but the storage of the states and the seed."""

    name: str
    metric: str
    """What `evaluate` returns."""
    steps: int
    make_model: Callable[[], nn.Module]
    make_optimizer: MakeOptimizer
    batch: Callable[[torch.Generator], tuple[Tensor, Tensor]]
    """Inputs and targets; logits [..., classes] and targets [...] go to the cross entropy."""
    evaluate: Callable[[nn.Module], float]
    cosine: bool = False
    """Whether the learning rate falls to 0 along half a cosine; else it stays."""
    storages: tuple[str, ...] = tuple(STORAGES)


@dataclass(frozen=True, slots=True)
class Run:
    """One training's result."""

    task: str
    metric: str
    storage: str
    seed: int
    value: float
    curve: tuple[float, ...]
    """Mean training loss over equal stretches of the steps."""
    state_bytes: int
    steps: int


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """All runs."""

    command: str
    machine: Machine
    runs: tuple[Run, ...]
    curves: str = CURVES
    """Name of the drawing beside the page."""

    def page(self) -> str:
        """The table with what it was measured by."""
        return (
            "# Trainings with optimizer states of 32, 8 and 4 bits\n\n"
            "Equal seeds mean equal initial weights and batches; only the storage of the states differs. 32 bits is "
            "torch.optim's arithmetic. 4 bits of squares are logarithmic, those of means relative to their roots, and "
            "both are rounded at random, and so is a momentum without a square, to entries of a table; "
            '"nearest" takes the nearest entries. 8 bits do so too; with "stochastic" their squares are rounded at '
            "random.\n\n"
            f"{self.markdown()}\n"
            "The LSTM reads the validation file of WikiText-2 (its last tenth is held out) with a vocabulary of 4,000 "
            "words; the learning rate of ResNet-20 falls to 0 along half a cosine. The lines below are training loss, "
            "thin per seed, thick their mean.\n\n"
            f"![training curves]({self.curves})\n\n"
            f"Command: `{self.command}`\n\nMachine: {self.machine}\n"
        )

    def markdown(self) -> str:
        """A table: one line per task and storage."""
        lines = [
            "| task | state bits | " + "metric | mean over seeds | standard deviation | difference to 32 bits | state |"
        ]
        lines.append("|---|---|---|---|---|---|---|")
        for task in dict.fromkeys(run.task for run in self.runs):
            values = {storage: self._values(task, storage) for storage in STORAGES}
            for storage, found in values.items():
                if not found:
                    continue
                some = next(run for run in self.runs if run.task == task and run.storage == storage)
                gap = statistics.mean(found) - statistics.mean(values["32"]) if values["32"] else 0.0
                spread = statistics.stdev(found) if len(found) > 1 else 0.0
                lines.append(
                    f"| {task} | {storage} | {some.metric} | {statistics.mean(found):.3f} | {spread:.3f} | "
                    f"{gap:+.3f} | {some.state_bytes / 1e6:.2f} MB |"
                )
        return "\n".join(lines) + "\n"

    def drawing(self) -> bytes:
        """The training curves, an SVG file."""
        tasks = tuple(dict.fromkeys(run.task for run in self.runs))
        curves = {
            task: {name: [r.curve for r in self.runs if (r.task, r.storage) == (task, name)] for name in STORAGES}
            for task in tasks
        }
        steps = {task: next(r.steps for r in self.runs if r.task == task) for task in tasks}
        return curves_svg({t: {b: c for b, c in found.items() if c} for t, found in curves.items()}, steps)

    def _values(self, task: str, storage: str) -> list[float]:
        return [run.value for run in self.runs if run.task == task and run.storage == storage]


def gpt_task(text: TextData, steps: int = 400, shape: GPTShape = SMALL_GPT, batch: int = 16) -> Task:
    """Characters, AdamW; metric: held-out loss in nats per character."""
    return Task(
        "GPT, characters, AdamW",
        "held-out loss, nats",
        steps,
        lambda: GPT(len(text.vocabulary), shape),
        partial(optim.AdamW, lr=1e-3, weight_decay=0.1),
        lambda draw: windows(text.train, shape.context, batch, draw),
        lambda model: held_out_loss(model, text.held_out, shape.context),
    )


def lstm_task(text: TextData, steps: int = 400, width: int = 128, context: int = 32, batch: int = 16) -> Task:
    """Words, Adam; metric: held-out loss in nats per word."""
    return Task(
        "LSTM, words, Adam",
        "held-out loss, nats",
        steps,
        lambda: LSTMLanguageModel(len(text.vocabulary), width),
        partial(optim.Adam, lr=2e-3),
        lambda draw: windows(text.train, context, batch, draw),
        lambda model: held_out_loss(model, text.held_out, context),
    )


def resnet_tasks(images: ImageData, steps: int = 600, batch: int = 64, test_images: int = 10_000) -> tuple[Task, ...]:
    """Images, AdamW, then SGD with momentum, falling learning rates; metric: test accuracy in percent."""
    mean, deviation = channel_statistics(images.train_images)

    def floats(x: Tensor) -> Tensor:
        return normalize(x, mean, deviation)

    def draw_batch(draw: torch.Generator) -> tuple[Tensor, Tensor]:
        places = torch.randint(len(images.train_labels), (batch,), generator=draw)
        return floats(images.train_images[places]), images.train_labels[places]

    def accuracy(model: nn.Module) -> float:
        shown = floats(images.test_images[:test_images])
        found = torch.cat([model(part).argmax(-1) for part in torch.split(shown, 250)])
        return 100 * float((found == images.test_labels[:test_images]).float().mean())

    channels, classes = images.train_images.shape[1], int(images.train_labels.max()) + 1

    def task(name: str, make_optimizer: MakeOptimizer, storages: tuple[str, ...]) -> Task:
        return Task(
            f"ResNet-20, images, {name}",
            "test accuracy, %",
            steps,
            lambda: resnet20_cifar(None, classes, channels, input_size=images.train_images.shape[-1]),
            make_optimizer,
            draw_batch,
            accuracy,
            cosine=True,
            storages=storages,
        )

    sgd = partial(optim.SGD, lr=0.05, momentum=0.9, weight_decay=5e-4)
    return (
        task("AdamW", partial(optim.AdamW, lr=2e-3, weight_decay=0.05), tuple(STORAGES)),
        task("SGD with momentum", sgd, ("32", "8", "4", NEAREST)),
    )


def training_losses(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Callable[[], tuple[Tensor, Tensor]],
    steps: int,
    schedule: LRScheduler | None = None,
) -> Iterator[float]:
    """The loss of each step, told before the step is taken: who stops listening stops the training."""
    for _ in range(steps):
        inputs, targets = batch()
        loss = F.cross_entropy(model(inputs).flatten(0, -2), targets.flatten())
        yield loss.item()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if schedule is not None:
            schedule.step()


def train(task: Task, storage: str, seed: int) -> Run:
    """One run from the beginning; everything random comes from `seed`."""
    torch.manual_seed(seed)
    model = task.make_model()
    optimizer = task.make_optimizer(model.parameters(), **STORAGES[storage])
    schedule = CosineAnnealingLR(optimizer, task.steps) if task.cosine else None
    draw = torch.Generator().manual_seed(seed)
    losses = list(training_losses(model, optimizer, lambda: task.batch(draw), task.steps, schedule))
    model.eval()
    with torch.no_grad():
        value = task.evaluate(model)
    return Run(task.name, task.metric, storage, seed, value, _stretches(losses), state_bytes(optimizer), task.steps)


def run(
    tasks: Sequence[Task],
    *,
    command: str,
    out: Path,
    seeds: Sequence[int] = (0, 1, 2),
    threads: int = 1,
    on_run: Callable[[Run], None] | None = None,
) -> TrainingReport:
    """Train every task with every storage and seed.

    `out` (JSON) and its page are written after each run, and a later call goes on.

    Raises: OSError; what `run_trials` raises for an `out` that cannot be continued.
    """
    with torch_threads(threads):
        trials = [
            Trial((task.name, task.steps, storage, seed), partial(train, task, storage, seed))
            for task in tasks
            for seed in seeds
            for storage in task.storages
        ]
        fresh = TrainingReport(command, this_machine(), (), out.with_suffix(".svg").name)
        return run_trials("bench optim-training", out, fresh, trials, _key, on_run=on_run)


def _key(run: Run) -> tuple[str, int, str, int]:
    return run.task, run.steps, run.storage, run.seed


def held_out_loss(model: nn.Module, tokens: Tensor, context: int, batches: int = 20, batch: int = 32) -> float:
    """Mean cross entropy over the same windows in every run."""
    draw = torch.Generator().manual_seed(1)
    total = 0.0
    for _ in range(batches):
        inputs, targets = windows(tokens, context, batch, draw)
        total += float(F.cross_entropy(model(inputs).flatten(0, -2), targets.flatten()))
    return total / batches


def _stretches(losses: Sequence[float]) -> tuple[float, ...]:
    size = max(1, len(losses) // CURVE_POINTS)
    return tuple(statistics.mean(losses[i : i + size]) for i in range(0, len(losses), size))
