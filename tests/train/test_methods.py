# SPDX-License-Identifier: Apache-2.0
"""Every binary method through the loop: its buffers, noise and schedules resume, and its stages load strictly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from _binary import METHODS
from bittern.data import ImageData
from bittern.nn import BinaryConv2d
from bittern.quantizer import Method
from bittern.train import Recipe, train, train_two_stage

RECIPE = Recipe(epochs=2, batch_size=32, learning_rate=0.01)


class Crash(Exception):
    pass


def build(method: Method, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        BinaryConv2d(8, 8, 3, stride=2, padding=1, method=method),
        nn.BatchNorm2d(8),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 10),
    )


def assert_same(got: nn.Module, wanted: nn.Module) -> None:
    for name, value in wanted.state_dict().items():
        assert torch.equal(got.state_dict()[name], value), name


def settled(method: Method, data: ImageData, seed: int = 0) -> nn.Sequential:
    """A model whose lazily sized parameters, if it has any, have their size."""
    model = build(method, seed)
    with torch.no_grad():
        model.eval()(data.test_images[:2])
    return model.train()


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_resume_is_exact(few: ImageData, tmp_path: Path, method: Method) -> None:
    def on_step(step: int, loss: float) -> None:
        if step == 5:
            raise Crash

    wanted, resumed = settled(method, few), settled(method, few, seed=1)
    train(wanted, few, RECIPE, progress=False)
    with pytest.raises(Crash):
        train(settled(method, few), few, RECIPE, folder=tmp_path, checkpoint_steps=2, progress=False, on_step=on_step)
    train(resumed, few, RECIPE, folder=tmp_path, resume=True, progress=False)
    assert_same(resumed, wanted)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_two_stages(few: ImageData, method: Method) -> None:
    model, names = settled(method, few), list(settled(method, few).state_dict())
    history = train_two_stage(model, few, RECIPE, RECIPE, progress=False)
    assert list(model.state_dict()) == names
    assert history.second.final.step == 6
