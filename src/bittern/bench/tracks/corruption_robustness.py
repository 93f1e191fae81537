# SPDX-License-Identifier: Apache-2.0
"""How much more than its float twin a method loses on corrupted images.

    OM_robust = sqrt( mean over corruptions c of ( G_twin,c / G_method,c )^2 ),   G_c = A_clean - A_c

A_c is the accuracy under corruption c, the mean over its five severities, and G_c the mean over seeds and tasks. Above
1 the method loses less than the twin, below 1 more.
Derivation: BiBench (arXiv 2301.11233) judges robustness by the generalization gap between clean and corrupted data,
relative to the full-precision twin's, with a quadratic mean over corruptions; its text was not at hand, and the formula
follows that meaning. The ratio is of mean gaps, not a mean of ratios, because one small gap would outweigh all others.
A ratio of gaps near 0, or below, says nothing: a corruption counts only where both gaps are at least a point
(`LEAST_GAP`), and the figure is given only where at least half of them count.
Who has learned little has little to lose, and leads. No figure of gaps alone escapes that, also none of gaps in
proportion to the clean accuracy: a network that says the same of all images has G_c = 0. So beside it stands

    K = sqrt( mean over tasks of ( E[ A_corrupted,method / A_corrupted,twin ] )^2 ),   A_corrupted = mean over c of A_c

E over seeds and networks: OM_task on damaged images, which grows with the accuracy there and with nothing else.
Differences: `corruptions` names those of the images; they are made of the first `images` test images.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from bittern.bench.tracks import artefacts, corruptions
from bittern.bench.tracks.filters import AUTHORS_SIZE
from bittern.bench.tracks.kept_images import corrupted
from bittern.bench.tracks.learning_task import LearningTask
from bittern.bench.tracks.overall import beside_twins, complete, means_by, pairs, quadratic_mean, share_of
from bittern.bench.tracks.planning import cells, check_trainings, trainings, without_papers
from bittern.bench.tracks.problem import Problem, find
from bittern.bench.tracks.problems import PROBLEMS
from bittern.bench.trials.track import Choice, Companion, Plan, Track, Work
from bittern.bench.trials.trial import TWIN, Done, Result, Trial
from bittern.data.images import ImageData
from bittern.deploy.packed import from_bytes
from bittern.train import evaluate

IMAGES = 1000
CLEAN, MEAN = "clean_accuracy", "corrupted_accuracy"
LEAST_GAP = 0.01
COMPANION = (
    "Corruption robustness compares what is lost on damaged images, of which a method that has learned little has "
    "little to lose; the accuracy that it still has there, as a share of the twin's, cannot be won by being bad."
)


class CorruptionRobustness(Track):
    """Judges the models of `LearningTask` on corrupted test images; images: how many, at most."""

    name = "corruption_robustness"
    title = "Corruption robustness"
    question = "Does a method lose more than its float twin on noisy, blurred or otherwise damaged images?"
    metric = MEAN

    def __init__(self, problems: Sequence[Problem] = PROBLEMS, images: int = IMAGES) -> None:
        self.problems = tuple(problems)
        self.images = images

    def plan(self, choice: Choice) -> Plan:
        check_trainings(choice)
        found = cells(self.problems, choice, lambda problem: tuple(problem.networks)[:1])
        pictures = [cell for cell in found.found if cell[0].pictures]
        others = [f"{problem.name}: has no pictures to corrupt." for problem, _ in found.found if not problem.pictures]
        trials = trainings(self.name, found._replace(found=tuple(pictures)), choice)
        planned = tuple(trial.having(images=self.images) for trial in trials)
        return Plan(planned, (*found.dropped, *others, *without_papers(choice)))

    def needs(self, trial: Trial) -> Sequence[Trial]:
        """The training."""
        return (dataclasses.replace(trial.without("images"), track=LearningTask.name),)

    def run(self, trial: Trial, work: Work) -> Result:
        problem = find(self.problems, trial.task)
        data = problem.load(work.data, 1).final
        assert isinstance(data, ImageData)  # plan has looked
        images = trial.setting("images")
        assert isinstance(images, int)
        data = dataclasses.replace(data, test_images=data.test_images[:images], test_labels=data.test_labels[:images])
        (training,) = self.needs(trial)
        files = work.needed[training.key].result.artefacts
        model: Callable[[Tensor], Any]
        if trial.method == TWIN:
            model = artefacts.load_state(problem.network(trial.network).build(None), files[artefacts.STATE])
        else:
            model = from_bytes(files[artefacts.PACKED])
        return Result(_accuracies(model, data, work), notes=_notes(data))

    def overall(self, done: Sequence[Done]) -> Mapping[str, float]:
        found = {}
        for method, both in pairs(done, self.name).items():
            ratios = [_ratio(both, name) for name in corruptions.ALL] if both else []
            counted = [ratio for ratio in ratios if ratio is not None]
            if 2 * len(counted) >= len(corruptions.ALL):
                found[method] = quadratic_mean(counted)
        return found

    def companion(self, done: Sequence[Done]) -> Companion:
        found = complete(beside_twins(done, self.name, share_of(MEAN)))
        values = {
            method: quadratic_mean(means_by(places, lambda task, network: task).values())
            for method, places in found.items()
        }
        return Companion("Accuracy on corrupted images", COMPANION, values)


def _accuracies(model: Callable[[Tensor], Any], data: ImageData, work: Work) -> dict[str, float]:
    """Clean, of each corruption and severity ("fog_3"), of each corruption ("fog"), and of all."""
    found = {CLEAN: evaluate(model, data).accuracy}
    for i, name in enumerate(corruptions.ALL):
        work.on_progress(i / len(corruptions.ALL), name)
        each = {}
        for severity in range(1, corruptions.SEVERITIES + 1):
            damaged = corrupted(data.test_images, name, severity, work.shared)
            # of the same type as the training images, which the data's check wants
            like = damaged if data.train_images.dtype == damaged.dtype else damaged.float() / 255
            changed = dataclasses.replace(data, test_images=like)
            each[f"{name}_{severity}"] = evaluate(model, changed).accuracy
        found |= {**each, name: statistics.fmean(each.values())}
    return {**found, MEAN: statistics.fmean(found[name] for name in corruptions.ALL)}


def _notes(data: ImageData) -> tuple[str, ...]:
    count, size = len(data.test_labels), data.image_shape[1]
    scaled = size != AUTHORS_SIZE
    return (
        f"On the first {count:,} test images.",
        "Frost is a procedural texture, not the authors' photographs.",
        *((f"Lengths of {AUTHORS_SIZE} pixels are scaled to {size}.",) if scaled else ()),
    )


def _ratio(both: Sequence[tuple[Done, Done]], name: str) -> float | None:
    """Of the mean gaps, twin / method; None where either is too small to say anything."""
    gaps = [
        statistics.fmean(one.result.metrics[CLEAN] - one.result.metrics[name] for one in side)
        for side in zip(*both, strict=True)
    ]
    return gaps[1] / gaps[0] if min(gaps) >= LEAST_GAP else None
