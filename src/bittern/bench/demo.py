"""`bittern demo`: every binary method on handwritten digits, trained, packed, verified and timed in a few minutes.

All networks are one architecture, `DemoNet`, and one recipe; nothing is tuned for any method. The float baseline is
the same network with float convolutions, timed as torch runs it, call by call ("eager").
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from bittern import binary, deploy
from bittern.bench.machine import Machine, this_machine
from bittern.bench.timing import Spread, compare, torch_threads
from bittern.data import ImageData, digits, normalize
from bittern.deploy.format import to_bytes
from bittern.nn.conv import BinaryConv2d
from bittern.quantizer import Quantizer
from bittern.train import Cosine, Epoch, Recipe, evaluate, train

FLOAT = "float"
"""Name of the baseline among the names of methods."""
BATCHES = (1, 32)
"""Batch sizes that are timed."""
QUICK_IMAGES = 256
"""Training images of a quick run."""
TIMING_S = 0.4
QUICK_TIMING_S = 0.02


class DemoBlock(nn.Module):
    """Hardtanh(BN(conv3x3(x)) + shortcut(x)): [batch, c, h, w] -> the same, or [batch, 2 c, h / 2, w / 2] (`widen`)."""

    def __init__(self, channels: int, method: type[Quantizer] | None, *, widen: bool = False) -> None:
        super().__init__()
        out, stride = (2 * channels, 2) if widen else (channels, 1)
        if method is None:
            self.conv: nn.Module = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        else:
            self.conv = BinaryConv2d(channels, out, 3, stride, 1, method=method)
        self.norm = nn.BatchNorm2d(out)
        self.shrink = nn.AvgPool2d(2) if widen else None
        self.activation = nn.Hardtanh()

    def forward(self, x: Tensor) -> Tensor:
        skip = x
        if self.shrink is not None:
            small = self.shrink(x)
            skip = torch.cat((small, small), 1)
        y: Tensor = self.activation(self.norm(self.conv(x)) + skip)
        return y


class DemoNet(nn.Module):
    """x [batch, 1, 8, 8] -> logits [batch, 10]: a float 3x3 stem, three 3x3 convolutions by `method`, a float head.

    method: a Quantizer class; None: float convolutions, the baseline. width: channels of the stem.
    """

    def __init__(self, method: type[Quantizer] | None, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.Hardtanh())
        self.blocks = nn.Sequential(
            DemoBlock(width, method), DemoBlock(width, method, widen=True), DemoBlock(2 * width, method)
        )
        self.pool = nn.AvgPool2d(4)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.flatten(self.pool(self.blocks(self.stem(x)))))
        return logits


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run of the demo does. Raises: ValueError."""

    seed: int = 0
    quick: bool = False
    """One epoch on a few images: to see that everything works, not to look at figures."""
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 1e-2
    threads: int = 1
    """For training and timing. One thread gives the same weights on every machine of one kind."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"demo: {name} must be at least 1; got {getattr(self, name)}")

    def recipe(self) -> Recipe:
        return Recipe(
            epochs=1 if self.quick else self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            schedule=Cosine(warmup=0.1),
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class Latency:
    """Packed model and float baseline, called in turn on the same input."""

    batch: int
    packed_us: Spread
    """Microseconds per call, not per image."""
    float_us: Spread
    speedup: Spread
    """Float time / packed time, pair by pair."""


@dataclass(frozen=True, slots=True)
class Row:
    """One network."""

    name: str
    """Class name of the method; `FLOAT` for the baseline."""
    accuracy: float
    """Share of the test images that the packed model gets right."""
    stored_bytes: int
    """Size of the packed file."""
    accumulators: int
    """Integers compared between the packed model and its training graph on all test images; 0: the baseline."""
    different: int
    """How many of them differed."""
    logits_identical: bool
    max_difference: float
    """Largest absolute difference of a logit."""
    exact: bool
    """All accumulators equal, all logits within the tolerance."""
    latencies: tuple[Latency, ...]
    """One per batch size; () for the baseline."""
    losses: tuple[float, ...]
    """Training loss of every step."""
    accuracies: tuple[float, ...]
    """Test accuracy after every epoch."""
    seconds: float
    """Time of training."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Everything that the report shows."""

    rows: tuple[Row, ...]
    """The baseline, then the methods in the order of `binary.ALL`."""
    settings: Settings
    network: str
    data: str
    train_images: int
    test_images: int
    machine: Machine
    command: str
    started: str
    """UTC, ISO 8601."""
    seconds: float

    @property
    def baseline(self) -> Row:
        return self.rows[0]

    @property
    def methods(self) -> tuple[Row, ...]:
        return self.rows[1:]

    @property
    def exact(self) -> bool:
        """Whether every packed model gave the answers of its training graph."""
        return all(row.exact for row in self.rows)


class Watcher(Protocol):
    """Sees the run go by."""

    def training(self, name: str, step: int, steps: int) -> None:
        """`step` of `steps` is done in the training of the network `name`."""

    def epoch(self, name: str, row: Epoch) -> None:
        """An epoch is done."""

    def packing(self, name: str) -> None:
        """The network `name` is trained and is being packed and verified."""

    def timing(self, name: str) -> None:
        """The packed model is being timed."""

    def done(self, row: Row) -> None:
        """Everything about one network is known."""


NAMES = (FLOAT, *(method.__name__ for method in binary.ALL))
"""Networks of the demo, in their order."""


def run(settings: Settings, watcher: Watcher, *, command: str) -> DemoResult:
    """Train, pack, verify and time the baseline and every method; `command` is what the report says to type."""
    begun = time.perf_counter()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    data = _data(settings)
    rows: list[Row] = []
    baseline: nn.Module | None = None
    with torch_threads(settings.threads), _own_randomness():
        for method in (None, *binary.ALL):
            model, row = _one(method, data, settings, baseline, watcher)
            baseline = model if baseline is None else baseline
            rows.append(row)
            watcher.done(row)
        machine = this_machine()
    return DemoResult(
        rows=tuple(rows),
        settings=settings,
        network="3x3 convolution 1 to 64 channels (float), 3x3 convolutions 64 to 64, 64 to 128 at stride 2, 128 to 128 "
        "(by method, each with batch norm, a shortcut and Hardtanh), mean over space, linear layer 128 to 10 (float)",
        data=data.name,
        train_images=len(data.train_labels),
        test_images=len(data.test_labels),
        machine=machine,
        command=command,
        started=started,
        seconds=time.perf_counter() - begun,
    )


def _one(
    method: type[Quantizer] | None, data: ImageData, settings: Settings, baseline: nn.Module | None, watcher: Watcher
) -> tuple[nn.Module, Row]:
    """Everything about one network."""
    name = FLOAT if method is None else method.__name__
    recipe = settings.recipe()
    steps = recipe.epochs * (len(data.train_labels) // recipe.batch_size)
    images = normalize(data.test_images, data.mean, data.std)
    torch.manual_seed(settings.seed)
    model = DemoNet(method)
    with torch.no_grad():
        # gives XNOR-Net++ its sizes; in eval mode nothing else changes
        model.eval()(images[:1])
    losses: list[float] = []
    watcher.training(name, 0, steps)

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        watcher.training(name, step, steps)

    history = train(
        model, data, recipe, progress=False, on_step=on_step, on_epoch=lambda epoch: watcher.epoch(name, epoch)
    )
    watcher.packing(name)
    packed = deploy.pack(model, images[: settings.batch_size])
    report = deploy.verify(packed, model, images)
    watcher.timing(name)
    return model, Row(
        name=name,
        accuracy=evaluate(packed, data).accuracy,
        stored_bytes=len(to_bytes(packed)),
        accumulators=sum(layer.accumulators for layer in report.layers),
        different=sum(layer.different for layer in report.layers),
        logits_identical=report.logits_identical,
        max_difference=report.max_difference,
        exact=report.exact,
        latencies=() if baseline is None else _time(packed, baseline, images, settings),
        losses=tuple(losses),
        accuracies=tuple(epoch.test_accuracy for epoch in history.epochs),
        seconds=sum(epoch.seconds for epoch in history.epochs),
    )


def _time(packed: deploy.Packed, baseline: nn.Module, images: Tensor, settings: Settings) -> tuple[Latency, ...]:
    found = []
    with torch.inference_mode():
        for batch in BATCHES:
            x = images[:batch].clone()
            pair = compare(
                lambda x=x: packed(x),  # type: ignore[misc]
                lambda x=x: baseline(x),  # type: ignore[misc]
                budget_s=QUICK_TIMING_S if settings.quick else TIMING_S,
            )
            found.append(Latency(batch, pair.latency_us, pair.baseline_latency_us, pair.speedup))
    return tuple(found)


def _data(settings: Settings) -> ImageData:
    data = digits()
    if not settings.quick:
        return data
    return ImageData(
        data.name,
        data.classes,
        data.train_images[:QUICK_IMAGES],
        data.train_labels[:QUICK_IMAGES],
        data.test_images,
        data.test_labels,
        data.mean,
        data.std,
    )


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Leave the caller's generator as it was."""
    with torch.random.fork_rng([]):
        yield
