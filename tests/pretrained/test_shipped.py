# SPDX-License-Identifier: Apache-2.0
"""The networks that come with bittern: what is in the package, what they answer, and that the cards are true."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import bittern
from bittern import pretrained
from bittern.bench.cards.publish import PROBES, probe
from bittern.bench.tracks.problem import find
from bittern.bench.tracks.problems import PROBLEMS
from bittern.data import digits
from bittern.pretrained.shelf import FOLDER
from bittern.train import evaluate

DATA = Path(os.environ.get("BITTERN_DATA", Path(__file__).parents[3] / "shared" / "data"))
MOST_BYTES = 300_000
"""Of a network."""
MOST_IN_ALL = 2_000_000
ANOTHER_CPU = 0.003
"""Real layers round otherwise there, which may turn a sign, and of a thousand examples a few answers."""
every = pytest.mark.parametrize("name", pretrained.names())


def test_the_package_stays_small() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert {path.suffix for path in files} == {".bittern", ".json"}
    assert {path.stem for path in files} == set(pretrained.names())
    assert sum(path.stat().st_size for path in files) <= MOST_IN_ALL


@every
def test_a_card_says_what_is_there(name: str) -> None:
    card, content = pretrained.card(name), (FOLDER / f"{name}.bittern").read_bytes()
    assert card.bytes == len(content) <= MOST_BYTES
    assert card.sha256 == hashlib.sha256(content).hexdigest()
    assert len(card.scores) >= 3
    assert card.scores.keys() == card.held_out.keys() == card.twin.keys()
    order = sorted(card.held_out, key=lambda seed: (card.held_out[seed], int(seed)))
    assert str(card.seed) == order[(len(order) - 1) // 2], "the median seed by held-out examples"
    problem = find(PROBLEMS, card.task)
    assert (card.data, card.data_licence) == (problem.source, problem.licence)
    assert card.network in problem.networks
    assert {len(curve) for curve in card.curves.values()} <= {card.epochs, 2 * card.epochs}, "two stages have two"
    assert f"test_{card.metric}" in card.curves
    for text in (card.training, card.machine, card.licence, *card.commands):
        assert text
    net = bittern.load(name)
    assert len(net.classes) == card.classes


# ------------------------------------------------------------------ answers without any data set


EXAMPLES: dict[str, list[tuple[Callable[[], Any], str]]] = {
    "digits": [(lambda: digits().test_images[0], str(int(digits().test_labels[0])))],
}
"""name -> raw examples and the first answer to each."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_known_answers(name: str) -> None:
    net = bittern.load(name)
    for raw, answer in EXAMPLES[name]:
        assert net.predict(raw())[0].name == answer


@every
def test_it_computes_what_it_did_when_it_was_published(name: str) -> None:
    net = bittern.load(name)
    found = probe(find(PROBLEMS, net.card.task), net.packed)
    assert len(net.card.probe) == len(found) == PROBES
    same = sum(a == b for a, b in zip(found, net.card.probe, strict=True))
    assert same >= PROBES - 2, "a sign or two may turn on another CPU"


def test_digits_score_what_their_card_says() -> None:
    """The data set is in the package."""
    data, net = digits(), bittern.load("digits")
    assert abs(evaluate(net, data).score - net.card.score) <= ANOTHER_CPU
    x = torch.cat([net.prepare(image) for image in data.test_images])
    assert (net(x).argmax(1) == data.test_labels).float().mean().item() == pytest.approx(
        net.card.score, abs=ANOTHER_CPU
    )


# ------------------------------------------------------------------ with the data sets


@pytest.mark.data
@every
def test_the_score_on_the_test_set_is_that_of_the_card(name: str) -> None:
    net = bittern.load(name)
    problem = find(PROBLEMS, net.card.task)
    if problem.missing(DATA) is not None:
        pytest.skip("needs the real data sets")
    parts = problem.load(DATA, net.card.train_size)
    found = evaluate(net, parts.final, task=problem.task)
    assert abs(found.score - net.card.score) <= ANOTHER_CPU
