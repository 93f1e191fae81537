# SPDX-License-Identifier: Apache-2.0
"""`bittern bench integers --few-bits`: what few bits cost a trained network, and what learned rounding gives back.

The trained ResNet-20 of the data is quantized after training, once for each seed: the seed chooses the calibration
images of the training part and is that of the rounding. The first and the last layer have 8 bits, as in the papers.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bittern.bench.core.machine import Machine, load_before, this_machine
from bittern.bench.core.store import to_json
from bittern.bench.core.timing import torch_threads
from bittern.bench.integers.networks import CIFAR, RESNET20, Test, normalized
from bittern.bench.integers.resnet import trained_resnet20
from bittern.data.cifar10 import cifar10
from bittern.nn._table import text_table
from bittern.ptq import BRECQ, AdaRound, Bits, LeastSquares, QDrop, Schedule, least_squares_channel_steps, quantize
from bittern.ptq.learned import Rounding

ENDS = ("conv1", "linear")
"""The first and the last layer."""
END_BITS = Bits(8, 8)
WIDTHS = (Bits(4, 8), Bits(4, 4), Bits(2, 4))
AT_ONCE = 500
PERCENT = 100.0

ROUNDINGS: Mapping[str, Callable[[Schedule, int], Rounding | None]] = {
    "nearest": lambda schedule, seed: None,
    "AdaRound": lambda schedule, seed: AdaRound(schedule=schedule, seed=seed),
    "BRECQ": lambda schedule, seed: BRECQ(schedule=schedule, seed=seed),
    "QDrop": lambda schedule, seed: QDrop(schedule=schedule, seed=seed),
}


@dataclass(frozen=True, slots=True)
class FewBitsRow:
    """One network of integers."""

    weights: int
    inputs: int
    rounding: str
    seed: int
    accuracy: float
    """Share of the test images."""
    file_bytes: int
    seconds: float
    """Of quantizing, CPU time."""


@dataclass(frozen=True, repr=False, slots=True)
class FewBitsReport:
    """Everything measured by one run; `print(report)` shows the table."""

    command: str
    machine: Machine
    load: str
    network: str
    float_accuracy: float
    float_bytes: int
    test_images: int
    calibration_images: int
    iterations: int
    rows: tuple[FewBitsRow, ...]

    def to_json(self) -> str:
        return to_json(self)

    def __str__(self) -> str:
        heads = ("bits", "rounding", "seeds", "top-1", "least - most", "below float", "file bytes", "seconds")
        found: dict[tuple[int, int, str], list[FewBitsRow]] = {}
        for row in self.rows:
            found.setdefault((row.weights, row.inputs, row.rounding), []).append(row)
        lines = [self._line(*key, rows) for key, rows in found.items()]
        told = (
            f"{self.network}: {self.float_accuracy * PERCENT:.2f} % of {self.test_images:,} test images in float, "
            f"{self.float_bytes:,} bytes. Calibrated on {self.calibration_images} training images, {self.iterations} "
            "iterations for each part that is rounded; the first and the last layer have 8 bits."
        )
        table = text_table(heads, lines, right=(3, 4, 5, 6, 7))
        return "\n\n".join((self.command, f"{self.machine}; {self.load}", told, table))

    def _line(self, weights: int, inputs: int, rounding: str, rows: Sequence[FewBitsRow]) -> tuple[str, ...]:
        shares = [row.accuracy * PERCENT for row in rows]
        mean = sum(shares) / len(shares)
        return (
            f"W{weights}A{inputs}",
            rounding,
            ", ".join(str(row.seed) for row in rows),
            f"{mean:.2f} %",
            f"{min(shares):.2f} - {max(shares):.2f}",
            f"{self.float_accuracy * PERCENT - mean:.2f}",
            f"{rows[0].file_bytes:,}",
            f"{sum(row.seconds for row in rows) / len(rows):.0f}",
        )

    __repr__ = __str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is compared, and on how much data."""

    widths: Sequence[Bits] = WIDTHS
    roundings: Sequence[str] = tuple(ROUNDINGS)
    seeds: Sequence[int] = (0, 1, 2)
    calibration: int = 512
    """Training images."""
    iterations: int = 500
    """For each part that is rounded."""


def run(
    data: Path,
    *,
    command: str,
    setting: Setting = Setting(),  # frozen
    on_row: Callable[[str], None] | None = None,
) -> FewBitsReport:
    """Quantize the trained ResNet-20 in every way and judge each on the whole test part, on one thread.

    data: the folder of data sets and trained networks. Raises: OSError where they are not there.
    """
    found = cifar10(data / CIFAR)
    model = trained_resnet20(data / RESNET20).eval()
    test = Test(normalized(found.test_images), found.test_labels)
    return measured("ResNet-20, CIFAR-10 (JPEG)", model, found.train_images, test, command, setting, on_row)


def measured(
    title: str,
    model: nn.Module,
    train_images: Tensor,
    test: Test,
    command: str,
    setting: Setting,
    on_row: Callable[[str], None] | None = None,
) -> FewBitsReport:
    """The same of any network whose ends are `ENDS`; train_images: uint8 [count, 3, height, width]."""
    load, rows = load_before(), []
    with torch_threads(1):
        machine = this_machine()
        float_accuracy = _accuracy(partial(_answers, model), test)
        for bits, name, seed in itertools.product(setting.widths, setting.roundings, setting.seeds):
            chosen = torch.randperm(len(train_images), generator=torch.Generator().manual_seed(seed))
            images = normalized(train_images[chosen[: setting.calibration]])
            rounding = ROUNDINGS[name](Schedule(iterations=setting.iterations), seed)
            rows.append(_row(model, images, test, bits, name, seed, rounding))
            if on_row is not None:
                on_row(f"W{bits.weights}A{bits.inputs} {name} {seed}: {rows[-1].accuracy * PERCENT:.2f} %")
    return FewBitsReport(
        command,
        machine,
        load,
        title,
        float_accuracy,
        sum(p.numel() * p.element_size() for p in model.parameters()),
        len(test.labels),
        min(setting.calibration, len(train_images)),
        setting.iterations,
        tuple(rows),
    )


def _row(
    model: nn.Module, images: Tensor, test: Test, bits: Bits, name: str, seed: int, rounding: Rounding | None
) -> FewBitsRow:
    began = time.process_time()
    network = quantize(
        model,
        images,
        weights=bits.weights,
        inputs=bits.inputs,
        layers=dict.fromkeys(ENDS, END_BITS),
        observer=LeastSquares,
        weight_steps=least_squares_channel_steps,
        rounding=rounding,
    )
    seconds, packed = time.process_time() - began, network.pack()
    return FewBitsRow(bits.weights, bits.inputs, name, seed, _accuracy(packed, test), len(packed.to_bytes()), seconds)


def _answers(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(x)
    return found


def _accuracy(answers: Callable[[Tensor], Tensor], test: Test) -> float:
    parts = zip(torch.split(test.inputs, AT_ONCE), torch.split(test.labels, AT_ONCE), strict=True)
    right = sum(int((answers(x).argmax(1) == labels).sum().item()) for x, labels in parts)
    return right / len(test.labels)
