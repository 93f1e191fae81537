# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from bittern.data import ImageData
from bittern.train import History, Recipe, train
from bittern.train.checkpoint import save_checkpoint

RECIPE = Recipe(epochs=3, batch_size=32)


class Crash(Exception):
    pass


def crash_at_5(step: int, loss: float) -> None:
    if step == 5:
        raise Crash


@pytest.fixture(params=["straight", "resumed"])
def logged(
    request: pytest.FixtureRequest, few: ImageData, mlp: type[nn.Module], tmp_path: Path
) -> tuple[Path, History]:
    """A run of 3 epochs of 3 steps; the resumed one has done step 4 and 5 twice."""
    resumed = request.param == "resumed"
    if resumed:
        with pytest.raises(Crash):
            train(mlp(), few, RECIPE, folder=tmp_path, progress=False, on_step=crash_at_5)
    return tmp_path, train(mlp(), few, RECIPE, folder=tmp_path, resume=resumed, progress=False)


def test_csv_has_one_row_per_epoch(logged: tuple[Path, History]) -> None:
    folder, history = logged
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    scores = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    assert rows[0] == ["epoch", "step", "learning_rate", *scores, "seconds"]
    assert [[float(cell) for cell in row] for row in rows[1:]] == [list(row.named().values()) for row in history.epochs]


def test_tensorboard_has_each_step_and_epoch_once(logged: tuple[Path, History]) -> None:
    folder, history = logged
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("step/loss")] == list(range(1, 10))
    assert [event.step for event in events.Scalars("step/learning_rate")] == list(range(1, 10))
    for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        logged_values = [(event.step, event.value) for event in events.Scalars(f"epoch/{name}")]
        assert logged_values == [(row.step, pytest.approx(getattr(row, name), rel=1e-6)) for row in history.epochs]


def test_an_epoch_that_was_logged_and_not_saved_stands_once(
    few: ImageData, mlp: type[nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[int] = []

    def killed(*arguments: Any) -> None:
        if len(saves) == 2:
            raise Crash
        saves.append(1)
        save_checkpoint(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("bittern.train.loop.save_checkpoint", killed)
        with pytest.raises(Crash):
            train(mlp(), few, RECIPE, folder=tmp_path, progress=False)
    history = train(mlp(), few, RECIPE, folder=tmp_path, resume=True, progress=False)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("epoch/test_loss")] == [3, 6, 9]
    assert [event.step for event in events.Scalars("step/loss")] == list(range(1, 10))
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + len(history.epochs)


def test_without_a_folder_nothing_is_written(
    few: ImageData, mlp: type[nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(mlp(), few, RECIPE, progress=False)
    assert list(tmp_path.iterdir()) == []
