# SPDX-License-Identifier: Apache-2.0
"""Entropy and thresholds by hand, and who is asked what."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from bittern.ddnn import NobodyThereError, choose_thresholds, normalized_entropy, paper_bytes, threshold_table
from bittern.ddnn.decide import Places, decide


def test_entropy_of_scores_by_hand() -> None:
    """p = (3/4, 1/4) has eta = -(0.75 ln 0.75 + 0.25 ln 0.25) / ln 2; three equal classes have 1, a sure one 0."""
    two = normalized_entropy(torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64))
    assert math.isclose(float(two), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2), rel_tol=1e-12)
    three = torch.tensor([[5.0, 5.0, 5.0], [2000.0, 0.0, 0.0], [math.nan, 0.0, 0.0]])
    found = normalized_entropy(three)
    assert math.isclose(float(found[0]), 1.0, rel_tol=1e-12)
    assert found[0] <= 1.0
    assert found[1] == 0.0, "0 ln 0 is 0"
    assert found[2].isnan()
    assert len(normalized_entropy(torch.zeros(0, 4))) == 0


@pytest.mark.parametrize("shape", [(3, 1), (3,), (2, 2, 2)])
def test_entropy_needs_classes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="2 or more"):
        normalized_entropy(torch.zeros(shape))


class _Fake(Places):
    """Scores of two devices that are given, and a record of what was asked."""

    has_edge = False

    def __init__(self, scores: list[Tensor | None], cloud: Tensor | None, left: Sequence[int] = ()) -> None:
        self._scores, self._cloud, self._left = scores, cloud, left
        self.asked: list[object] = []

    def scores(self) -> list[Tensor | None]:
        return self._scores

    def local(self, scores: Sequence[Tensor | None]) -> Tensor:
        return next(part for part in scores if part is not None)

    def features(self, rows: Tensor, away: Sequence[bool]) -> list[Tensor | None]:
        self.asked.append((rows.tolist(), list(away)))
        return [None if index in self._left or gone else rows.view(-1, 1) for index, gone in enumerate(away)]

    def edge(self, features: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        signs = next(part for part in features if part is not None)
        return signs, torch.tensor([[9.0, 0.0]]).repeat(len(signs), 1) * (signs % 4 == 1)

    def cloud(self, features: Sequence[Tensor | None]) -> Tensor | None:
        self.asked.append(("cloud", [None if part is None else part.flatten().tolist() for part in features]))
        return self._cloud


SCORES = torch.tensor([[9.0, 0.0], [0.1, 0.0], [0.0, 9.0], [0.0, math.nan]])
"""Sure, unsure, sure, broken."""
FINAL = torch.tensor([[0.0, 7.0], [0.0, 8.0]])


def test_only_what_is_unsure_goes_on() -> None:
    places = _Fake([SCORES, SCORES], FINAL)
    answers = decide(places, [0.5])
    assert answers.exits == ("local", "cloud", "local", "cloud")
    assert answers.classes.tolist() == [0, 1, 1, 1]
    assert places.asked == [([1, 3], [False, False]), ("cloud", [[1, 3], [1, 3]])]
    assert answers.missing == ()
    assert answers.share("local") == 0.5
    everything = _Fake([SCORES[:3], None], FINAL)
    assert decide(everything, [1.0]).exits == ("local",) * 3, "no entropy is above 1"
    assert everything.asked == []


def test_an_edge_lets_on_what_it_is_unsure_of() -> None:
    places = _Fake([SCORES, SCORES], FINAL[:1])
    places.has_edge = True
    answers = decide(places, [0.5, 0.5])
    assert answers.exits == ("local", "edge", "local", "cloud")
    assert places.asked[1:] == [("cloud", [[3]])]


def test_places_that_are_away_are_named_and_not_waited_for() -> None:
    places = _Fake([None, SCORES], None)
    answers = decide(places, [0.5])
    assert places.asked[0] == ([1, 3], [True, False])
    assert answers.missing == ("device 0", "cloud")
    assert answers.exits == ("local",) * 4, "without a cloud, the exit before answers"
    left = _Fake([SCORES, SCORES], FINAL, left=[0, 1])
    assert decide(left, [0.5]).missing == ("device 0", "device 1")
    with pytest.raises(NobodyThereError, match="none of 2 devices"):
        decide(_Fake([None, None], FINAL), [0.5])


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, math.inf])
def test_thresholds_are_normalized_entropies(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"exit 'local'.*\[0, 1\]"):
        decide(_Fake([SCORES], FINAL), [threshold])
    with pytest.raises(ValueError, match="one threshold for each early exit, local"):
        decide(_Fake([SCORES], FINAL), [0.5, 0.5])


def test_table_of_thresholds() -> None:
    """The local exit gets 0, 1 right and is sure of 0, 2; the cloud gets 1, 2, 3 right."""
    local, labels = SCORES[:3], torch.tensor([0, 0, 0])
    cloud = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    rows = threshold_table({"device 0": local, "local": local, "cloud": cloud}, labels, [0.0, 0.5, 1.0])
    assert [(row.accuracy, row.local_share) for row in rows] == [(2 / 3, 0.0), (2 / 3, 2 / 3), (2 / 3, 1.0)]
    assert choose_thresholds(rows).thresholds == (1.0,)
    other = threshold_table({"local": local, "cloud": cloud}, torch.tensor([1, 0, 0]), [0.0, 0.5])
    assert [row.accuracy for row in other] == [1.0, 1 / 3]
    assert choose_thresholds(other).thresholds == (0.0,)
    assert choose_thresholds(other, 0.7).thresholds == (0.5,)
    both = threshold_table({"local": local, "edge": cloud, "cloud": cloud}, labels, [0.0, 1.0])
    assert [row.shares for row in both] == [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (1.0, 0.0, 0.0)]
    with pytest.raises(ValueError, match="'cloud'"):
        threshold_table({"local": local}, labels)


def test_bytes_of_the_paper() -> None:
    """3 classes, half leave, 4 filters of 256 bits: 12 + 64 bytes."""
    assert paper_bytes(3, 0.5, 4, 256) == 76.0
    with pytest.raises(ValueError, match="local_share"):
        paper_bytes(3, 1.5, 4, 256)
