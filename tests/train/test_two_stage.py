# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bittern.data import ImageData
from bittern.train import CheckpointError, Recipe, load_weights, train_two_stage
from bittern.train.checkpoint import FILE_NAME

FIRST = Recipe(epochs=1, batch_size=32, learning_rate=0.01, seed=1)
SECOND = Recipe(epochs=2, batch_size=32, learning_rate=0.005, seed=2)
STEPS = 3
"""Steps of an epoch over the 96 examples of `few`."""


class Stop(Exception):
    pass


def stop_at(count: int) -> Any:
    """A callback that raises at its count-th call: a crash."""
    calls = []

    def on_step(step: int, loss: float) -> None:
        calls.append(step)
        if len(calls) == count:
            raise Stop

    return on_step


def test_second_stage_starts_from_the_weights_of_the_first(
    few: ImageData, mlp: type[nn.Module], tmp_path: Path
) -> None:
    # a rate so small that no float32 weight moves
    still = dataclasses.replace(SECOND, learning_rate=1e-30, optimizer=torch.optim.SGD, clip_latent=False)
    model = mlp()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    history = train_two_stage(model, few, FIRST, still, folder=tmp_path, progress=False)
    first = mlp()
    load_weights(first, tmp_path / "stage1" / FILE_NAME)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, first.get_parameter(name)), name
        assert not torch.equal(parameter, before[name]), name
    assert [row.epoch for row in history.first.epochs] == [1]
    assert [row.epoch for row in history.second.epochs] == [1, 2]


def test_first_stage_has_real_weights(few: ImageData, mlp: type[nn.Module], tmp_path: Path) -> None:
    """Its loss depends on the size of latent weights, of which a BNN knows only the sign."""
    losses = []
    for size in (1.0, 3.0):
        model = mlp()
        with torch.no_grad():
            model[3].weight.mul_(size)
            model[4].eps = 1e3  # or BN would undo the size
        steps: list[float] = []
        train_two_stage(model, few, FIRST, SECOND, progress=False, on_step=lambda _, loss, to=steps: to.append(loss))
        losses.append(steps[0])
    assert losses[0] != losses[1]


@pytest.mark.parametrize("crash", [2, STEPS + 2, STEPS + STEPS + 1])
def test_resume_in_either_stage_gives_the_same_weights(
    few: ImageData, mlp: type[nn.Module], tmp_path: Path, crash: int
) -> None:
    straight = mlp()
    wanted = train_two_stage(straight, few, FIRST, SECOND, progress=False)
    with pytest.raises(Stop):
        train_two_stage(mlp(), few, FIRST, SECOND, folder=tmp_path, progress=False, on_step=stop_at(crash))
    resumed = mlp(seed=9)
    got = train_two_stage(resumed, few, FIRST, SECOND, folder=tmp_path, resume=True, progress=False)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert [row._replace(seconds=0) for row in got.second.epochs] == [
        row._replace(seconds=0) for row in wanted.second.epochs
    ]


def test_more_epochs_of_the_second_stage_extend_it(few: ImageData, mlp: type[nn.Module], tmp_path: Path) -> None:
    train_two_stage(mlp(), few, FIRST, SECOND, folder=tmp_path, progress=False)
    steps: list[float] = []
    longer = dataclasses.replace(SECOND, epochs=3)
    got = train_two_stage(
        mlp(seed=9),
        few,
        FIRST,
        longer,
        folder=tmp_path,
        resume=True,
        progress=False,
        on_step=lambda _, loss: steps.append(loss),
    )
    assert len(steps) == STEPS, "the first stage and two epochs of the second are done"
    assert [row.epoch for row in got.second.epochs] == [1, 2, 3]


def test_the_first_stage_grows_only_before_the_second(few: ImageData, mlp: type[nn.Module], tmp_path: Path) -> None:
    longer = dataclasses.replace(FIRST, epochs=2)
    with pytest.raises(Stop):
        train_two_stage(mlp(), few, FIRST, SECOND, folder=tmp_path, progress=False, on_step=stop_at(2))
    history = train_two_stage(mlp(), few, longer, SECOND, folder=tmp_path, resume=True, progress=False)
    assert [row.epoch for row in history.first.epochs] == [1, 2]
    before = (tmp_path / "stage1" / FILE_NAME).read_bytes()
    with pytest.raises(ValueError, match=r"began after 2 epochs of the first .* got first\.epochs=3; leave them"):
        train_two_stage(
            mlp(),
            few,
            dataclasses.replace(FIRST, epochs=3),
            SECOND,
            folder=tmp_path,
            resume=True,
            progress=False,
        )
    assert (tmp_path / "stage1" / FILE_NAME).read_bytes() == before


def test_does_not_write_over_a_run(few: ImageData, mlp: type[nn.Module], tmp_path: Path) -> None:
    train_two_stage(mlp(), few, FIRST, SECOND, folder=tmp_path, progress=False)
    with pytest.raises(FileExistsError, match="resume=True"):
        train_two_stage(mlp(), few, FIRST, SECOND, folder=tmp_path, progress=False)


def test_another_model_does_not_load(few: ImageData, mlp: type[nn.Module], tmp_path: Path) -> None:
    train_two_stage(mlp(), few, FIRST, SECOND, folder=tmp_path, progress=False)
    with pytest.raises(CheckpointError, match="another model"):
        load_weights(mlp(width=64), tmp_path / "stage1" / FILE_NAME)


def test_needs_a_low_bit_layer(few: ImageData) -> None:
    with pytest.raises(ValueError, match="no low-bit layer"):
        train_two_stage(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), few, FIRST, SECOND, progress=False)
