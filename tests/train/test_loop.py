# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern.data import Batches, ImageData, RandomCropFlip, normalize
from bittern.quantizer import Quantizer
from bittern.train import Cosine, CrossEntropy, Distillation, DivergedError, Recipe, SquaredHinge, train
from bittern.train.checkpoint import FILE_NAME

Builder = type[nn.Module]


def recipe(**changes: Any) -> Recipe:
    return Recipe(**({"epochs": 1, "batch_size": 32, "learning_rate": 0.01} | changes))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def trained(model: nn.Module, data: ImageData, **options: Any) -> Tensor:
    arguments = {k: options.pop(k) for k in ("teacher", "on_step") if k in options}
    train(model, data, recipe(**options), progress=False, **arguments)
    return weights(model)


def linear(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 10))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_binary_perceptron_learns_the_digits(data: ImageData, mlp: Builder, seed: int) -> None:
    history = train(mlp(seed), data, recipe(seed=seed), progress=False)
    assert history.final.test_accuracy > 0.85  # measured: 0.93 ... 0.95; chance is 0.10


def test_history_holds_one_row_per_epoch(few: ImageData, mlp: Builder) -> None:
    seen: list[Any] = []
    model = mlp()
    history = train(model, few, recipe(epochs=3), progress=False, on_epoch=seen.append)
    assert history.epochs == tuple(seen)
    assert [(row.epoch, row.step) for row in history.epochs] == [(1, 3), (2, 6), (3, 9)]
    assert history.final.learning_rate == 0.01 * Cosine()(8, 9)
    assert history.best.test_accuracy == max(row.test_accuracy for row in history.epochs)
    assert all(row.seconds > 0 for row in history.epochs)
    assert not model.training


def test_training_figures_are_means_over_the_steps_of_their_epoch(few: ImageData) -> None:
    losses: list[float] = []
    right: list[int] = []

    class Counting(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = super().forward(x)
            if self.training:
                batch = batches.at(len(right))
                right.append(int((logits.argmax(1) == batch.labels).sum()))
            return logits

    batches = Batches(few.train_images, few.train_labels, 32, seed=0)
    model = Counting(*linear())
    history = train(model, few, recipe(epochs=2), progress=False, on_step=lambda _, loss: losses.append(loss))
    for row, start in zip(history.epochs, (0, 3), strict=True):
        assert row.train_loss == pytest.approx(sum(losses[start : start + 3]) / 3)
        assert row.train_accuracy == sum(right[start : start + 3]) / 96


def test_same_seed_same_weights_and_other_seed_other_weights(few: ImageData, mlp: Builder) -> None:
    options = {"augment": RandomCropFlip(padding=1), "epochs": 2}
    first, again, other = (trained(mlp(), few, seed=seed, **options) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_draws_inside_the_model_follow_the_seed(few: ImageData) -> None:
    def run(seed: int, before: int) -> Tensor:
        model = linear()
        model.insert(3, nn.Dropout(0.5))
        torch.manual_seed(before)
        # one step with the whole set: the order of examples has no effect beyond rounding
        return trained(model, few, seed=seed, batch_size=96)

    assert torch.equal(run(0, before=5), run(0, before=6))
    assert (run(0, before=5) - run(1, before=5)).abs().max() > 1e-3


def test_the_callers_generator_is_left_alone(few: ImageData) -> None:
    model = linear()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    trained(model, few)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, partial(torch.optim.SGD, momentum=0.9, nesterov=True)])
def test_equals_a_loop_written_out(few: ImageData, optimizer: Any) -> None:
    model, by_hand = linear(), linear()
    got = trained(model, few, epochs=2, optimizer=optimizer, weight_decay=0.1, schedule=Cosine(0.5), seed=4)
    matrices = [p for p in by_hand.parameters() if p.ndim == 2]
    vectors = [p for p in by_hand.parameters() if p.ndim == 1]
    stepper = optimizer([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=0.01)
    batches = Batches(few.train_images, few.train_labels, 32, seed=4)
    for step in range(6):
        for group in stepper.param_groups:
            group["lr"] = 0.01 * Cosine(0.5)(step, 6)
        batch = batches.at(step)
        stepper.zero_grad()
        logits = by_hand(normalize(batch.images, few.mean, few.std))
        CrossEntropy()(logits, batch.labels).backward()
        stepper.step()
    assert torch.equal(got, weights(by_hand))


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_equals_the_whole_batch(few: ImageData, parts: int) -> None:
    options = {"optimizer": torch.optim.SGD, "epochs": 3, "learning_rate": 0.1}
    whole = trained(linear(), few, **options)
    split = trained(linear(), few, accumulation_steps=parts, **options)
    torch.testing.assert_close(split, whole)
    assert not torch.equal(whole, weights(linear()))


def test_every_option_of_the_recipe_changes_the_weights(few: ImageData, mlp: Builder) -> None:
    base = trained(mlp(), few, epochs=2)
    changes: list[dict[str, Any]] = [
        {"batch_size": 16},
        {"learning_rate": 0.02},
        {"optimizer": torch.optim.SGD},
        {"schedule": Cosine(0.5)},
        {"weight_decay": 0.5},
        {"latent_weight_decay": 0.5},
        {"glorot_rates": True},
        {"loss": SquaredHinge()},
        {"loss": CrossEntropy(0.1)},
        {"augment": RandomCropFlip(padding=1)},
        {"precision": "bf16-mixed"},
        {"seed": 1},
    ]
    for change in changes:
        assert not torch.equal(base, trained(mlp(), few, epochs=2, **change)), change
    fast = {"glorot_rates": True, "learning_rate": 1.0}
    assert not torch.equal(trained(mlp(), few, **fast), trained(mlp(), few, clip_latent=False, **fast))


def test_latent_weights_are_clipped(few: ImageData, mlp: Builder) -> None:
    for clip, inside in ((True, True), (False, False)):
        model = mlp()
        trained(model, few, learning_rate=1.0, clip_latent=clip)
        latent = model.get_parameter("3.weight")
        assert bool((latent.abs() <= 1).all()) == inside


def test_schedules_of_methods_run_from_0_to_1(few: ImageData, mlp: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setattr(Quantizer, "set_progress", lambda self, t: seen.append(t))
    trained(mlp(), few, epochs=2)
    assert seen == [i / 5 for i in range(6)]
    seen.clear()
    trained(mlp(), few, batch_size=96)
    assert seen == [1.0]


def test_pure_distillation_uses_no_label(few: ImageData) -> None:
    wrong = dataclasses.replace(few, train_labels=(few.train_labels + 1) % 10)
    runs = [
        trained(linear(), data, teacher=linear(seed=1), distillation=Distillation(weight=weight))
        for weight in (1.0, 0.5)
        for data in (few, wrong)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[2], runs[3])
    assert not torch.equal(runs[0], runs[2])


def test_the_teacher_stays_as_it_was(few: ImageData, mlp: Builder) -> None:
    teacher = mlp(1).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    trained(linear(), few, teacher=teacher, distillation=Distillation())
    assert teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_a_diverging_run_stops_and_keeps_its_checkpoint(few: ImageData, tmp_path: Path) -> None:
    def poison(step: int, loss: float) -> None:
        if step == 4:
            with torch.no_grad():
                model[1].weight[0, 0] = float("nan")

    model = linear()
    with pytest.raises(DivergedError, match=r"loss is nan at step 5; try a lower learning_rate.*kept in"):
        train(model, few, recipe(epochs=2), folder=tmp_path, progress=False, on_step=poison)
    again = linear()
    history = train(again, few, recipe(epochs=2), folder=tmp_path, resume=True, progress=False)
    assert history.final.step == 6
    assert bool(weights(again).isfinite().all())


def test_broken_weights_never_replace_a_checkpoint(few: ImageData, tmp_path: Path) -> None:
    def poison(step: int, loss: float) -> None:
        if step == 2:  # running statistics do not enter the training loss, so only the check before saving can see it
            before.append((tmp_path / FILE_NAME).read_bytes())
            model.state_dict()["4.running_mean"].fill_(float("inf"))

    before: list[bytes] = []
    model = linear().append(nn.BatchNorm1d(10))
    with pytest.raises(DivergedError, match=r"4.running_mean holds NaN or infinity after step 3"):
        train(model, few, recipe(epochs=2), folder=tmp_path, checkpoint_steps=3, progress=False, on_step=poison)
    assert [(tmp_path / FILE_NAME).read_bytes()] == before


def test_broken_initial_weights(few: ImageData) -> None:
    model = linear()
    with torch.no_grad():
        model[3].bias[2] = float("inf")
    with pytest.raises(DivergedError, match=r"3.bias holds NaN or infinity after step 0"):
        trained(model, few)


def test_bf16_equals_a_loop_written_out(few: ImageData) -> None:
    model, by_hand = linear(), linear()
    # the modes that are on outside must not reach in
    with torch.autocast("cpu", enabled=False):
        got = trained(model, few, precision="bf16-mixed", optimizer=torch.optim.SGD, epochs=2)
    stepper = torch.optim.SGD(by_hand.parameters(), lr=0.01)
    batches = Batches(few.train_images, few.train_labels, 32, seed=0)
    for step in range(6):
        stepper.param_groups[0]["lr"] = 0.01 * Cosine()(step, 6)
        batch = batches.at(step)
        stepper.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = by_hand(normalize(batch.images, few.mean, few.std).bfloat16())
        CrossEntropy()(logits.float(), batch.labels).backward()
        stepper.step()
    assert torch.equal(got, weights(by_hand))


def test_full_precision_is_full_inside_an_autocast_too(few: ImageData) -> None:
    wanted = trained(linear(), few)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(trained(linear(), few), wanted)


def test_bf16_trains(data: ImageData, mlp: Builder) -> None:
    history = train(mlp(), data, recipe(precision="bf16-mixed"), progress=False)
    assert history.final.test_accuracy > 0.8


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"data": "digits"}, TypeError, "data must be ImageData, FolderData, or .train, test.*got str"),
        ({"recipe": None}, TypeError, "recipe must be Recipe; got NoneType"),
        ({"checkpoint_steps": 0, "folder": "x"}, ValueError, "checkpoint_steps must be at least 1"),
        ({"checkpoint_steps": 5}, ValueError, "need a folder"),
        ({"resume": True}, ValueError, "need a folder"),
        ({"teacher": linear()}, ValueError, "go together; got teacher=Sequential, distillation=None"),
        ({"recipe": recipe(distillation=Distillation())}, ValueError, "go together; got teacher=None"),
        ({"recipe": recipe(batch_size=97)}, ValueError, r"1 \.\.\. 96"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 7))}, ValueError, r"logits \[32, 10\].*num_classes=10"),
        ({"model": linear().requires_grad_(False)}, ValueError, "no parameter to train"),
        ({"model": linear().to("meta")}, ValueError, "got meta"),
    ],
)
def test_refuses_arguments_that_do_not_fit(
    few: ImageData, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        train(**({"model": linear(), "data": few, "recipe": recipe(), "progress": False} | changes))


def test_teacher_with_other_classes(few: ImageData) -> None:
    with pytest.raises(ValueError, match=r"got \[32, 7\]"):
        trained(linear(), few, teacher=nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), distillation=Distillation())


def test_shows_a_bar_on_stderr_only_when_asked(few: ImageData, capfd: pytest.CaptureFixture[str]) -> None:
    train(linear(), few, recipe())
    shown = capfd.readouterr()
    assert "3/3" in shown.err
    assert shown.out == ""
    train(linear(), few, recipe(), progress=False)
    assert capfd.readouterr() == ("", "")


def test_importing_the_package_is_light() -> None:
    heavy = "('tensorboard', 'rich', 'PIL')"
    code = f"import sys, bittern.train; found = [m for m in {heavy} if m in sys.modules]; assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True)
