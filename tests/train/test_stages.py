# SPDX-License-Identifier: Apache-2.0
"""Training in several stages, with earlier ones as starts and teachers."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from bittern import models
from bittern.binary import BiPer, BiT, RealToBinary
from bittern.binary.attention import ElasticAttention
from bittern.data import ImageData
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.recipes import biper_stages, bit_stages, real_to_binary_stages
from bittern.train import (
    AttentionMatching,
    Distillation,
    LogitsMatching,
    Recipe,
    Stage,
    load_weights,
    start_from,
    tanh_operands,
    train_stages,
    use_tanh_operands,
)
from bittern.train.checkpoint import FILE_NAME

PLAIN = Recipe(epochs=1, batch_size=32, learning_rate=0.01)
TAUGHT = dataclasses.replace(PLAIN, losses=(AttentionMatching(points=("block",)), LogitsMatching()))
STAGES = (
    Stage(name="real", recipe=PLAIN, operands="tanh"),
    Stage(name="inputs", recipe=TAUGHT, operands="real_weights", teacher="real"),
    Stage(name="binary", recipe=dataclasses.replace(TAUGHT, epochs=2), start="inputs", teacher="inputs"),
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, 8, 3, 2, 1)
        self.block = BinaryConv2d(8, 8, 3, padding=1, method=RealToBinary)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.block(self.stem(x)).mean((2, 3)))
        return out


class Stop(Exception):
    pass


def test_stages_start_teach_and_resume_exactly(few: ImageData, tmp_path: Path) -> None:
    whole = Net()
    histories = train_stages(whole, few, STAGES, folder=tmp_path / "whole", progress=False)
    assert [len(history.epochs) for history in histories] == [1, 1, 2]
    assert histories[0].final.losses == ()
    assert list(dict(histories[1].final.losses)) == ["task", "attention", "logits"]
    assert type(whole.block.method) is RealToBinary
    steps: list[int] = []

    def crash(step: int, loss: float) -> None:
        steps.append(step)
        if len(steps) == 8:  # 3 of the first, 3 of the second, 2 of the last
            raise Stop

    options: dict[str, Any] = {"folder": tmp_path / "parts", "progress": False, "checkpoint_steps": 2}
    with pytest.raises(Stop):
        train_stages(Net(), few, STAGES, on_step=crash, **options)
    with pytest.raises(FileExistsError, match="real holds a checkpoint; continue it"):
        train_stages(Net(), few, STAGES, **options)
    longer = (dataclasses.replace(STAGES[0], recipe=dataclasses.replace(PLAIN, epochs=2)), *STAGES[1:])
    with pytest.raises(ValueError, match="stage 'inputs' began after 1 epochs of 'real'"):
        train_stages(Net(), few, longer, resume=True, **options)
    model = Net()
    resumed = train_stages(model, few, STAGES, resume=True, **options)
    assert [h.final.losses for h in resumed] == [h.final.losses for h in histories]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole.parameters(), strict=True))


def test_the_last_stage_starts_from_the_weights_of_its_start(few: ImageData, tmp_path: Path) -> None:
    still = dataclasses.replace(TAUGHT, learning_rate=1e-30, optimizer=torch.optim.SGD, clip_latent=False)
    model = Net()
    stages = (*STAGES[:2], dataclasses.replace(STAGES[2], recipe=still))
    train_stages(model, few, stages, folder=tmp_path, progress=False)
    before = Net()
    load_weights(before, tmp_path / "inputs" / FILE_NAME)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))


def test_tanh_operands_are_the_network_without_signs() -> None:
    torch.manual_seed(0)
    model, x = Net(), torch.randn(2, 8, 4, 4)
    expected = nn.functional.conv2d(x.tanh(), model.block.weight, None, padding=1) * model.block.method.gate(x)
    made = BinaryConv2d(8, 8, 3, padding=1, method=tanh_operands(RealToBinary))
    made.load_state_dict(model.block.state_dict())
    names = model.state_dict().keys()
    assert torch.equal(made(x), expected)
    assert torch.equal(use_tanh_operands(model).block(x), expected)
    assert model.state_dict().keys() == names
    with pytest.raises(ValueError, match="use_tanh_operands: the model has no low-bit layer"):
        use_tanh_operands(nn.Linear(2, 2))


def test_the_papers_stages() -> None:
    real, inputs, last = real_to_binary_stages(epochs=15)
    assert [s.recipe.learning_rate for s in (real, inputs, last)] == [1e-3, 1e-3, 2e-4]
    assert [s.recipe.weight_decay for s in (real, inputs, last)] == [2e-5, 2e-5, 0.0]
    assert [s.teacher for s in (real, inputs, last)] == ["given", "real", "inputs"]
    assert [[(type(v).__name__, v.weight) for v in s.recipe.losses] for s in (inputs, last)] == [
        [("AttentionMatching", 30.0), ("LogitsMatching", 3.0)],
        [("LogitsMatching", 0.8)],
    ]
    # of 15 epochs one of warm-up, and 0.3 more from the 8th, 12th and 14th on
    rates = [last.recipe.schedule(step, 1500) for step in (100, 799, 800, 1199, 1200, 1399, 1400)]
    assert rates == [1.0, 1.0, 0.3, 0.3, 0.09, 0.09, 0.027]
    assert real_to_binary_stages(teacher_points=None)[0].recipe.losses == ()
    with pytest.raises(ValueError, match="teacher_points are 8 names"):
        real_to_binary_stages(teacher_points=("layer1",))
    _, inputs, _ = real_to_binary_stages(points=("a", "b"), teacher_points=None)
    assert [loss.pairs for loss in inputs.recipe.losses] == [(("a", "a"), ("b", "b")), (("", ""),)]
    _, inputs, _ = real_to_binary_stages(points=(), teacher_points=None)
    assert [loss.name for loss in inputs.recipe.losses] == ["logits"]


def test_bipers_stages() -> None:
    waves, last = biper_stages(epochs=4, batch_size=32)
    assert [(s.recipe.learning_rate, s.recipe.weight_decay) for s in (waves, last)] == [
        (0.021, 1.6e-3),
        (3.7e-3, 1.6e-4),
    ]
    assert [[(v.name, v.weight) for v in s.recipe.losses] for s in (waves, last)] == [
        [("waves", 0.037)],
        [("waves", 0.0468)],
    ]
    assert (waves.start, last.start, waves.teacher, last.teacher) == (None, "waves", None, None)
    assert callable(waves.operands)
    layer = BinaryLinear(6, 3, method=BiPer)
    x, w = torch.randn(4, 6), layer.weight
    model = nn.Sequential(layer)
    signs = model(x)
    assert waves.operands(model) is model
    assert layer.method.stage == 1
    assert not torch.equal(model(x), signs)
    with pytest.raises(ValueError, match="use_real_waves: the model has no layer of BiPer"):
        waves.operands(nn.Linear(2, 2))
    assert layer.weight is w


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((), "stages need names of their own, one at least"),
        ((STAGES[0], STAGES[0]), "stages need names of their own"),
        (STAGES[:1], "the last stage trains the model itself, so its operands are 'low_bit'; got 'tanh'"),
        (STAGES[2:], "stage 'binary' has start='inputs', and no stage before it is called so"),
        ((Stage(name="a", recipe=TAUGHT, teacher="given"),), r"a given teacher are \['a'\]; got teacher=None"),
    ],
)
def test_stages_that_do_not_fit(few: ImageData, stages: tuple[Stage, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_stages(Net(), few, stages, progress=False)
    with pytest.raises(ValueError, match="Stage: operands must be one of"):
        Stage(name="a", recipe=PLAIN, operands="float")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Stage: name must be of"):
        Stage(name="A/b", recipe=PLAIN)


def test_bit_learns_in_two_steps_from_a_real_network() -> None:
    """Two bits of inputs first; labels count nothing; the last network has signs, and starts from the first step's."""
    sizes: dict[str, Any] = {"words": 9, "num_classes": 2, "context": 4, "width": 8, "heads": 2, "blocks": 2}
    torch.manual_seed(0)
    teacher, model = models.text_encoder(None, **sizes), models.text_encoder(BiT, **sizes)
    tokens = torch.randint(0, 9, (16, 4))
    begun = start_from(models.text_encoder(BiT, **sizes, attention=ElasticAttention), teacher).state_dict()
    assert all(torch.equal(begun[name], value) for name, value in teacher.state_dict().items())
    with pytest.raises(ValueError, match=r"TextEncoder is not the same network .*'words\.weight' is not in"):
        start_from(model, models.text_encoder(None, **(sizes | {"words": 10})))
    with pytest.raises(ValueError, match=r"start_from: .*'widen\.weight' is not in both"):
        start_from(models.text_encoder(BiT, **sizes, word_width=8), teacher)
    data = (TensorDataset(tokens, torch.arange(16) % 2), TensorDataset(tokens, torch.arange(16) % 2))
    stages = bit_stages(("blocks.0", "blocks.1"), epochs=1, batch_size=8)
    assert [(s.start, s.teacher) for s in stages] == [(None, "given"), ("two_bits", "two_bits")]
    assert all(s.recipe.distillation == Distillation() for s in stages)
    first = stages[0].made(copy.deepcopy(model))
    assert {m.input_bits for m in first.modules() if isinstance(m, BiT)} == {2}
    histories = train_stages(model, data, stages, teacher=teacher, progress=False)
    assert [dict(history.final.losses).keys() for history in histories] == [{"task": 0, "hidden": 0}.keys()] * 2
    assert {m.input_bits for m in model.modules() if isinstance(m, BiT)} == {1}
    assert all(m.started[1] for m in model.modules() if isinstance(m, BiT))
    with pytest.raises(ValueError, match="operands must be one of 'tanh', 'real_weights', 'low_bit', or a function"):
        Stage(name="a", recipe=PLAIN, operands="half")  # type: ignore[arg-type]
