# SPDX-License-Identifier: Apache-2.0
"""What readers are told of a card."""

from __future__ import annotations

from collections.abc import Mapping

from bittern.bench.core.seeds import LEAST_SEEDS, Estimate, paired
from bittern.bench.core.words import duration, plural
from bittern.pretrained.card import Card

US_PER_S = 1e6


def _by_seed(values: Mapping[str, float]) -> dict[int, float]:
    return {int(seed): value for seed, value in values.items()}


def _points(estimate: Estimate, sign: str = "") -> str:
    """A share in percent, with ± of at least three seeds."""
    spread = "" if estimate.shown_std is None else f" ± {100 * estimate.shown_std:.1f}"
    return f"{100 * estimate.mean:{sign}.1f}{spread}"


def of_file(card: Card) -> str:
    """Score of the file, in percent."""
    return f"{100 * card.score:.1f}"


def over_seeds(card: Card) -> str:
    """Mean of all trainings, in percent."""
    return _points(Estimate.of(list(card.scores.values())))


def gap(card: Card) -> str:
    """To the float twin of the same seeds, in points."""
    found = paired(_by_seed(card.scores), _by_seed(card.twin))
    return "" if found is None else _points(found, "+")


def rows(card: Card) -> list[tuple[str, str]]:
    """(what, in words) of everything but curves and notes."""
    twin = Estimate.of(list(card.twin.values()))
    by_seed = ", ".join(f"{100 * score:.1f} (seed {seed})" for seed, score in card.scores.items())
    seeds = plural(len(card.scores), "seed")
    few = "" if len(card.scores) >= LEAST_SEEDS else "; too few seeds for a ±"
    found = [
        ("takes", card.takes),
        ("network", f"{card.network}, {card.method}; {card.classes} classes"),
        (f"{card.metric} of this file", f"{of_file(card)} % of {card.examples['tested on']:,} test examples"),
        (f"{card.metric} of {seeds}", f"{over_seeds(card)} %: {by_seed}{few}"),
        ("float twin", f"{_points(twin)} %; the gap, seed by seed: {gap(card)} points"),
        ("published", card.published or "no figure of the authors for this task"),
        ("size", f"{card.bytes:,} bytes: {card.binary_weights:,} weights of one bit, {card.other_numbers:,} others"),
        ("latency", _latency(card)),
        ("training", f"{card.training} ({card.recipe} recipe)"),
        ("examples", ", ".join(f"{count:,} {what}" for what, count in card.examples.items())),
        ("seed", f"{card.seed}: {card.chosen}"),
        ("data", card.data),
        ("licence of the data", card.data_licence),
        ("licence of the file", card.licence),
        ("machine", f"{card.machine}; {card.finished[:10]}"),
        ("sha256", card.sha256),
    ]
    return found + [("command", command) for command in card.commands]


def _latency(card: Card) -> str:
    if card.latency_s is None or card.speedup is None:
        return "not measured"
    own = f"{duration(card.latency_s * US_PER_S)} for one input, {card.speedup:.1f} times as fast as the float twin"
    return f"{own} in torch, timed in turn; {card.latency_machine}"
