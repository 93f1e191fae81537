# SPDX-License-Identifier: Apache-2.0
"""What was published of a method, beside trainings of it here: figures, and how the recipes differ."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bittern import recipes
from bittern.bench.tracks.overall import PAPER
from bittern.bench.tracks.problem import Problem
from bittern.bench.tracks.stages import RECIPE_NOTE
from bittern.bench.trials.groups import Group
from bittern.data.augment import RandomCropFlip
from bittern.recipes import PaperRecipe, Published
from bittern.recipes.record import NOT_MIRRORED


class Differences(NamedTuple):
    """How trainings here differ from those of a method's authors, in words for readers."""

    epochs: str
    """Here, of how many there."""
    batch: str
    """There."""
    augmentation: str
    """There, and here where that is known."""
    trained_for: str
    """Data set and network there."""
    here: str
    """The recipe here, as a trial notes it; "" where none did."""


def record_of(method: str) -> PaperRecipe | None:
    """Of a method's name in a trial; None for one with options or of somebody's own, of which nothing was read."""
    return next((record for record in recipes.ALL if record.name == method), None)


def figures_of(method: str) -> tuple[Published, ...]:
    record = record_of(method)
    return () if record is None else record.published


def nearest(method: str, network: str) -> Published | None:
    """The figure to be read beside a training of this network: of that kind if there is one, beside its twin if
    there is one; of several the first. None where none was read."""
    found = sorted(figures_of(method), key=lambda one: (one.like != network, one.twin is None))
    return found[0] if found else None


def differences(group: Group, problems: Iterable[Problem] = ()) -> Differences | None:
    """Of trainings that differ by their seed. problems: those that may be known. None where no recipe was read."""
    trial, record = group.trial, record_of(group.trial.method)
    if record is None:
        return None
    problem = next((one for one in problems if one.name == trial.task), None)
    count = 1 if record.first_decay is None else 2
    if trial.recipe == PAPER and (problem is None or problem.task is None):
        own = recipes.own_stages(record)
        count = count if own is None else len(own.stages)
    stages = "" if count == 1 else f" in each of {('two', 'three')[count - 2]} stages"
    if stages and trial.recipe != PAPER:
        epochs = f"{trial.epochs}, there {record.epochs}{stages}"
    else:
        epochs = f"{trial.epochs} of {record.epochs}{stages}"
    notes = (note for one in group.done for note in one.result.notes)
    here = next((note.removeprefix(RECIPE_NOTE) for note in notes if note.startswith(RECIPE_NOTE)), "")
    ours = "" if problem is None else f"; here {_augmentation(problem, record, trial.recipe)}"
    augmentation = f"{record.augmentation}{ours}"
    return Differences(epochs, str(record.batch_size), augmentation, record.task, here)


def _augmentation(problem: Problem, record: PaperRecipe, recipe: str) -> str:
    """Of trainings here."""
    augment = problem.recipe.augment
    if recipe == PAPER:
        shifts = record.crop_and_flip and problem.pictures
        augment = RandomCropFlip(flip=problem.name not in NOT_MIRRORED) if shifts else None
    if augment is None:
        return "none"
    if not isinstance(augment, RandomCropFlip):
        return "another"
    return " and ".join([*["shifted"] * bool(augment.padding), *["mirrored"] * augment.flip])
