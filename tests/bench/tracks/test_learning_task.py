# SPDX-License-Identifier: Apache-2.0
"""The track of learning tasks: what it plans, that a killed trial ends alike, and its overall metric by hand."""

from __future__ import annotations

import dataclasses
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from _tolerance import assert_exact
from _tracks import choice, done, run_all
from bittern.bench.core import training
from bittern.bench.tracks.artefacts import load_state
from bittern.bench.tracks.learning_task import SCORE, LearningTask
from bittern.bench.tracks.problems import DIGITS
from bittern.bench.tracks.stages import common_stages, settings_of, stages_of
from bittern.bench.trials.track import Work
from bittern.bench.trials.trial import TWIN, Done, Result, Trial
from bittern.binary import BNN, ReActNet
from bittern.deploy.packed import from_bytes
from bittern.quantizer import Quantizer
from bittern.train import Steps, evaluate

TRACK = LearningTask()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """The twin, BNN by both recipes, and ReActNet by its own, which has two stages."""
    asked = choice(methods={"BNN": BNN, "ReActNet": ReActNet}, recipes=("common", "paper"))
    trials = [t for t in TRACK.plan(asked).trials if (t.method, t.recipe) != ("ReActNet", "common")]
    found = run_all([TRACK], trials, asked, tmp_path_factory.mktemp("trials"))
    return {f"{one.trial.method} {one.trial.recipe}": one.result for one in found.values()}


def test_plan_is_seed_by_seed_with_the_twin_first() -> None:
    plan = TRACK.plan(choice(methods={"BNN": BNN, "mine": Quantizer}, seeds=(3, 1), recipes=("common", "paper")))
    cells = [(t.seed, t.method, t.recipe) for t in plan.trials]
    one_seed = [(TWIN, "common"), ("BNN", "common"), ("BNN", "paper"), ("mine", "common")]
    assert cells == [(seed, *way) for seed in (3, 1) for way in one_seed]
    assert len({t.key for t in plan.trials}) == len(plan.trials)
    assert plan.dropped == ("mine: no paper's recipe is known of it.",)


def test_plan_drops_what_is_not_there() -> None:
    plan = TRACK.plan(choice(tasks=(), networks=()))
    assert {(t.task, t.network) for t in plan.trials} == {("digits", "resnet20_cifar")}
    assert len(plan.dropped) == len(TRACK.problems) - 1
    assert "fashion_mnist: needs a folder of data sets" in plan.dropped[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ("cats",)}, "no task cats; there are digits"),
        ({"networks": ("lenet",)}, "no network lenet; there are resnet20_cifar"),
        ({"seeds": ()}, "seeds must be different from each other, at least one"),
        ({"seeds": (1, 1)}, r"got \[1, 1\]"),
        ({"recipes": ("mine",)}, "recipes are common, paper; got mine"),
        ({"epochs": 0}, "epochs and train_size must be at least 1; got 0 and 150"),
        ({"train_size": 0}, "got 1 and 0"),
    ],
)
def test_bad_choices(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TRACK.plan(choice(**change))


def test_results_are_what_they_say(results: dict[str, Result]) -> None:
    parts = DIGITS.load(None, 150)
    for result in results.values():
        assert result.metrics["accuracy"] == result.metrics[SCORE]
        confusion = json.loads(result.artefacts["confusion.json"])
        counts = torch.tensor(confusion["counts"])
        assert int(counts.sum()) == len(parts.final.test_labels)  # type: ignore[union-attr]
        assert float(counts.diagonal().sum() / counts.sum()) == pytest.approx(result.metrics["accuracy"], abs=1e-6)
        assert counts.sum(1).tolist() == torch.bincount(parts.final.test_labels).tolist()  # type: ignore[union-attr]
        assert json.loads(result.artefacts["samples.json"])[0]["shown"].startswith("data:image/png")
    twin, bnn = results[f"{TWIN} common"], results["BNN common"]
    assert twin.metrics["accuracy"] > 0.3  # a tenth by chance
    assert "exact" not in twin.metrics
    assert bnn.metrics["exact"] == 1.0
    assert len(bnn.artefacts["packed.bittern"]) == bnn.metrics["packed_bytes"] < twin.metrics["packed_bytes"]
    rows = json.loads(bnn.artefacts["layers.json"])
    assert sum(row["binary_params"] for row in rows) == 2 * 256 * 256
    assert set(bnn.curves) == {"train_loss", "train_accuracy", "test_loss", "test_accuracy"}
    assert all(len(curve) == 1 for curve in bnn.curves.values())


def test_artefacts_are_the_models_that_were_judged(results: dict[str, Result]) -> None:
    data = DIGITS.load(None, 150).final
    packed = from_bytes(results["BNN common"].artefacts["packed.bittern"])
    assert evaluate(packed, data).accuracy == results["BNN common"].metrics["accuracy"]
    twin = load_state(DIGITS.network("mlp").build(None), results[f"{TWIN} common"].artefacts["model.safetensors"])
    assert evaluate(twin, data).accuracy == results[f"{TWIN} common"].metrics["accuracy"]


def test_paper_recipes_say_how_they_were_scaled(results: dict[str, Result]) -> None:
    bnn, react = results["BNN paper"], results["ReActNet paper"]
    assert any("epochs 1 of 500" in note and "batches of 3 instead of 50" in note for note in bnn.notes)
    assert any("labels in place of a teacher" in note for note in react.notes)
    assert len(react.curves["train_loss"]) == 2  # both stages


def test_killed_trial_ends_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = choice(epochs=3)
    trial = TRACK.plan(asked).trials[1]
    whole = TRACK.run(trial, Work(tmp_path / "whole", asked.methods))
    ends = []

    def kill(share: float, words: str) -> None:
        ends.append((share, words))
        if len(ends) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TRACK.run(trial, Work(tmp_path / "killed", asked.methods, on_progress=kill))
    again = TRACK.run(trial, Work(tmp_path / "killed", asked.methods, on_progress=lambda s, w: ends.append((s, w))))
    assert [round(share, 3) for share, _ in ends] == [0.333, 0.667, 1.0]
    assert again == whole


def test_training_set_smaller_than_a_batch(tmp_path: Path) -> None:
    asked = choice(train_size=7)
    result = TRACK.run(TRACK.plan(asked).trials[0], Work(tmp_path, asked.methods))
    assert any("Batches of 7 instead of 50" in note for note in result.notes)


def made_up(method: str, task: str, seed: int, score: float, **changes: object) -> Done:
    trial = Trial("learning_task", task, "net", method, "common", seed, 3)
    return done(dataclasses.replace(trial, **changes), {SCORE: score})  # type: ignore[arg-type]


def test_overall_by_hand() -> None:
    found = [
        *(made_up(TWIN, "a", seed, score) for seed, score in ((0, 0.8), (1, 0.5))),
        *(made_up("BNN", "a", seed, score) for seed, score in ((0, 0.4), (1, 0.45), (2, 0.9))),
        made_up(TWIN, "b", 0, 1.0),
        made_up("BNN", "b", 0, 0.9),
        made_up("ReCU", "a", 0, 0.8),  # lacks task b
    ]
    # a: (0.4 / 0.8 + 0.45 / 0.5) / 2 = 0.7, seed 2 has no twin; b: 0.9; sqrt((0.49 + 0.81) / 2) = sqrt(0.65)
    assert TRACK.overall(found) == {"BNN": pytest.approx(0.65**0.5)}
    assert TRACK.overall(found[:-1]) == TRACK.overall(found)
    assert TRACK.overall([]) == TRACK.overall(found[:2]) == {}
    assert TRACK.overall([made_up(TWIN, "a", 0, 0.0), made_up("BNN", "a", 0, 0.5)]) == {}


def test_overall_takes_the_common_recipe_where_there_are_two() -> None:
    twin, common = made_up(TWIN, "a", 0, 0.8), made_up("BNN", "a", 0, 0.4)
    paper = made_up("BNN", "a", 0, 0.6, recipe="paper")
    assert TRACK.overall([twin, common, paper]) == {"BNN": pytest.approx(0.5)}
    assert TRACK.overall([twin, paper]) == {"BNN": pytest.approx(0.75)}


def test_overall_sets_no_trial_beside_a_twin_of_other_epochs() -> None:
    assert TRACK.overall([made_up(TWIN, "a", 0, 0.8, epochs=9), made_up("BNN", "a", 0, 0.4)]) == {}


def test_fresh_starts_by_the_seed_alone() -> None:
    before = torch.get_rng_state()
    first = training.fresh(partial(torch.nn.Linear, 3, 2), 5)
    torch.manual_seed(99)
    assert_exact(training.fresh(partial(torch.nn.Linear, 3, 2), 5).weight.detach(), first.weight.detach())
    torch.set_rng_state(before)


def test_fit_refuses_other_numbers_of_stages() -> None:
    with pytest.raises(ValueError, match="takes one recipe or two; got 0"):
        training.fit(torch.nn.Linear(2, 2), DIGITS.load(None, 50).final, ())


def test_the_problem_of_the_guide_is_learned(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "bench_tracks.md").read_text()
    names: dict[str, Any] = {"__name__": "guide"}
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), names)
    track, asked = names["track"], choice(tasks=(), networks=(), train_size=None, epochs=8, recipes=("common", "paper"))
    plan = track.plan(asked)
    assert [(t.task, t.network, t.method, t.recipe) for t in plan.trials] == [
        ("sum", "small", *way) for way in ((TWIN, "common"), ("BNN", "common"), ("BNN", "paper"))
    ]
    result = track.run(plan.trials[1], Work(tmp_path, asked.methods))
    assert result.metrics["accuracy"] > 0.7  # a half by chance
    assert result.metrics["exact"] == 1.0
    counts = json.loads(result.artefacts["confusion.json"])
    assert counts["classes"] == ["no", "yes"]
    assert sum(map(sum, counts["counts"])) == 100


def test_a_network_may_have_a_rate_of_its_own() -> None:
    own = DIGITS.networks["mlp"]._replace(learning_rate=0.25)
    problem = dataclasses.replace(DIGITS, networks={**DIGITS.networks, "mlp": own})
    rates = [common_stages(problem, name, 1000, 2, 7).recipes[0].learning_rate for name in ("mlp", "resnet20_cifar")]
    assert rates == [0.25, DIGITS.recipe.learning_rate]
    given = common_stages(problem, "mlp", 1000, 2, 7, learning_rate=0.5).recipes[0]
    assert (given.learning_rate, given.epochs, given.seed) == (0.5, 2, 7)


def test_a_changed_recipe_is_another_trial() -> None:
    def settings(recipe: str = "common", **changes: Any) -> dict[str, Any]:
        changed = dataclasses.replace(DIGITS, recipe=dataclasses.replace(DIGITS.recipe, **changes))
        return settings_of(changed, "mlp", recipe, BNN)

    assert settings() == settings(epochs=7, seed=3, origin="else")
    assert settings() != settings(learning_rate=0.02)
    assert settings() != settings(schedule=Steps(((0.5, 0.1),)))
    assert settings() != settings(optimizer=partial(torch.optim.AdamW, eps=1e-6))
    faster = DIGITS.networks["mlp"]._replace(learning_rate=0.5)
    assert settings_of(dataclasses.replace(DIGITS, networks={"mlp": faster}), "mlp", "common", BNN) != settings()
    paper = settings("paper")
    assert paper == {**settings(), "authors_recipe": paper["authors_recipe"]}
    assert paper["authors_recipe"] != settings_of(DIGITS, "mlp", "paper", ReActNet)["authors_recipe"]


def test_a_trial_by_the_authors_recipe_stands_beside_the_common_twin() -> None:
    planned = LearningTask().plan(choice(recipes=("common", "paper"))).trials
    assert len({trial.key for trial in planned}) == 3
    assert len({trial.place for trial in planned}) == 1


def test_papers_recipes_are_for_methods() -> None:
    data = DIGITS.load(None, 100).final
    for recipe, method in (("paper", None), ("mine", BNN)):
        with pytest.raises(ValueError, match='recipe must be "common", or "paper" for a method'):
            stages_of(DIGITS, Trial("learning_task", "digits", "mlp", "BNN", recipe, 0, 1), method, data, 100)
