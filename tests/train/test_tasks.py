# SPDX-License-Identifier: Apache-2.0
"""Other things to learn than classes: the next token, and what a user writes himself."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bittern import binary
from bittern.data import ImageData
from bittern.nn import BinaryLinear
from bittern.train import (
    CheckpointError,
    Classification,
    Distillation,
    Measured,
    NextToken,
    Recipe,
    SquaredHinge,
    Task,
    evaluate,
    train,
    train_two_stage,
)
from bittern.train.tasks.task import Batch, Evaluation


@dataclass(frozen=True)
class Regression(Task):
    """An own task: two inputs, and a real number to guess."""

    weight: float = 1.0
    metric = "minus_error"

    def measure(self, model: Callable[..., Any], batch: Batch) -> Measured:
        left, right, wanted = batch
        guessed = model(left, right)
        return Measured(self.weight * F.mse_loss(guessed, wanted), -(guessed.detach() - wanted).abs().sum())


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Linear(3, 4), BinaryLinear(3, 4, method=binary.XNORNet)
        self.out = nn.Linear(4, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.out(self.left(left) + self.right(right))[:, 0]


def pairs(count: int = 40) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    left, right = torch.randn(count, 3, generator=generator), torch.randn(count, 3, generator=generator)
    return TensorDataset(left, right, left.sum(1) + right.sign().sum(1))


RECIPE = Recipe(epochs=6, batch_size=8, learning_rate=0.03, accumulation_steps=2)


def test_an_own_task_is_learned_logged_and_resumed(tmp_path: Path) -> None:
    straight, resumed = Sum(), Sum()
    wanted = train(straight, (pairs(), pairs(16)), RECIPE, task=Regression(), progress=False)
    assert wanted.final.metric == "minus_error"
    assert wanted.final.test_score > wanted.epochs[0].test_score
    assert wanted.best.test_score == max(row.test_score for row in wanted.epochs)

    class Stop(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 7:
            raise Stop

    arguments = {"task": Regression(), "folder": tmp_path, "progress": False, "checkpoint_steps": 1}
    with pytest.raises(Stop):
        train(resumed, (pairs(), pairs(16)), RECIPE, on_step=stop, **arguments)
    got = train(Sum(), (pairs(), pairs(16)), RECIPE, resume=True, **arguments)
    assert [row._replace(seconds=0) for row in got.epochs] == [row._replace(seconds=0) for row in wanted.epochs]
    with (tmp_path / "log.csv").open(newline="") as file:
        head = next(csv.reader(file))
    measured = [f"{part}_{name}" for part in ("train", "test") for name in ("loss", "minus_error")]
    assert head == ["epoch", "step", "learning_rate", *measured, "seconds"]


def test_the_log_of_a_run_resumed_before_its_first_epoch_names_the_metric(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        raise Stop

    for resume in (False, True):
        with pytest.raises(Stop):
            train(
                Sum(), (pairs(), pairs(16)), RECIPE, task=Regression(), folder=tmp_path, progress=False,
                resume=resume, on_step=stop,
            )  # fmt: skip
    assert "train_minus_error" in (tmp_path / "log.csv").read_text()


def test_accuracy_is_told_of_classifications_alone() -> None:
    row = train(Sum(), (pairs(), pairs(16)), RECIPE, task=Regression(), progress=False).final
    for name in ("train_accuracy", "test_accuracy"):
        with pytest.raises(AttributeError, match="no accuracy but minus_error; read train_score and test_score"):
            getattr(row, name)


def test_scores_and_losses_are_means_over_examples() -> None:
    model, data = Sum().eval(), pairs(13)
    found = evaluate(model, (data, DataLoader(data, 5)), task=Regression())
    left, right, wanted = data.tensors
    error = model(left, right).detach() - wanted
    assert found.score == pytest.approx(-float(error.abs().mean()), rel=1e-5)
    assert found.loss == pytest.approx(float(error.square().mean()), rel=1e-5)


def test_a_task_may_judge_a_set_as_a_whole() -> None:
    class Largest(Regression):
        def evaluate(self, model: Callable[..., Any], batches: Any) -> Evaluation:
            worst = max(float((model(a, b) - c).abs().max()) for a, b, c in batches)
            return Evaluation(worst, -worst)

    history = train(Sum(), (pairs(), pairs(16)), RECIPE, task=Largest(), progress=False)
    assert all(row.test_loss == -row.test_score for row in history.epochs)


def test_a_resumed_run_has_the_same_task(tmp_path: Path) -> None:
    data = (pairs(), pairs(16))
    train(Sum(), data, RECIPE, task=Regression(), folder=tmp_path, progress=False)
    for other in (Regression(weight=2.0), None):
        with pytest.raises(CheckpointError, match=r"task was 'Regression\(weight=1.0\)', is"):
            train(Sum(), data, RECIPE, task=other, folder=tmp_path, resume=True, progress=False)


@pytest.mark.parametrize(
    ("recipe", "task", "kind", "message"),
    [
        (Recipe(epochs=1, loss=SquaredHinge()), Regression(), ValueError, "a task has its own loss; leave them out"),
        (RECIPE, "regression", TypeError, "task must be a Task; got str"),
        (RECIPE, NextToken(), TypeError, r"must give tokens, one integer tensor \[batch, length\]; got torch.float32"),
        (RECIPE, Classification(), TypeError, r"must give \(inputs, labels\), both tensors; got"),
    ],
)
def test_what_does_not_fit_is_refused(recipe: Recipe, task: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        train(Sum(), (pairs(), pairs(16)), recipe, task=task, progress=False)


def test_a_task_and_a_teacher_exclude_each_other(few: ImageData, mlp: type[nn.Module]) -> None:
    recipe = Recipe(epochs=1, distillation=Distillation())
    with pytest.raises(ValueError, match="a task has its own loss; leave them out"):
        train(mlp(), few, recipe, teacher=mlp(), task=Classification(), progress=False)
    with pytest.raises(ValueError, match="a task has its own loss; leave out one of them"):
        evaluate(mlp(), few, loss=SquaredHinge(), task=Classification())


def test_the_classification_of_a_recipe_is_a_task_as_others_are(few: ImageData, mlp: type[nn.Module]) -> None:
    own = train(mlp(), few, Recipe(epochs=1, batch_size=32), progress=False).final
    same = train(mlp(), few, Recipe(epochs=1, batch_size=32), task=Classification(), progress=False).final
    assert same._replace(seconds=0) == own._replace(seconds=0)


# -- language ----------------------------------------------------------------------------------------------


def sequences(count: int) -> DataLoader[Any]:
    """Sequences in which each token is the one before it plus one."""
    starts = torch.arange(count) % 7
    tokens = (starts[:, None] + torch.arange(9)) % 7
    return DataLoader(tokens, batch_size=10)  # type: ignore[arg-type]


class Bigram(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(7, 16), BinaryLinear(16, 7, method=binary.XNORNet)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens))


def test_the_next_token_is_learned() -> None:
    model = Bigram()
    before = evaluate(model, (sequences(20), sequences(20)), task=NextToken())
    tokens = next(iter(DataLoader(sequences(20).dataset, 20)))
    logits = model.eval()(tokens[:, :-1]).detach()
    assert before.loss == pytest.approx(float(F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())), rel=1e-5)
    recipe = Recipe(epochs=20, batch_size=10, learning_rate=0.05)
    after = train(model, (sequences(20), sequences(20)), recipe, task=NextToken(), progress=False).final
    assert after.metric == "token_accuracy"
    assert after.test_score == 1.0
    assert math.exp(after.test_loss) < math.exp(before.loss) / 2


def test_two_stages_take_a_task() -> None:
    recipe = Recipe(epochs=2, batch_size=10)
    history = train_two_stage(
        Bigram(), (sequences(20), sequences(20)), recipe, recipe, task=NextToken(), progress=False
    )
    assert {row.metric for row in (*history.first.epochs, *history.second.epochs)} == {"token_accuracy"}


def test_other_logits_and_short_sequences_are_refused() -> None:
    data = (sequences(20), sequences(20))
    with pytest.raises(ValueError, match=r"NextToken: the model must return logits \[10, 8, 'vocabulary'\]; got"):
        evaluate(lambda tokens: torch.zeros(len(tokens), 7), data, task=NextToken())
    short = DataLoader(torch.zeros(4, 1, dtype=torch.int64), 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"sequences of at least 2 tokens; got \[2, 1\]"):
        evaluate(Bigram(), (short, short), task=NextToken())
