# SPDX-License-Identifier: Apache-2.0
"""Trials by the papers' recipes: stages that teach each other, added losses, and what a trial says of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from _tracks import choice
from bittern import recipes
from bittern.bench.tracks.learning_task import LearningTask
from bittern.bench.tracks.problem import Problem
from bittern.bench.tracks.problems import DIGITS
from bittern.bench.tracks.published import differences
from bittern.bench.tracks.stages import paper_stages, settings_of
from bittern.bench.tracks.transfer_points import transfer_points
from bittern.bench.trials.groups import grouped
from bittern.bench.trials.track import Work
from bittern.bench.trials.trial import AUTHORS_RECIPE, Done, Trial
from bittern.binary import DSQ, RBNN, BiPer, BiT, RealToBinary, ReBNN
from bittern.data.digits import digits
from bittern.quantizer import Method
from bittern.train.tasks.classification import Classification

TRACK = LearningTask()


def trained(folder: Path, method: Method, name: str, **changes: object) -> tuple[Trial, Done]:
    from _tracks import done

    asked = choice(methods={name: method}, recipes=("paper",), **changes)
    trial = TRACK.plan(asked).trials[1]
    return trial, done(trial, TRACK.run(trial, Work(folder, asked.methods)))


@pytest.mark.parametrize(
    ("method", "epochs", "said"),
    [
        (RealToBinary, 3, "Stage 'inputs', taught by 'real': added losses 3 logits."),
        (BiPer, 2, "Stage 'waves': added losses 0.037 waves."),
        (ReBNN, 2, "labels in place of a teacher"),
        (BiT, 1, "Recipe: BiT"),
        (DSQ, 1, "Recipe: DSQ"),
        (RBNN, 1, "Recipe: RBNN"),
    ],
)
def test_an_epoch_of_each_stage_packs_and_says_its_losses(
    tmp_path: Path, method: Method, epochs: int, said: str
) -> None:
    trial, found = trained(tmp_path, method, method.__name__)  # type: ignore[union-attr]
    assert trial.recipe == "paper"
    assert AUTHORS_RECIPE in dict(trial.settings)
    assert found.result.metrics["exact"] == 1.0
    assert len(found.result.curves["train_loss"]) == epochs
    assert any(said in note for note in found.result.notes), found.result.notes


def test_attention_is_matched_where_a_network_has_blocks_of_images() -> None:
    inputs = DIGITS.inputs(2)
    model = DIGITS.network("resnet20_cifar").build(RealToBinary)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    points = transfer_points(model, inputs)
    assert points == tuple(f"blocks.{i}" for i in range(len(points)))
    assert len(points) >= 9
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert transfer_points(nn.Flatten(), inputs) == ()
    assert transfer_points(DIGITS.network("vit_small").build(None), inputs) == ()  # tokens are no images
    stages = paper_stages(DIGITS, RealToBinary, digits(), 1000, 2, 0, lambda: points)
    assert [stage.name for stage in stages.named] == ["real", "inputs", "binary"]
    attention, logits = stages.named[1].recipe.losses
    assert (attention.weight, attention.pairs) == (30.0, tuple((name, name) for name in points))
    assert (logits.weight, stages.named[2].recipe.losses[0].weight) == (3.0, 0.8)
    words = " ".join(stages.notes)
    assert "labels in place of a teacher" not in words  # each stage teaches the next
    assert "last two stages" not in words
    assert f"30 attention at {', '.join(points)}" in words
    assert {stage.recipe.epochs for stage in stages.named} == {2}


def test_a_task_of_its_own_kind_has_its_loss_alone() -> None:
    own: Problem = dataclasses.replace(DIGITS, task=Classification())
    stages = paper_stages(own, RealToBinary, digits(), 1000, 1, 0)
    assert stages.named == ()
    assert [recipe.losses for recipe in stages.recipes] == [(), ()]


def test_losses_and_stages_are_part_of_a_trials_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(method: Method) -> object:
        return settings_of(DIGITS, "mlp", "paper", method)[AUTHORS_RECIPE]

    before = digest(BiPer)
    assert digest(BiPer) == before
    real = recipes.own_stages

    def without_losses(record: recipes.PaperRecipe, **options: object) -> object:
        found = real(record, **options)  # type: ignore[arg-type]
        plain = (dataclasses.replace(s, recipe=dataclasses.replace(s.recipe, losses=())) for s in found.stages)
        return found._replace(stages=tuple(plain))

    monkeypatch.setattr(recipes, "own_stages", without_losses)
    assert digest(BiPer) != before


def test_a_killed_training_in_stages_ends_alike(tmp_path: Path) -> None:
    asked = choice(methods={"BiPer": BiPer}, recipes=("paper",), epochs=2)
    trial = TRACK.plan(asked).trials[1]
    whole = TRACK.run(trial, Work(tmp_path / "whole", asked.methods))
    for kill_at in (1, 3):  # in the first stage, in the second
        seen: list[str] = []

        def kill(share: float, words: str, seen: list[str] = seen, kill_at: int = kill_at) -> None:
            seen.append(words)
            if len(seen) == kill_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            TRACK.run(trial, Work(tmp_path / f"killed{kill_at}", asked.methods, on_progress=kill))
        assert TRACK.run(trial, Work(tmp_path / f"killed{kill_at}", asked.methods)) == whole


def test_the_page_counts_stages(tmp_path: Path) -> None:
    _, found = trained(tmp_path, RealToBinary, "RealToBinary")
    said = differences(grouped([found])[0], (DIGITS,))
    assert said is not None
    assert said.epochs == "1 of 75 in each of three stages"
