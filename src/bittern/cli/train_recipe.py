# SPDX-License-Identifier: Apache-2.0
"""The recipes of `bittern train`: of its options, or of a paper."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

from bittern.cli import names
from bittern.cli.errors import Misused

if TYPE_CHECKING:
    from bittern.cli.run_folder import Options
    from bittern.data import FolderData, ImageData
    from bittern.train import Recipe
    from bittern.train.recipe import OptimizerFactory

WARMUP = 0.05
"""Share of all steps in which the learning rate rises."""
RECIPE_SETS = ("learning_rate", "optimizer", "weight_decay", "latent_weight_decay", "augment", "two_stage")
"""Options that --recipe decides."""


def with_recipe(chosen: dict[str, Any]) -> dict[str, Any]:
    """What was chosen, filled up from the paper's recipe. Raises: Misused for what the recipe decides."""
    from bittern.cli.run_folder import Options
    from bittern.optim import Cases

    for name in RECIPE_SETS:
        if name in chosen:
            raise Misused(
                f"--{name.replace('_', '-')} is decided by --recipe {chosen['recipe']}; leave one of them out"
            )
    record = names.paper_recipe(chosen["recipe"], chosen.get("method", Options.method))
    if record.called and "method" not in chosen:
        chosen = {**chosen, "method": record.method.__name__}
    if "teacher" in chosen and record.distillation is None:
        raise Misused(f"--teacher: {record.name}'s recipe has none; leave one of them out")
    of_cases = isinstance(record.optimizer, Cases)
    optimizer = getattr(record.optimizer, "func", record.optimizer)
    filled = {
        "epochs": record.epochs,
        "batch_size": record.batch_size,
        "learning_rate": record.learning_rate,
        "optimizer": record.name.lower() if of_cases else optimizer.__name__.lower(),
        "weight_decay": record.decay.real,
        "latent_weight_decay": record.decay.latent,
        "augment": record.crop_and_flip,
        "two_stage": record.first_decay is not None,
    }
    return {**filled, **chosen, "recipe": record.name}


def stages(options: Options) -> tuple[Recipe, ...]:
    """One recipe, or those of two stages."""
    if options.recipe is not None:
        record = names.paper_recipe(options.recipe, options.method)
        record = record.scaled(epochs=options.epochs, batch_size=options.batch_size)
        return (record if options.teacher else record.without_teacher()).stages(seed=options.seed)
    recipe = _recipe(options)
    if not options.two_stage:
        return (recipe,)
    # real weights decay by weight_decay in any case; this is what older first stages have on record
    first_epochs = options.first_epochs or options.epochs
    return (dataclasses.replace(recipe, epochs=first_epochs, latent_weight_decay=recipe.weight_decay), recipe)


def _recipe(options: Options) -> Recipe:
    from bittern.train import Constant, Cosine, Distillation, Recipe

    schedule = Cosine if names.falling_rate(options.optimizer) else Constant
    return Recipe(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        optimizer=names.optimizer(options.optimizer),
        schedule=schedule(warmup=WARMUP),
        weight_decay=options.weight_decay,
        latent_weight_decay=options.latent_weight_decay,
        distillation=None if options.teacher is None else Distillation(),
        seed=options.seed,
    )


def of_size(stages: tuple[Recipe, ...], images: ImageData | FolderData) -> tuple[Recipe, ...]:
    """The stages with the size of the training set where an optimizer needs it and nobody said it."""
    return tuple(dataclasses.replace(stage, optimizer=_sized(stage.optimizer, images.counts[0])) for stage in stages)


def _sized(optimizer: OptimizerFactory, size: int) -> OptimizerFactory:
    from bittern.optim import BayesBiNN, Cases

    if not isinstance(optimizer, Cases):
        return optimizer
    cases = []
    for case in optimizer.cases:
        options = getattr(case.optimizer, "keywords", {})
        if getattr(case.optimizer, "func", case.optimizer) is BayesBiNN and "train_set_size" not in options:
            case = dataclasses.replace(case, optimizer=partial(BayesBiNN, **options, train_set_size=size))
        cases.append(case)
    return Cases(*cases)


def augmented(stages: tuple[Recipe, ...], images: ImageData | FolderData) -> tuple[Recipe, ...]:
    """The stages with images shifted, and mirrored where that leaves them what they are."""
    from bittern.recipes import crop_and_flip_for

    return tuple(dataclasses.replace(stage, augment=crop_and_flip_for(images)) for stage in stages)
