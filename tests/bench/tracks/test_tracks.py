# SPDX-License-Identifier: Apache-2.0
"""The five tracks beside the learning tasks: small runs, plans, and their overall metrics by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch

import _peers
from _tracks import choice, done, run_all
from bittern.bench.speed.peers import PEERS, Peer
from bittern.bench.tracks import corruptions
from bittern.bench.tracks.all import ALL
from bittern.bench.tracks.corruption_robustness import CLEAN, CorruptionRobustness
from bittern.bench.tracks.hardware_inference import HardwareInference
from bittern.bench.tracks.learning_task import SCORE, LearningTask
from bittern.bench.tracks.neural_architecture import NeuralArchitecture
from bittern.bench.tracks.overall import quadratic_mean
from bittern.bench.tracks.problems import DIGITS, FASHION_MNIST
from bittern.bench.tracks.theoretical_complexity import TheoreticalComplexity
from bittern.bench.tracks.training_consumption import TrainingConsumption
from bittern.bench.trials.track import Track, Work
from bittern.bench.trials.trial import TWIN, Done, Result, Trial
from bittern.binary import BNN
from bittern.models import mlp
from bittern.nn import summary

CORRUPTED = CorruptionRobustness(images=40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """Robustness and architecture of the MLP, and the trainings that both need."""
    asked = choice()
    tracks = [LearningTask(), CORRUPTED, NeuralArchitecture()]
    trials = [trial for track in tracks[1:] for trial in track.plan(asked).trials]
    return run_all(tracks, trials, asked, tmp_path_factory.mktemp("trials"))


def of(trained: dict[str, Done], track: str, method: str) -> Result:
    (found,) = [one for one in trained.values() if (one.trial.track, one.trial.method) == (track, method)]
    return found.result


def test_trainings_are_shared(trained: dict[str, Done]) -> None:
    assert sorted(one.trial.track for one in trained.values()) == sorted(
        ["learning_task", "corruption_robustness", "neural_architecture"] * 2
    )
    for method in (TWIN, "BNN"):
        learned = of(trained, "learning_task", method).metrics
        assert of(trained, "neural_architecture", method).metrics == learned


def test_robustness_of_what_was_trained(trained: dict[str, Done]) -> None:
    for method in (TWIN, "BNN"):
        metrics = of(trained, "corruption_robustness", method).metrics
        assert len(metrics) == 1 + 15 * 5 + 15 + 1
        assert metrics["fog"] == pytest.approx(sum(metrics[f"fog_{s}"] for s in range(1, 6)) / 5)
        assert metrics["corrupted_accuracy"] == pytest.approx(sum(metrics[name] for name in corruptions.ALL) / 15)
        assert all(0.0 <= value <= 1.0 for value in metrics.values())
    assert of(trained, "corruption_robustness", TWIN).metrics[CLEAN] > 0.3


def made(track: str, method: str, metrics: dict[str, float], **changes: Any) -> Done:
    trial = Trial(track, "a", "net", method, "common", 0, 3)
    return done(dataclasses.replace(trial, **changes), metrics)


def test_robustness_overall_by_hand() -> None:
    """Gaps of the twin 0.2 everywhere; of BNN 0.1 for seven corruptions, 0.4 for one, none for the others."""
    names = list(corruptions.ALL)
    twin = {CLEAN: 0.9, **dict.fromkeys(names, 0.7)}
    bnn = {CLEAN: 0.8, **dict.fromkeys(names, 0.8), **dict.fromkeys(names[:7], 0.7), names[7]: 0.4}
    found = [made("corruption_robustness", TWIN, twin), made("corruption_robustness", "BNN", bnn)]
    # ratios 2 (seven times) and 0.5: sqrt((7 * 4 + 0.25) / 8)
    assert CORRUPTED.overall(found) == {"BNN": pytest.approx((28.25 / 8) ** 0.5)}
    bnn[names[7]] = 0.795
    assert CORRUPTED.overall([found[0], made("corruption_robustness", "BNN", bnn)]) == {}
    assert CORRUPTED.overall(found[1:]) == CORRUPTED.overall([]) == {}


def test_accuracy_on_corrupted_images_is_not_won_by_being_bad() -> None:
    """Two tasks; a method at chance keeps all of its 0.1, where the twin falls from 0.9 to 0.5 and from 0.8 to 0.6."""
    name = "corruption_robustness"
    found = []
    for method, figures in ((TWIN, ((0.9, 0.5), (0.8, 0.6))), ("Bad", ((0.1, 0.08), (0.1, 0.08)))):
        for task, (clean, corrupted) in zip("ab", figures, strict=True):
            accuracies = {CLEAN: clean, "corrupted_accuracy": corrupted, **dict.fromkeys(corruptions.ALL, corrupted)}
            found.append(made(name, method, accuracies, task=task))
    # gaps (0.4 + 0.2) / 2 and 0.02
    assert CORRUPTED.overall(found) == {"Bad": pytest.approx(15.0)}
    # 0.08 / 0.5 = 0.16, 0.08 / 0.6 = 0.1333
    assert CORRUPTED.companion(found).values == {"Bad": pytest.approx(((0.16**2 + (0.08 / 0.6) ** 2) / 2) ** 0.5)}
    good = [made(name, "Good", dict.fromkeys((CLEAN, "corrupted_accuracy", *corruptions.ALL), 0.45), task="a")]
    assert CORRUPTED.companion([found[0], *good]).values == {"Good": pytest.approx(0.9)}
    assert CORRUPTED.companion([*found, *good]).values.keys() == {"Bad"}, "Good lacks a task"
    assert CORRUPTED.companion([]).values == {}


def test_architecture_overall_by_hand() -> None:
    track, name = NeuralArchitecture(), "neural_architecture"
    found = []
    for network, family, score in (("r", "CNN", 0.8), ("v", "CNN", 0.6), ("t", "Transformer", 0.5), ("m", "MLP", 0.9)):
        settings = (("family", family),)
        found.append(made(name, TWIN, {SCORE: 1.0}, network=network, settings=settings))
        found.append(made(name, "BNN", {SCORE: score}, network=network, settings=settings))
    # CNN (0.8 + 0.6) / 2
    assert track.overall(found) == {"BNN": pytest.approx(((0.49 + 0.25 + 0.81) / 3) ** 0.5)}
    assert track.overall(found[:6]) == {}


def test_architecture_needs_all_families() -> None:
    poor = dataclasses.replace(DIGITS, networks={"mlp": DIGITS.networks["mlp"]})
    plan = NeuralArchitecture((poor,)).plan(choice(networks=()))
    assert not plan.trials
    assert plan.dropped == ("digits: has no CNN, Transformer.",)
    every = NeuralArchitecture().plan(choice(networks=())).trials
    assert {trial.setting("family") for trial in every} == {"CNN", "Transformer", "MLP"}


def test_robustness_leaves_out_what_is_no_picture() -> None:
    numbers = dataclasses.replace(DIGITS, pictures=False)
    plan = CorruptionRobustness((numbers,)).plan(choice())
    assert not plan.trials
    assert plan.dropped == ("digits: has no pictures to corrupt.",)


def test_complexity_is_what_summary_counts(tmp_path: Path) -> None:
    track, asked = TheoreticalComplexity(), choice()
    found = run_all([track], track.plan(asked).trials, asked, tmp_path)
    by_method = {one.trial.method: one.result for one in found.values()}
    report = summary(mlp(BNN, input_size=8), torch.randn(1, 1, 8, 8))
    assert by_method["BNN"].metrics["ops"] == report.bmac / 64 + report.fmac == 2 * 256 * 256 / 64 + 64 * 256 + 2560
    assert by_method["BNN"].metrics["stored_bits"] == 8 * report.bytes
    assert by_method[TWIN].metrics["binary_weights"] == 0.0
    assert "Stays real: features.1 (Linear, 16,384 products" in by_method["BNN"].notes[0]
    (overall,) = track.overall(list(found.values())).values()
    ratios = [by_method[TWIN].metrics[m] / by_method["BNN"].metrics[m] for m in ("stored_bits", "ops")]
    assert overall == pytest.approx(((ratios[0] ** 2 + ratios[1] ** 2) / 2) ** 0.5)
    assert min(ratios) > 5


def test_complexity_needs_no_data() -> None:
    plan = TheoreticalComplexity((FASHION_MNIST,)).plan(choice(tasks=("fashion_mnist",)))
    assert len(plan.trials) == 2
    assert not plan.dropped


def test_inference_is_timed_beside_what_is_there(tmp_path: Path) -> None:
    peers = (*PEERS[:2], _peers.CRASHES, Peer("Absent", _peers.raises, ("no_such_package",), "bench"))
    track, asked = HardwareInference(peers=peers, budget_s=0.02), choice()
    plan = track.plan(asked)
    assert plan.dropped == ("Absent: no_such_package cannot be imported; pip install 'bittern[bench]'.",)
    found = run_all([track], plan.trials, asked, tmp_path)
    by_method = {one.trial.method: one.result for one in found.values()}
    metrics = by_method["BNN"].metrics
    assert metrics["speedup"] == min(metrics[f"speedup: {peer.name}"] for peer in PEERS[:2])
    assert 0.0 < metrics["latency"] < 1.0
    assert "crashes: its process was ended by SIGSEGV, while it built its network" in by_method["BNN"].notes
    times_smaller = by_method[TWIN].metrics["file_bytes"] / metrics["file_bytes"]
    assert times_smaller > 5
    assert track.overall(list(found.values())) == {
        "BNN": pytest.approx(((metrics["speedup"] ** 2 + times_smaller**2) / 2) ** 0.5)
    }


@pytest.fixture(scope="module")
def consumed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """A step, and two places of the grid."""
    track, asked = TrainingConsumption(budget_s=0.02), choice()
    trials = [t for t in track.plan(asked).trials if t.method == "BNN"][:3]
    found = run_all([track], trials, asked, tmp_path_factory.mktemp("trials"))
    return {str(dict(one.trial.settings).get("schedule", "step")): one.result for one in found.values()}


def test_consumption_of_a_step(consumed: dict[str, Result]) -> None:
    step = consumed["step"]
    assert step.metrics["speedup"] > 0.0
    assert step.metrics["saved_bytes"] > 0.0
    assert "Batches of 50" in step.notes[0]


def test_consumption_of_the_grid(consumed: dict[str, Result]) -> None:
    for schedule in ("cosine", "steps"):
        assert 0.0 < consumed[schedule].metrics[SCORE] <= 1.0
        assert len(consumed[schedule].curves["held_out_score"]) == 1
    assert consumed["cosine"].curves["train_loss"] != consumed["steps"].curves["train_loss"]


def test_consumption_plans_the_whole_grid() -> None:
    trials = TrainingConsumption().plan(choice(seeds=(4, 5))).trials
    grid = [t for t in trials if t.setting("part") == "grid"]
    assert len(grid) == 2 * 8
    assert len({t.key for t in grid}) == 16
    assert {(t.method, t.seed) for t in trials if t.setting("part") == "step"} == {("BNN", 4)}


def test_divergence_counts_as_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bittern.bench.tracks import held_out as module

    def diverge(*args: object, **options: object) -> None:
        raise module.DivergedError("the loss is nan at step 3", "try another rate")

    monkeypatch.setattr(module, "fit", diverge)
    track, asked = TrainingConsumption(), choice()
    result = track.run(track.plan(asked).trials[0], Work(tmp_path, asked.methods))
    assert result.metrics == {SCORE: 0.0, "diverged": 1.0}
    assert "Diverged, which counts as 0: the loss is nan at step 3." in result.notes


def test_consumption_overall_by_hand() -> None:
    track, asked = TrainingConsumption(), choice()
    found = []
    for i, trial in enumerate(track.plan(asked).trials):
        if trial.setting("part") == "step":
            found.append(done(trial, {"speedup": 0.8}))
        else:
            # half of the scores a point or three points above the other half: std 0.005 and 0.015
            found.append(done(trial, {SCORE: 0.5 + (i % 2) * (0.01 if trial.method == TWIN else 0.03)}))
    assert track.overall(found) == {"BNN": pytest.approx(((0.64 + 1 / 9) / 2) ** 0.5)}
    assert track.overall(found[1:]) == {}
    same = [one if one.trial.method == TWIN else done(one.trial, {SCORE: 0.5, "speedup": 1.0}) for one in found]
    assert track.overall(same) == {}


def test_quadratic_mean_by_hand() -> None:
    assert quadratic_mean((3.0, 4.0)) == pytest.approx(12.5**0.5)
    with pytest.raises(ValueError, match="needs at least one value"):
        quadratic_mean(())


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_tracks_travel_to_other_processes(kind: Callable[[], Track]) -> None:
    again = ForkingPickler.loads(ForkingPickler.dumps(kind()))
    assert again.plan(choice()) == kind().plan(choice())
    (problem, *_) = again.problems
    assert problem.network("mlp").build(BNN)(problem.inputs(2)).shape == (2, 10)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_every_track(kind: Callable[[], Track]) -> None:
    track = kind()
    assert track.overall([]) == {}
    assert not getattr(track.companion([]), "values", {})
    plan = track.plan(choice())
    assert plan.trials
    assert all(trial.track == track.name for trial in plan.trials)
    assert len({trial.key for trial in plan.trials}) == len(plan.trials)
    assert any(trial.method == TWIN for trial in plan.trials)
    with pytest.raises(ValueError, match="no task cats"):
        track.plan(choice(tasks=("cats",)))
    with pytest.raises(ValueError, match="no network lenet"):
        track.plan(choice(networks=("lenet",)))
