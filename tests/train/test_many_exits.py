# SPDX-License-Identifier: Apache-2.0
"""The loss of several exits by hand, and their history."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bittern.data import Views
from bittern.train import ExitHistory, ManyExits, Recipe, train

LABELS = torch.tensor([0, 1])
EARLY, LATE = torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), 0.0]])


def _exits(*inputs: Tensor) -> dict[str, Tensor]:
    return {"early": EARLY, "late": LATE}


def test_the_loss_by_hand() -> None:
    """early: ln 2 each; late: (-ln 3/4 - ln 1/4) / 2."""
    late = -(math.log(0.75) + math.log(0.25)) / 2
    measured = ManyExits().measure(_exits, (torch.zeros(2, 1), LABELS))
    assert math.isclose(float(measured.loss), math.log(2) + late, rel_tol=1e-6)
    assert int(measured.score) == 1
    weighted = ManyExits({"early": 0.0, "late": 2.0}).measure(_exits, (torch.zeros(2, 1), LABELS))
    assert math.isclose(float(weighted.loss), 2 * late, rel_tol=1e-6)
    assert ManyExits().accuracies(_exits, [(torch.zeros(2, 1), LABELS)]) == {"early": 0.5, "late": 0.5}


@pytest.mark.parametrize("weights", [{"early": 1.0}, {"early": 0.0, "late": 0.0}, {"early": -1.0, "late": 1.0}])
def test_weights_are_those_of_the_exits(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="each of early, late"):
        ManyExits(weights).measure(_exits, (torch.zeros(2, 1), LABELS))


def test_what_is_no_exit_is_refused() -> None:
    batch = (torch.zeros(2, 1), LABELS)
    for model in (lambda x: EARLY, lambda x: {}, lambda x: {"a": EARLY[:1]}, lambda x: {"a": EARLY[:, :1]}):
        with pytest.raises(ValueError, match="ManyExits"):
            ManyExits().measure(model, batch)
    with pytest.raises(ValueError, match="at least one example"):
        ManyExits().accuracies(_exits, [])
    for bad in ((LABELS,), (torch.zeros(2, 1), torch.zeros(2)), (torch.zeros(2, 1), torch.zeros(2, 1).long())):
        with pytest.raises(TypeError, match="label"):
            ManyExits().check(bad, "the set")


class _Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, 2), nn.Linear(1, 2)

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        return {"first": self.first(a.flatten(1)), "second": self.second(b.flatten(1))}


def test_a_run_learns_all_exits_and_keeps_their_history() -> None:
    torch.manual_seed(0)
    labels = torch.arange(8) % 2
    views = Views([labels.float().view(-1, 1, 1, 1) * 2 - 1] * 2, labels)
    model, task = _Two(), ManyExits()
    history = ExitHistory(task, model, views)
    recipe = Recipe(epochs=5, batch_size=4, learning_rate=0.3)
    rows = train(model, (views, views), recipe, task=task, on_epoch=history, progress=False)
    assert len(history.epochs) == 5
    assert history.epochs[-1] == {"first": 1.0, "second": 1.0}
    assert rows.final.test_accuracy == history.epochs[-1]["second"]
