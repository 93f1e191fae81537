# SPDX-License-Identifier: Apache-2.0
"""One unit of work, and what came of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from bittern.bench.core.machine import Machine

TWIN = "float twin"
"""Method of the same network with real weights and activations: what relative figures refer to."""
AUTHORS_RECIPE = "authors_recipe"
"""Setting of a training by the recipe of a method's authors: which; no float twin has it."""
CHOSEN_RATE = "chosen_rate"
"""Setting of a training by the common recipe at another rate, chosen for its method, or for the float twin, alone."""
Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Trial:
    """All that determines a result, but for the rounding and the speed of a machine.

    track, task, network: names, as "learning_task", "fashion_mnist", "resnet20_cifar". method: `TWIN`, or the
    method's class with its options. recipe: "common", or "paper" for that of the method's authors; "" where nothing
    is trained. epochs: 0 where nothing is trained. settings: (name, value) of everything else, in the order of names.

    Raises: ValueError for settings out of order or twice, or a number that is not finite.
    """

    track: str
    task: str
    network: str
    method: str
    recipe: str
    seed: int
    epochs: int
    settings: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        names = [name for name, _ in self.settings]
        if names != sorted(set(names)):
            raise ValueError(f"Trial: settings must have different names in their order; got {names}; sort them")
        for name, value in self.settings:
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"Trial: {name} must be finite; got {value}; leave the setting out")

    @property
    def key(self) -> str:
        """64 hexadecimal digits that no other trial has: SHA-256 of the fields as JSON."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def setting(self, name: str) -> Value:
        """Raises: KeyError for a setting that this trial does not have."""
        return dict(self.settings)[name]

    @property
    def place(self) -> Trial:
        """What a trial shares with its float twin, of any seed: all but method, recipe and each one's own settings."""
        return replace(self.without(AUTHORS_RECIPE).without(CHOSEN_RATE), method=TWIN, recipe="", seed=0)

    def having(self, **settings: Value) -> Trial:
        """The same with these settings too, or with other values of those it has."""
        return replace(self, settings=tuple(sorted((dict(self.settings) | settings).items())))

    def without(self, name: str) -> Trial:
        """The same, but for one setting."""
        return replace(self, settings=tuple(pair for pair in self.settings if pair[0] != name))

    def __str__(self) -> str:
        rate = dict(self.settings).get(CHOSEN_RATE)
        recipe = self.recipe if rate is None else f"{self.recipe} at rate {rate:.3g}"
        parts = (self.track, self.task, self.network, self.method, recipe, f"seed {self.seed}")
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Result:
    """What a trial found.

    metrics: name -> value, finite; accuracies are shares in [0, 1], times seconds, sizes bytes.
    curves: name -> one value for each epoch ("train_loss", "test_accuracy", ...).
    artefacts: file name -> bytes ("packed.bittern", "confusion.json", "samples.json", "layers.json").
    notes: sentences for readers, as what was dropped or what stays float.

    Raises: ValueError for a value that is not finite.
    """

    metrics: Mapping[str, float]
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    artefacts: Mapping[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, values in (*((n, (v,)) for n, v in self.metrics.items()), *self.curves.items()):
            bad = [value for value in values if not math.isfinite(value)]
            if bad:
                raise ValueError(f"Result: {name} must be finite; got {bad[0]}; leave it out and say why in notes")


@dataclass(frozen=True, slots=True)
class Done:
    """A trial that is over, as a store keeps it."""

    trial: Trial
    result: Result
    machine: Machine
    command: str
    """That ran it."""
    finished: str
    """UTC, ISO 8601."""
    seconds: float
    """Of the attempt that ended it, on a machine that may have done other things: no measure of speed."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A trial that raised: a cell to be marked, not a number."""

    trial: Trial
    error: str
    """One line: type and message."""
    machine: Machine
    command: str
    finished: str
