# SPDX-License-Identifier: Apache-2.0
"""The options of a run of `bittern train`: of a new one, and of one that goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import typer

from bittern.cli import names, optimizers, run_folder, stages, train_recipe
from bittern.cli.errors import Misused
from bittern.cli.run_folder import Options

NAMES = frozenset(field.name for field in dataclasses.fields(Options))


def fresh(folder: Path, given: dict[str, Any]) -> Options:
    """The options of a new run. Raises: FileExistsError when there is one already; Misused."""
    chosen = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if k in NAMES}
    if run_folder.exists(folder):
        raise FileExistsError(f"{folder} holds a run already; go on with it by --resume, or choose another --folder")
    for other in ("recipe", "two_stage"):
        if "stage" in chosen and other in chosen:
            raise Misused(f"--{other.replace('_', '-')}: --stage says what the stages are; leave one of them out")
    if "stages" in chosen:
        chosen = stages.with_paper(chosen)
    if "recipe" in chosen:
        chosen = train_recipe.with_recipe(chosen)
    options = Options(**chosen)
    # through the tables, so that run.json has the proper spelling and errors come before anything is written
    names.method(options.method, options.option)
    optimizers.optimizer(options.optimizer)
    attention = None if options.attention is None else names.attention(options.attention, options.model).__name__
    stage_names = train_recipe.stage_names(options)
    return dataclasses.replace(
        options,
        method=names.method_name(options.method),
        model=names.network(options.model).__name__,
        data=names.data_spec(options.data),
        optimizer=options.optimizer.lower(),
        teacher=_absolute(options.teacher),
        init=_absolute(options.init),
        attention=attention,
        stage_names=stage_names,
    )


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())


def resumed(folder: Path, given: dict[str, Any]) -> Options:
    """The options of the run in `folder`. Raises: ValueError for one that was given and differs; FileNotFoundError."""
    chosen = {name: value for name, value in given.items() if name in NAMES}
    options = run_folder.load(folder).options
    if not run_folder.exists(folder):
        raise FileNotFoundError(f"{folder} holds no checkpoint yet, nothing to go on from; start anew without --resume")
    for name, value in chosen.items():
        stored = getattr(options, name)
        asked = tuple(value) if isinstance(value, list) else value
        if name == "data":
            asked = names.data_spec(value)
        if name == "recipe":
            asked = names.paper_recipe(value, options.method).name
        if name in ("teacher", "init"):
            asked = _absolute(value)
        if name == "epochs" and value > options.epochs:
            options = _extended(options, folder, value)
            continue
        same = asked == stored or (
            isinstance(asked, str) and isinstance(stored, str) and asked.lower() == stored.lower()
        )
        if not same:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} was {stored!r} in {folder} and is {asked!r}; leave it out, or start a new run")
    return options


def _extended(options: Options, folder: Path, epochs: int) -> Options:
    """The options of a run that goes on beyond its end, which is told. Raises: ValueError for one that cannot."""
    if options.recipe is not None or options.stage_names:
        why = f"which follows the recipe of {options.recipe} to its end"
        why = f"which has the stages {', '.join(options.stage_names)}" if options.stage_names else why
        raise ValueError(f"--epochs was {options.epochs} in {folder}, {why}; leave it out, or start a new run")
    second_began = options.two_stage and run_folder.second_began(folder)
    which = f" in {'its second stage' if second_began else 'each stage'}" if options.two_stage else ""
    typer.echo(
        f"{folder} was planned for {options.epochs} epochs and now for {epochs}{which}: from here on the learning rate "
        f"follows the schedule of {epochs}, so it may rise again; the result is not that of {epochs} epochs at once"
    )
    first = (options.first_epochs or options.epochs) if second_began else None
    return dataclasses.replace(options, epochs=epochs, first_epochs=first)
