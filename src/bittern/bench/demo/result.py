# SPDX-License-Identifier: Apache-2.0
"""What a run of the demo is asked to do, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from bittern.bench.core.machine import Machine
from bittern.bench.core.timing import Spread
from bittern.train import Cosine, Recipe

FLOAT = "float"
"""Name of the baseline among the names of methods."""
NOISE_LIMIT = 0.1
"""Repeated timings that differ by more than this share of each other support no speed in a headline."""
TIMING_S = 0.4
QUICK_TIMING_S = 0.02


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run of the demo does. Raises: ValueError."""

    seed: int = 0
    quick: bool = False
    """One epoch on a few images: to see that everything works, not to look at figures."""
    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 1e-2
    threads: int = 1
    """For training and timing. One thread gives the same weights on every machine of one kind."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"demo: {name} must be at least 1; got {getattr(self, name)}")

    @property
    def timing_s(self) -> float:
        """Seconds for one comparison."""
        return QUICK_TIMING_S if self.quick else TIMING_S

    def recipe(self) -> Recipe:
        return Recipe(
            epochs=1 if self.quick else self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            schedule=Cosine(warmup=0.1),
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class Half:
    """Lower and upper quartile of the times of single calls: half of them lie between."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Packed model and float baseline, called in turn on the same input."""

    batch: int
    packed_us: Spread
    """Microseconds per call, not per image."""
    packed_half_us: Half
    float_us: Spread
    float_half_us: Half
    layout: str
    """Of the float baseline: the faster of torch's two memory layouts at this batch size."""
    speedup: Spread
    """Float time / packed time, pair by pair."""
    repeated: tuple[float, ...]
    """Median speedup of each repetition of the comparison."""

    @property
    def noise(self) -> float:
        """By what share the largest repetition exceeds the smallest."""
        return max(self.repeated) / min(self.repeated) - 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """One network."""

    name: str
    """Class name of the method; `FLOAT` for the baseline."""
    accuracy: float
    """Share of the test images that the packed model gets right."""
    stored_bytes: int
    """Size of the packed file."""
    binary_bytes: int
    """Of it, the weights of the layers between the first and the last: the binary ones, or float32 in the baseline."""
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
class OptimizerRow:
    """AdamW with states of some number of bits."""

    bits: int
    bytes_per_param: float
    """Of both states together."""
    step_us: Spread
    """One step of one large tensor."""
    fused_us: Spread
    """torch's fused float32 AdamW on a tensor of the same size, in turn."""
    speedup: Spread
    losses: tuple[float, ...]
    """Training loss of every step."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Everything that the report shows."""

    rows: tuple[Row, ...]
    """The baseline, then the methods in the order of `binary.COMPARED`."""
    optimizers: tuple[OptimizerRow, ...]
    """AdamW with states of 32, 8 and 4 bits."""
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

    @property
    def noise(self) -> float:
        """By what share repeated timings differ: the median over the methods, at the batch size where it is largest."""
        batches = zip(*(row.latencies for row in self.methods), strict=True)
        return max((median(one.noise for one in same) for same in batches), default=0.0)

    @property
    def noisy(self) -> bool:
        """Whether the machine was too busy with other things for any speed to be told."""
        return self.noise > NOISE_LIMIT
