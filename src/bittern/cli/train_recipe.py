# SPDX-License-Identifier: Apache-2.0
"""The recipes of `bittern train`: of its options, or of a paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from bittern.cli import names, optimizers
from bittern.cli import stages as staged
from bittern.cli.errors import Misused
from bittern.cli.losses import compares, losses

if TYPE_CHECKING:
    from bittern.cli.run_folder import Options
    from bittern.data import FolderData, ImageData
    from bittern.train import AddedLoss, Recipe, Stage
    from bittern.train.recipe import OptimizerFactory

    Plan = tuple[Recipe, ...] | tuple[Stage, ...]

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
"""What `Recipe` calls them."""
WARMUP = 0.05
"""Share of all steps in which the learning rate rises."""


def with_recipe(chosen: dict[str, Any]) -> dict[str, Any]:
    """What was chosen, filled up from the paper's recipe. Raises: Misused for what the recipe decides."""
    from bittern.cli.run_folder import Options
    from bittern.optim import Cases

    for name in staged.DECIDED:
        if name in chosen:
            raise Misused(
                f"--{name.replace('_', '-')} is decided by --recipe {chosen['recipe']}; leave one of them out"
            )
    record = names.paper_recipe(chosen["recipe"], chosen.get("method", Options.method))
    if record.called and "method" not in chosen:
        chosen = {**chosen, "method": record.method.__name__}
    compared = any(map(compares, losses(chosen.get("loss", ()))))
    if "teacher" in chosen and record.distillation is None and not compared:
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


def plan(options: Options) -> Plan:
    """One recipe, those of two stages, or stages with names and teachers of their own. Raises: Misused."""
    if options.precision not in PRECISIONS:
        raise Misused(f"--precision must be one of {', '.join(PRECISIONS)}; got {options.precision!r}")
    changes: dict[str, Any] = {"precision": PRECISIONS[options.precision]}
    if options.clip_norm is not None:
        changes["clip_norm"] = options.clip_norm
    found = _planned(options)
    try:
        return _changed(found, lambda recipe: dataclasses.replace(recipe, **changes))
    except ValueError as error:
        raise Misused(f"--clip-norm: {error}") from error


def _planned(options: Options) -> Plan:
    if options.stages is not None:
        return staged.of_paper(options)
    added = losses(options.loss)
    for loss in added:
        if compares(loss) and options.teacher is None and not options.stage:
            raise Misused(f"--loss {loss.name} compares with a teacher; give --teacher FOLDER")
    if options.stage:
        return staged.of_user(options.stage, _recipe(options, ()), added, has_teacher=options.teacher is not None)
    if options.recipe is not None:
        record = names.paper_recipe(options.recipe, options.method)
        record = record.scaled(epochs=options.epochs, batch_size=options.batch_size)
        record = record if options.teacher else record.without_teacher()
        return record.stages(seed=options.seed, losses=(*record.losses, *added))
    recipe = _recipe(options, added)
    if not options.two_stage:
        return (recipe,)
    # real weights decay by weight_decay in any case; this is what older first stages have on record
    first_epochs = options.first_epochs or options.epochs
    return (dataclasses.replace(recipe, epochs=first_epochs, latent_weight_decay=recipe.weight_decay), recipe)


def stage_names(options: Options) -> tuple[str, ...]:
    """Subfolders of stages with names; () where there are none. Raises: Misused."""
    from bittern.train import Stage

    if options.stages is None and not options.stage:
        return ()
    return tuple(stage.name for stage in plan(options) if isinstance(stage, Stage))


def _recipe(options: Options, added: tuple[AddedLoss, ...]) -> Recipe:
    """A teacher counts by its logits, or where losses compare with it by them alone."""
    from bittern.train import Constant, Cosine, Distillation, Recipe

    schedule = Cosine if optimizers.falling_rate(options.optimizer) else Constant
    taught = options.teacher is not None and not options.stage and not any(map(compares, added))
    return Recipe(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        optimizer=optimizers.optimizer(options.optimizer),
        schedule=schedule(warmup=WARMUP),
        weight_decay=options.weight_decay,
        latent_weight_decay=options.latent_weight_decay,
        distillation=Distillation() if taught else None,
        losses=added,
        seed=options.seed,
    )


def recipes_of(plan: Plan) -> tuple[Recipe, ...]:
    """Of each stage."""
    from bittern.train import Stage

    return tuple(stage.recipe if isinstance(stage, Stage) else stage for stage in plan)


def _changed(plan: Plan, change: Callable[[Recipe], Recipe]) -> Plan:
    from bittern.train import Stage

    found = (
        dataclasses.replace(stage, recipe=change(stage.recipe)) if isinstance(stage, Stage) else change(stage)
        for stage in plan
    )
    return tuple(found)  # type: ignore[return-value]  # of one kind, as they were


def of_size(plan: Plan, images: ImageData | FolderData) -> Plan:
    """The stages with the size of the training set where an optimizer needs it and nobody said it."""
    return _changed(plan, lambda r: dataclasses.replace(r, optimizer=_sized(r.optimizer, images.counts[0])))


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


def augmented(plan: Plan, images: ImageData | FolderData) -> Plan:
    """The stages with images shifted, and mirrored where that leaves them what they are."""
    from bittern.recipes import crop_and_flip_for

    return _changed(plan, lambda r: dataclasses.replace(r, augment=crop_and_flip_for(images)))
