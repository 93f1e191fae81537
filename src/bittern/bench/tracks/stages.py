# SPDX-License-Identifier: Apache-2.0
"""How a trial trains: by the common recipe of its problem, or by that of the method's authors."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from bittern import recipes
from bittern.bench.tracks.overall import COMMON, PAPER
from bittern.bench.tracks.problem import Problem
from bittern.bench.trials.trial import AUTHORS_RECIPE, CHOSEN_RATE, Trial, Value
from bittern.data.images import ImageData
from bittern.quantizer import Method
from bittern.recipes import OwnStages, PaperRecipe
from bittern.train import CrossEntropy, Recipe, Stage
from bittern.train.source import TrainingData

COMMON_RECIPE = "common_recipe"
ALWAYS_TOLD = ("batch_size", "learning_rate", "optimizer", "schedule")
UNTOLD = ("epochs", "seed", "origin")
"""Fields that a trial says itself, and a name."""
RECIPE_NOTE = "Recipe: "
"""Beginning of the note in which a training says how it trained."""
LEAST_STEPS = 40
"""Of an epoch by a paper's recipe: few examples in batches of hundreds would be few steps."""


class Stages(NamedTuple):
    """One recipe, or those of a training in stages, and sentences on what was changed for them.

    named: those stages, where they have names, starts and teachers; `recipes` are theirs.
    """

    recipes: tuple[Recipe, ...]
    notes: tuple[str, ...] = ()
    named: tuple[Stage, ...] = ()

    @property
    def plan(self) -> tuple[Recipe, ...] | tuple[Stage, ...]:
        """What `bench.core.training.fit` takes."""
        return self.named or self.recipes


def common_stages(problem: Problem, network: str, count: int, epochs: int, seed: int, **changes: Any) -> Stages:
    """The problem's recipe, at the network's rate. count: training examples. changes: fields of `Recipe`."""
    recipe = dataclasses.replace(_common(problem, network), epochs=epochs, seed=seed, **changes)
    if recipe.batch_size <= count:
        return Stages((recipe,), (f"{RECIPE_NOTE}{_words(recipe)}.",))
    less = dataclasses.replace(recipe, batch_size=count)
    return Stages(
        (less,),
        (
            f"{RECIPE_NOTE}{_words(less)}.",
            f"Batches of {count} instead of {recipe.batch_size}: there are no more training examples.",
        ),
    )


def paper_stages(
    problem: Problem,
    method: Method,
    data: TrainingData,
    count: int,
    epochs: int,
    seed: int,
    points: Callable[[], tuple[str, ...]] = tuple,
) -> Stages:
    """The recipe of the method's authors in so many epochs of each stage, without a teacher from outside.

    A paper whose stages teach each other (`recipes.own_stages`) is trained so, with its added losses, where the task is
    a classification; a task of its own kind has its loss alone. points: as there, modules of the network.

    A batch holds at most a fortieth (`LEAST_STEPS`) of the training examples. Images are shifted and mirrored where
    the authors do; other inputs are not augmented. A task with a loss of its own keeps it.

    Raises: ValueError for a method that no paper's recipe is known of.
    """
    record = recipes.for_method(method)
    scaled = record.scaled(epochs=epochs, batch_size=min(record.batch_size, max(1, count // LEAST_STEPS)))
    own = _own_stages(problem, scaled, seed, points)
    scaled = scaled if own is not None else scaled.without_teacher()
    notes = [f"{RECIPE_NOTE}{scaled}.", *(scaled.differences if own is None else own.differences)]
    changes: dict[str, Any] = {"seed": seed, "augment": None}
    if isinstance(data, ImageData):
        changes["augment"] = scaled.augment_for(data)
    elif scaled.crop_and_flip:
        notes.append("The authors' augmentation of images is left out.")
    if problem.task is not None and scaled.loss != CrossEntropy():
        changes["loss"] = CrossEntropy()  # what `train` takes beside a task, whose own loss counts
        notes.append("The loss is the task's, not the authors'.")
    if own is not None:
        named = tuple(dataclasses.replace(s, recipe=dataclasses.replace(s.recipe, **changes)) for s in own.stages)
        return Stages(tuple(stage.recipe for stage in named), (*notes, *map(_about, named)), named)
    found = scaled.stages(**changes)
    return Stages(found, (*notes, *(f"Added losses: {_added(found[-1])}." for _ in scaled.losses[:1])))


def _own_stages(
    problem: Problem, record: PaperRecipe, seed: int, points: Callable[[], tuple[str, ...]]
) -> OwnStages | None:
    """None for a task whose outputs are no logits, which losses between stages compare."""
    return recipes.own_stages(record, seed=seed, points=points) if problem.task is None else None


def _about(stage: Stage) -> str:
    taught = "" if stage.teacher is None else f", taught by {stage.teacher!r}"
    started = "" if stage.start is None else f", from the weights of {stage.start!r}"
    return f"Stage {stage.name!r}{started}{taught}: added losses {_added(stage.recipe)}."


def _added(recipe: Recipe) -> str:
    """Weight and name of each loss beside the task's, with the modules that it looks at."""
    found = []
    for loss in recipe.losses:
        named = ", ".join(mine for mine, _ in loss.pairs if mine)
        found.append(f"{loss.weight:g} {loss.name}" + (f" at {named}" if named else ""))
    return "; ".join(found) or "none"


def settings_of(problem: Problem, network: str, recipe: str, method: Method | None) -> dict[str, Value]:
    """Settings that tell trainings of different recipes apart, so that a recipe that was changed meets no older result,
    and those of the problem.

    common_recipe: 12 hexadecimal digits of the common recipe, of every training, since that is the twin's.
    authors_recipe: the same of the recipe of the method's authors, where it is asked for.

    Raises: ValueError for a method that no paper's recipe is known of.
    """
    found: dict[str, Value] = {**dict(problem.settings), COMMON_RECIPE: _digest([_common(problem, network)])}
    if recipe == PAPER and method is not None:
        record = recipes.for_method(method).without_teacher()
        # the modules that losses look at follow from the network, which a trial names
        own = _own_stages(problem, record, 0, tuple)
        named = () if own is None else own.stages
        told = [stage.recipe for stage in named] or record.stages()
        found[AUTHORS_RECIPE] = _digest(told, record.crop_and_flip, *(_words_of(stage) for stage in named))
    return found


def _common(problem: Problem, network: str) -> Recipe:
    rate = problem.network(network).learning_rate or problem.recipe.learning_rate
    return dataclasses.replace(problem.recipe, learning_rate=rate)


def _words_of(stage: Stage) -> str:
    operands = getattr(stage.operands, "__name__", stage.operands)
    return f"{stage.name} {operands} {stage.start} {stage.teacher}"


def _digest(stages: Iterable[Recipe], *others: Value) -> str:
    """Of what trains; epochs and seed are a trial's own, and origin is but a name."""
    named = [dataclasses.replace(stage, epochs=1, seed=0, origin="").identity() for stage in stages]
    return hashlib.sha256(json.dumps([named, *others], sort_keys=True).encode()).hexdigest()[:12]


def _words(recipe: Recipe) -> str:
    """Every field that is not at its default, for readers."""
    plain = Recipe(epochs=recipe.epochs).describe()
    own = {name: value for name, value in recipe.describe().items() if name in ALWAYS_TOLD or value != plain[name]}
    return ", ".join(f"{name} {value}" for name, value in own.items() if name not in UNTOLD)


def stages_of(
    problem: Problem,
    trial: Trial,
    method: Method | None,
    data: TrainingData,
    count: int,
    points: Callable[[], tuple[str, ...]] = tuple,
) -> Stages:
    """Of a trial by the recipe "common", at its chosen rate where it has one, or "paper", which no float twin has.

    count: training examples of `data`. points: as `paper_stages`. Raises: ValueError for another recipe.
    """
    if trial.recipe == COMMON:
        rate = dict(trial.settings).get(CHOSEN_RATE)
        changes = {} if rate is None else {"learning_rate": rate}
        return common_stages(problem, trial.network, count, trial.epochs, trial.seed, **changes)
    if trial.recipe != PAPER or method is None:
        raise ValueError(f'bench: recipe must be "common", or "paper" for a method; got {trial.recipe!r}')
    return paper_stages(problem, method, data, count, trial.epochs, trial.seed, points)
