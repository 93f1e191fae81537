# SPDX-License-Identifier: Apache-2.0
"""What there is to know of a trained network: the card beside its file, as JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bittern.pretrained.fields import number, numbers, only, read_object, text, whole

MOST_BYTES = 2**20
"""Of a card. Those that come with bittern have some kB."""
SHA256 = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""Of a network, by which `bittern.load` tells it from a file."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Of one network.

    name: for `bittern.load`. title: the task. takes: what a raw example is. classes: how many.
    task, network, method, recipe, epochs, train_size (most training examples; None: all): as the trials have it.
    training: the recipe in words. examples: how many were trained on, held out, and tested on.
    metric: what the score is called; a share, higher is better. score: of this very file on the test set.
    seed: of the file. chosen: the rule by which it was taken among the seeds.
    scores, held_out, twin: by seed: on the test set; on held-out examples of the training set, by which the file was
    chosen; of the float twin on the test set.
    probe: of each of some inputs that the task draws at random with seed 0, which of all output numbers is the largest:
    what a test without the data set compares.
    bytes, sha256: of the file. binary_weights, other_numbers: what is in it.
    latency_s: median of one input. speedup: over the twin in torch, timed in turn with it in one process.
    latency_machine: where. None: not measured.
    published: a figure of the authors for this task, and how this training differs; None: there is none.
    data: what it was trained on, from where. data_licence, licence: of the data, and of the file.
    commands: that made it, in their order. machine: and versions, of the training. finished: UTC, ISO 8601.
    curves: of the file's training, a value an epoch. notes: of that training.
    """

    name: str
    title: str
    takes: str
    classes: int
    task: str
    network: str
    method: str
    recipe: str
    epochs: int
    train_size: int | None
    training: str
    examples: Mapping[str, int]
    metric: str
    score: float
    seed: int
    chosen: str
    scores: Mapping[str, float]
    held_out: Mapping[str, float]
    twin: Mapping[str, float]
    probe: tuple[int, ...]
    bytes: int
    sha256: str
    binary_weights: int
    other_numbers: int
    latency_s: float | None
    speedup: float | None
    latency_machine: str | None
    published: str | None
    data: str
    data_licence: str
    licence: str
    commands: tuple[str, ...]
    machine: str
    finished: str
    curves: Mapping[str, tuple[float, ...]]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """A line for each field."""
        lines = [
            f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
            for name, value in dataclasses.asdict(self).items()
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"


def read_card(content: bytes) -> Card:
    """What `Card.to_json` wrote. Raises: ValueError for anything else."""
    if len(content) > MOST_BYTES:
        raise ValueError(f"a card has at most {MOST_BYTES} bytes; this one has {len(content)}")
    found = read_object(content, "a card")
    only(found, [field.name for field in dataclasses.fields(Card)], "a card")
    values = {name: _reader(name)(found[name], f"{name} of a card") for name in found}
    card = Card(**values)
    for name, pattern in (("name", NAME), ("sha256", SHA256)):
        if not pattern.fullmatch(values[name]):
            raise ValueError(f"{name} of a card must be like {pattern.pattern}; got {values[name][:80]!r}")
    if str(card.seed) not in card.scores or card.score != card.scores[str(card.seed)]:
        raise ValueError(f"score of a card must be that of its seed {card.seed}; got {card.score} of {card.scores}")
    return card


def _reader(name: str) -> Callable[[Any, str], Any]:
    if name in ("classes", "epochs", "seed", "bytes", "binary_weights", "other_numbers"):
        return whole
    if name == "score":
        return _share
    if name in ("scores", "held_out", "twin"):
        return _mapping(_share)
    if name == "examples":
        return _mapping(whole)
    if name == "curves":
        return _mapping(numbers)
    if name in ("commands", "notes"):
        return _list(text)
    if name == "probe":
        return _list(whole)
    if name == "train_size":
        return _or_none(whole)
    if name in ("latency_s", "speedup"):
        return _or_none(number)
    return _or_none(text) if name in ("published", "latency_machine") else text


def _share(value: Any, subject: str) -> float:
    found = number(value, subject, 0.0)
    if found > 1.0:
        raise ValueError(f"{subject} must lie in [0, 1]; got {found}")
    return found


def _mapping(read: Callable[[Any, str], Any]) -> Callable[[Any, str], dict[str, Any]]:
    def reader(value: Any, subject: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"{subject} must be an object; got {type(value).__name__}")
        return {name: read(item, subject) for name, item in value.items()}

    return reader


def _or_none(read: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    return lambda value, subject: None if value is None else read(value, subject)


def _list(read: Callable[[Any, str], Any]) -> Callable[[Any, str], tuple[Any, ...]]:
    def reader(value: Any, subject: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{subject} must be a list; got {type(value).__name__}")
        return tuple(read(item, subject) for item in value)

    return reader
