# SPDX-License-Identifier: Apache-2.0
"""Losses beside the task's: by hand, without a gradient into the teacher, in train(), resumed, in bfloat16."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern.binary import BNN
from bittern.data import ImageData
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.train import (
    AddedLoss,
    AttentionMatching,
    CheckpointError,
    DirectionMatching,
    Distillation,
    HiddenMatching,
    KurtosisRegularizer,
    LogitsMatching,
    Recipe,
    Seen,
    SignRegularizer,
    WaveRegularizer,
    train,
)
from bittern.train.checkpoint import FILE_NAME


def seen(student: Tensor, teacher: Tensor, name: str = "a") -> Seen:
    return Seen(nn.Identity(), {name: student}, {name: teacher})


def test_attention_by_hand() -> None:
    """Two pixels, two channels: Q_s = (12.5, 0) of (3, 4), Q_t = (0.5, 0.5); a second sample that is equal."""
    student = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]], [[[1.0, 2.0]], [[1.0, 2.0]]]])
    teacher = torch.tensor([[[[1.0, 0.0]], [[0.0, -1.0]]], [[[2.0, 4.0]], [[-2.0, 4.0]]]])
    both = seen(student, teacher)
    # |(1, 0) - (1, 1) / sqrt 2|^2 = 2 - sqrt 2, halved by the second sample
    paper = AttentionMatching(points=("a",))(both)
    assert float(paper) == pytest.approx(math.sqrt(2 - math.sqrt(2)) / 2, rel=1e-6)
    # (1, 0) - (1, 1): a mean of squares of 1/2, halved
    assert float(AttentionMatching(points=("a",), form="larq")(both)) == pytest.approx(0.25, rel=1e-6)
    twice = AttentionMatching(points=("a", ("a", "a")))(both)
    assert float(twice) == pytest.approx(2 * float(paper), rel=1e-6)
    wide = seen(student, torch.cat((teacher, teacher), 1))
    assert float(AttentionMatching(points=("a",))(wide)) == pytest.approx(float(paper), rel=1e-6)


def test_hidden_by_hand() -> None:
    """Squares of (1, 0, 2) over three numbers, and of a second point (3) over one."""
    both = Seen(
        nn.Identity(),
        {"a": torch.tensor([[1.0, 2.0, 3.0]]), "b": torch.tensor([[5.0]])},
        {"a": torch.tensor([[0.0, 2.0, 5.0]]), "c": torch.tensor([[2.0]])},
    )
    assert float(HiddenMatching(points=("a",))(both)) == pytest.approx(5 / 3)
    assert float(HiddenMatching(points=("a", ("b", "c")))(both)) == pytest.approx(5 / 3 + 9)
    with pytest.raises(ValueError, match=r"'a' gives \[1, 3\], and the teacher's 'c' \[1, 1\]"):
        HiddenMatching(points=(("a", "c"),))(both)


def test_logits_by_hand() -> None:
    student, teacher = torch.tensor([[0.0, 0.0], [1.0, 3.0]]), torch.tensor([[math.log(9.0) * 2, 0.0], [1.0, 3.0]])
    p = (0.9, 0.1)
    divergence = sum(q * math.log(q / 0.5) for q in p)
    found = LogitsMatching(temperature=2.0)(seen(student, teacher, ""))
    assert float(found) == pytest.approx(4 * divergence / 2, rel=1e-5)
    # the gradient of Distillation, whose value differs by the teacher's entropy
    grads = []
    matching, distillation = LogitsMatching(temperature=3.0), Distillation(1.0, 3.0)
    for loss in (lambda z: matching(seen(z, teacher, "")), lambda z: distillation(z, teacher)):
        z = student.clone().requires_grad_()
        loss(z).backward()
        grads.append(z.grad)
    torch.testing.assert_close(*grads)


def test_directions_by_plain_loops() -> None:
    torch.manual_seed(0)
    tokens, heads = 3, 2
    student, teacher = torch.randn(2, tokens, 4), torch.randn(2, tokens, 6)

    def flat(x: Tensor) -> list[float]:
        p = [
            math.fsum(float(v) for v in part[i] * part[j])
            for sample in x
            for part in sample.chunk(heads, 1)
            for i in range(tokens)
            for j in range(tokens)
        ]
        norm = math.sqrt(math.fsum(v * v for v in p))
        return [v / norm for v in p]

    expected = math.dist(flat(student), flat(teacher))
    alike = DirectionMatching(points=("a",), heads=heads)
    assert float(alike(seen(student, teacher))) == pytest.approx(expected, rel=1e-5)
    hidden = DirectionMatching(points=("a",), heads=None)
    assert float(hidden(seen(student, 3 * student))) == pytest.approx(0.0, abs=1e-6)
    assert float(hidden(seen(student, -student))) == pytest.approx(2.0, rel=1e-6)


def test_zeros_match_without_nan() -> None:
    zeros = torch.zeros(2, 3, 4)
    losses: tuple[AddedLoss, ...] = (
        AttentionMatching(points=("a",)),
        AttentionMatching(points=("a",), form="larq"),
        DirectionMatching(points=("a",), heads=2),
    )
    for loss in losses:
        for teacher in (zeros, torch.ones(2, 3, 4)):
            student = zeros.clone().requires_grad_()
            found = loss(seen(student, teacher))
            found.backward()
            assert math.isfinite(float(found.detach()))
            assert student.grad is not None
            assert student.grad.isfinite().all()


def test_regularizers_by_hand() -> None:
    layer = BinaryLinear(2, 2, method=BNN)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -1.0], [2.0, -3.0]]))
    model = nn.Sequential(layer, nn.Linear(2, 2))
    alone = Seen(model, {}, {})
    assert float(SignRegularizer()(alone).detach()) == pytest.approx(0.5 + 0 + 1 + 2)
    assert float(SignRegularizer(power=2, alpha=0.5)(alone).detach()) == pytest.approx(0 + 0.25 + 2.25 + 6.25)
    w = (0.5, -1.0, 2.0, -3.0)
    waves = sum(math.sin(2 * v) ** 2 for v in w) / 4
    assert float(WaveRegularizer(frequency=2)(alone).detach()) == pytest.approx(waves, rel=1e-5)
    with torch.no_grad():  # multiples of pi / frequency cost nothing, and layers add up
        twice = nn.Sequential(layer, BinaryLinear(2, 1, method=BNN))
        twice[1].weight.fill_(math.pi / 4)
    assert float(WaveRegularizer(frequency=2)(Seen(twice, {}, {})).detach()) == pytest.approx(waves + 1, rel=1e-5)
    mean = sum(w) / 4
    variance = sum((v - mean) ** 2 for v in w) / 3
    k = sum((v - mean) ** 4 for v in w) / 4 / variance**2
    assert float(KurtosisRegularizer()(alone).detach()) == pytest.approx((k - 1.8) ** 2, rel=1e-5)
    (grad,) = torch.autograd.grad(SignRegularizer()(alone), layer.weight)
    assert grad.tolist() == [[-1.0, 0.0], [1.0, -1.0]], "toward -1 and 1; none at them"
    with torch.no_grad():
        layer.weight.fill_(0.5)
    assert float(KurtosisRegularizer()(alone).detach()) == pytest.approx(1.8**2)
    with pytest.raises(ValueError, match="KurtosisRegularizer: the model has no low-bit layer"):
        KurtosisRegularizer()(Seen(nn.Linear(2, 2), {}, {}))


class Net(nn.Module):
    """Two blocks with points of attention, on the digits."""

    def __init__(self, seed: int = 0, width: int = 8, binary: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(1, width, 3, 2, 1)
        sizes = (width, width, 3, 1, 1)
        self.block = BinaryConv2d(*sizes, method=BNN) if binary else nn.Conv2d(*sizes)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.block(self.stem(x))).mean((2, 3)))
        return out


LOSSES = (
    AttentionMatching(points=("stem", ("norm", "block")), weight=3.0),
    LogitsMatching(weight=0.5, temperature=2.0),
    KurtosisRegularizer(weight=0.01),
)


def recipe(**changes: Any) -> Recipe:
    return Recipe(**({"epochs": 2, "batch_size": 32, "learning_rate": 0.01, "losses": LOSSES} | changes))


class Stop(Exception):
    pass


def test_a_run_sums_them_by_name_resumes_exactly_and_leaves_the_teacher(few: ImageData, tmp_path: Path) -> None:
    teacher = Net(1, width=12, binary=False).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    whole = Net()
    history = train(whole, few, recipe(), teacher=teacher, folder=tmp_path / "whole", progress=False)
    assert teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for net in (teacher, whole) for m in net.modules())
    for row in history.epochs:
        named = dict(row.losses)
        assert list(named) == ["task", "attention", "logits", "kurtosis"]
        assert all(value > 0 for value in named.values())
        assert sum(named.values()) == pytest.approx(row.train_loss, rel=1e-5)
    with (tmp_path / "whole" / "log.csv").open() as file:
        header, *rows = list(csv.reader(file))
    assert header[-4:] == ["train_loss_task", "train_loss_attention", "train_loss_logits", "train_loss_kurtosis"]
    assert [float(v) for v in rows[1]] == list(history.final.named().values())

    def crash(step: int, loss: float) -> None:
        if step == 5:
            raise Stop

    model, folder = Net(), tmp_path / "parts"
    options: dict[str, Any] = {"teacher": teacher, "folder": folder, "progress": False, "checkpoint_steps": 2}
    with pytest.raises(Stop):
        train(model, few, recipe(), on_step=crash, **options)
    with pytest.raises(CheckpointError, match="is from another run: losses was"):
        train(Net(), few, recipe(losses=LOSSES[:1]), resume=True, **options)
    resumed = train(model, few, recipe(), resume=True, **options)
    assert [row.losses for row in resumed.epochs] == [row.losses for row in history.epochs]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole.parameters(), strict=True))


def test_bfloat16_gives_nearly_the_same_losses(few: ImageData) -> None:
    teacher = Net(1, binary=False)
    wide = train(Net(), few, recipe(epochs=1), teacher=teacher, progress=False)
    mixed = train(Net(), few, recipe(epochs=1, precision="bf16-mixed"), teacher=teacher, progress=False)
    for (name, a), (_, b) in zip(wide.final.losses, mixed.final.losses, strict=True):
        assert a != b or name == "kurtosis"
        assert a == pytest.approx(b, rel=0.2)


def test_what_does_not_fit_is_refused(few: ImageData, tmp_path: Path) -> None:
    teacher = Net(1, binary=False)

    def refused(message: str, *losses: AddedLoss, teacher: nn.Module | None = teacher) -> None:
        with pytest.raises(ValueError, match=message):
            train(Net(), few, recipe(losses=losses), teacher=teacher, folder=tmp_path / "none", progress=False)

    def at(*points: Any) -> AddedLoss:
        return AttentionMatching(points=points)

    refused("looks at module 'blok', and the model has none of that name; near it are 'block'", at("blok"))
    refused("'norn', and the teacher has none of that name", at(("norm", "norn")))
    refused("attention compares the model with a teacher; give train", at("norm"), teacher=None)
    refused("a teacher and recipe.distillation, or losses that compare", KurtosisRegularizer())
    assert not (tmp_path / "none" / FILE_NAME).exists()
    teacher.stem.stride = (1, 1)
    wrong = r"'norm' gives \[32, 8, 4, 4\], and the teacher's 'norm' \[32, 8, 8, 8\]; name modules whose outputs"
    for message, loss in (
        (wrong, at("norm")),
        (r"'head' gives \[32, 10\], which has no space", at("head")),
        ("module 'spare' of the model ran 0 times in a step", at(("spare", "norm"))),
    ):
        model = Net()
        model.spare = nn.Linear(2, 2)
        with pytest.raises(ValueError, match=message):
            train(model, few, recipe(losses=(loss,)), teacher=teacher, progress=False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AttentionMatching(points=()), "points is empty"),
        (lambda: AttentionMatching(points=("a",), form="code"), "form must be one of"),  # type: ignore[arg-type]
        (lambda: LogitsMatching(temperature=0.0), "temperature must be above 0"),
        (lambda: LogitsMatching(weight=0.0), "weight must be above 0 and finite; got 0.0; leave it out"),
        (lambda: LogitsMatching(name="task"), "not be 'task'"),
        (lambda: DirectionMatching(points=("a",), heads=0), "heads must be at least 1"),
        (lambda: WaveRegularizer(frequency=0.0), "frequency must be above 0"),
        (lambda: SignRegularizer(power=3), "power must be 1 or 2"),
        (lambda: SignRegularizer(alpha=0.0), "alpha must be above 0"),
        (lambda: KurtosisRegularizer(target=-1.0), "target must be above 0"),
        (lambda: recipe(losses=(LogitsMatching(), LogitsMatching())), "each of losses needs a name of its own"),
    ],
)
def test_bad_options(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
    with pytest.raises(TypeError, match="points must be a tuple of names"):
        AttentionMatching(points="block")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="losses must be a tuple of added losses"):
        recipe(losses=[LogitsMatching()])
