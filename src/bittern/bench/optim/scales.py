# SPDX-License-Identifier: Apache-2.0
"""`bittern bench optim-scales`: what 4-bit optimizer states do to gradients of unlike size.

AdamW divides each gradient by the root of its own second moment, so that a weight behind a weak input moves as far as
one behind a strong input. States of 4 bits that go to the nearest entries of a table keep 16 evenly spaced second
moments per block: what lies below 1/16 of the block's largest is stored as that, and its weight takes too small steps.
Those on a logarithmic scale reach down to 2^-28 of it. Here the inputs of a network on handwritten
digits are multiplied by factors between 1 and 1 / span, so the gradients of a block differ by as much. Every storage
gets the learning rate that is best for it on held-out training images.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from bittern import optim
from bittern.bench.core.machine import Machine, this_machine
from bittern.bench.core.runner import Trial, run_trials
from bittern.bench.core.timing import torch_threads
from bittern.bench.optim.training import training_losses
from bittern.data.digits import digits

SPANS = (1, 10, 100, 1000, 10000)
RATES = (3e-3, 1e-2, 3e-2, 1e-1)
HIDDEN = 256
BATCH = 64
HELD_OUT = 5
"""Every fifth training image chooses the learning rate, and trains nothing while it does."""
CHOICE_SEEDS = (100, 101, 102)
"""Of the trainings that choose a learning rate; none of the table's."""


_WHY = (
    "A block of 4-bit states is 128 weights, here two rows of the first layer, with the gradients of all inputs "
    "in it. Of states that go to the nearest entry of a table (arXiv 2309.01507), second moments are i / 16 of the "
    "largest (i = 1 ... 16), so a gradient below a quarter of the largest counts as a quarter, and a weight whose "
    "gradients are 100 times smaller than its neighbour's steps 25 times less than with exact states. The dynamic tree "
    "of 8 bits reaches down to 3e-7 of the largest square, which is 1/1700 of the gradient; the logarithmic levels of "
    "4 bits down to 4e-9, 1/16000 of the gradient. No learning rate mends what lies below: one that suits the weak "
    "inputs is too large for the strong ones."
)
"""What the table shows, told from how the states are stored."""


@dataclass(frozen=True)
class Storage:
    """Bits of the states of the first and of the second layer."""

    name: str
    first: int
    second: int
    rounding: Literal["nearest", "stochastic"] | None = None


STORAGES = (
    Storage("32 bits", 32, 32),
    Storage("8 bits", 8, 8),
    Storage("4 bits", 4, 4),
    Storage("4 bits, nearest", 4, 4, "nearest"),
    Storage("4 bits, nearest, first layer 8", 8, 4, "nearest"),
)


@dataclass(frozen=True, slots=True)
class Digits:
    """Inputs [count, features] of about unit variance, and labels [count]."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


@dataclass(frozen=True, slots=True)
class ScaleRun:
    """One training."""

    storage: str
    span: int
    """Largest factor of an input over the smallest possible one."""
    rate: float
    seed: int
    accuracy: float
    """Share in [0, 1] of the test images."""


@dataclass(frozen=True, slots=True)
class ScalesReport:
    """All trainings."""

    command: str
    machine: Machine
    steps: int
    runs: tuple[ScaleRun, ...]

    def page(self) -> str:
        """The table with what it was measured by."""
        rates = ", ".join(f"{rate:g}" for rate in RATES)
        return (
            "# Optimizer states of 4 bits and gradients of unlike size\n\n"
            f"A network 64-{HIDDEN}-10 on the embedded digits, AdamW without decay, {self.steps} steps of {BATCH} "
            "images. Each input, of unit variance, is multiplied by a factor drawn log-uniformly from 1 / span to "
            "1: others for each seed, the same for all storages. Test accuracy in percent, mean and standard "
            "deviation over the seeds; in brackets the learning rate, which of "
            f"{rates} was best in the mean of three other seeds on a fifth of the training images, held out for the "
            "choice.\n\n"
            f"{self.markdown()}\n"
            f"{_WHY}\n\n"
            f"Command: `{self.command}`\n\nMachine: {self.machine}\n"
        )

    def markdown(self) -> str:
        """One line per storage, one column per span."""
        lines = [f"| states | {' | '.join(f'span {span:,}' for span in SPANS)} |", "|---|" + "--:|" * len(SPANS)]
        for storage in STORAGES:
            cells = [_cell([r for r in self.runs if (r.storage, r.span) == (storage.name, span)]) for span in SPANS]
            lines.append(f"| {storage.name} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def _cell(runs: Sequence[ScaleRun]) -> str:
    if not runs:
        return ""
    percent = [100.0 * run.accuracy for run in runs]
    spread = f" ± {statistics.stdev(percent):.1f}" if len(percent) > 1 else ""
    return f"{statistics.fmean(percent):.1f}{spread} ({runs[0].rate:g})"


def standardized() -> Digits:
    """The embedded digits as rows of numbers; a pixel that never varies is 0."""
    images = digits()
    train, test = images.train_images.flatten(1), images.test_images.flatten(1)
    mean, deviation = train.mean(0), train.std(0)
    deviation = torch.where(deviation > 0, deviation, 1.0)
    return Digits((train - mean) / deviation, images.train_labels, (test - mean) / deviation, images.test_labels)


def held_out(data: Digits) -> Digits:
    """The training images alone, every fifth in the place of the test images."""
    away = torch.arange(len(data.train_labels)) % HELD_OUT == 0
    return Digits(data.train[~away], data.train_labels[~away], data.train[away], data.train_labels[away])


def accuracy(data: Digits, storage: Storage, span: int, rate: float, seed: int, steps: int) -> float:
    """Of one training; everything random comes from `seed`, the same for every storage and rate."""
    torch.manual_seed(seed)
    factors = span ** -torch.rand(data.train.shape[1])
    model = nn.Sequential(nn.Linear(data.train.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
    groups = [
        {"params": list(layer.parameters()), "state_bits": bits}
        for layer, bits in ((model[0], storage.first), (model[2], storage.second))
    ]
    # the second layer has 2,560 weights: by default so few keep 32-bit states
    optimizer = optim.AdamW(groups, lr=rate, weight_decay=0.0, min_8bit_size=1024, state_rounding=storage.rounding)
    draw = torch.Generator().manual_seed(seed)

    def batch() -> tuple[Tensor, Tensor]:
        places = torch.randint(len(data.train_labels), (BATCH,), generator=draw)
        return data.train[places] * factors, data.train_labels[places]

    for _ in training_losses(model, optimizer, batch, steps):
        pass
    with torch.no_grad():
        return float((model(data.test * factors).argmax(1) == data.test_labels).float().mean())


def best_rate(data: Digits, storage: Storage, span: int, steps: int) -> float:
    """The learning rate with which most held-out training images are recognized, over several seeds."""
    chosen = held_out(data)

    def mean(rate: float) -> float:
        return statistics.fmean(accuracy(chosen, storage, span, rate, seed, steps) for seed in CHOICE_SEEDS)

    return max(RATES, key=mean)


def _all() -> Iterator[tuple[Storage, int]]:
    for span in SPANS:
        for storage in STORAGES:
            yield storage, span


def run(
    *,
    command: str,
    out: Path,
    steps: int = 300,
    seeds: Sequence[int] = (0, 1, 2),
    threads: int = 1,
    on_run: Callable[[ScaleRun], None] | None = None,
) -> ScalesReport:
    """Train every cell of the table; `out` (JSON) and its page are written after each training; a later call goes on.

    Raises: OSError; what `run_trials` raises for an `out` that cannot be continued.
    """
    data = standardized()
    rate_of = cache(partial(best_rate, data, steps=steps))

    def train(storage: Storage, span: int, seed: int) -> ScaleRun:
        rate = rate_of(storage, span)
        return ScaleRun(storage.name, span, rate, seed, accuracy(data, storage, span, rate, seed, steps))

    with torch_threads(threads):
        fresh = ScalesReport(command, this_machine(), steps, ())
        trials = [
            Trial((storage.name, span, seed), partial(train, storage, span, seed))
            for storage, span in _all()
            for seed in seeds
        ]
        return run_trials("bench optim-scales", out, fresh, trials, _key, on_run=on_run)


def _key(run: ScaleRun) -> tuple[str, int, int]:
    return run.storage, run.span, run.seed
