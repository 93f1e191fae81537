# SPDX-License-Identifier: Apache-2.0
"""`bittern train` and `bittern eval`."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bittern.cli import names, sizes, train_recipe
from bittern.cli.errors import Interrupted
from bittern.cli.program import command

if TYPE_CHECKING:
    from bittern.cli.run_folder import Options, Run
    from bittern.data import FolderData, ImageData
    from bittern.train import Epoch, Recipe


def train(
    context: typer.Context,
    folder: Annotated[Path, typer.Option(help="Run folder: checkpoint, log.csv, TensorBoard files, run.json.")],
    method: Annotated[
        str | None,
        typer.Option(
            help=f"{names.METHOD_HELP} [default: ReActNet]",
            autocompletion=lambda: _complete("method"),
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="An option of the method, NAME=VALUE; may be given again. [default: the method's]"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The network. [default: resnet20_cifar]", autocompletion=lambda: _complete("model")),
    ] = None,
    data: Annotated[str | None, typer.Option(help=f"{names.DATA_HELP} [default: digits]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data, of each stage. [default: 10]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step. [default: 64]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest of the schedule. [default: 0.003]")] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(names.OPTIMIZERS)}; the last two, for SignWeights, take options, "
            "bop:lr=1e-3,threshold=1e-6, and Adam the rest. [default: adamw]"
        ),
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Of real weights; those of bits have their own. [default: 0]")
    ] = None,
    latent_weight_decay: Annotated[
        float | None, typer.Option(help="Of the latent weights of bits. [default: 0]")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Train as a paper does: 'paper' for the method's own, a method's name, or AdamBNN, Bop, BayesBiNN. "
            "Sets rate, optimizer, schedule, loss, decays, augmentation and stages; --epochs scales it. "
            "[default: none of them]"
        ),
    ] = None,
    augment: Annotated[
        bool | None, typer.Option("--augment/--no-augment", help="Shift and mirror training images. [default: no]")
    ] = None,
    two_stage: Annotated[
        bool | None,
        typer.Option("--two-stage/--one-stage", help="Binary inputs first, then weights too. [default: one]"),
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Run folder of a network to learn from. [default: none]")] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Run folder or checkpoint of such a network, to begin with its weights. [default: none]"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation. [default: 0]")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder; with more --epochs, beyond its end.")
    ] = False,
    checkpoint_steps: Annotated[
        int | None, typer.Option(help="Save every so many steps too, not only every epoch. [default: none]")
    ] = None,
    watch_weights: Annotated[
        bool,
        typer.Option("--watch-weights", help="Log the shares of weights that flip, and that are dead, in each layer."),
    ] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads. [default: torch's own choice]")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train a network; Ctrl-C saves it, --resume goes on."""
    import torch

    from bittern.bench.core.words import plural
    from bittern.cli import run_folder

    chosen = {k: v for k, v in context.params.items() if k in _option_names() and v is not None and v != []}
    options = _resumed(folder, chosen) if resume else _fresh(folder, chosen)
    if threads is not None:
        names.set_threads(threads)
    place = names.device(device)
    stages = train_recipe.stages(options)
    images = names.data_set(options.data)
    if resume:
        images = _as_before(images, folder)
    if options.augment:
        stages = train_recipe.augmented(stages, images)
    stages = train_recipe.of_size(stages, images)
    run = run_folder.Run(options, images.classes, images.mean, images.std, images.image_shape)
    torch.manual_seed(options.seed)
    network = run.network().to(place)
    mentor = None if options.teacher is None else _teacher(Path(options.teacher), run).to(place)
    if options.init is not None and not resume:
        _begin_with(network, Path(options.init))
    with run_folder.alone(folder):
        if not resume and run_folder.exists(folder):
            raise FileExistsError(f"{folder} holds a run by now; go on with it by --resume, or choose another --folder")
        run_folder.save(folder, run)
        typer.echo(_headline(run, images, options))
        if options.recipe is not None:
            typer.echo(f"recipe: {stages[-1].origin}")
        arguments: dict[str, Any] = {"resume": resume, "teacher": mentor, "checkpoint_steps": checkpoint_steps}
        arguments["watch_weights"] = watch_weights
        last = _run(network, images, stages, folder, arguments)
    scaled = "" if options.recipe is None else f" ({stages[-1].origin})"
    trained = f"test accuracy {last.test_accuracy:.2%} after {plural(last.epoch, 'epoch')}{scaled}"
    typer.echo(f"{trained}, saved in {folder}")
    typer.echo(f"next: {command('pack', folder, '-o', f'{folder.resolve().name}.safetensors')}")


def _run(
    network: Any, images: ImageData | FolderData, stages: tuple[Recipe, ...], folder: Path, arguments: Any
) -> Epoch:
    """Returns the last row of the log. What ends the run early is told in words of the command line."""
    from bittern.cli import run_folder
    from bittern.train import DivergedError, train_two_stage
    from bittern.train import train as run_one

    # a bar says nothing in a file or a pipe
    arguments = {**arguments, "on_epoch": None if sys.stdout.isatty() else partial(_tell, stages[-1].epochs)}
    try:
        if len(stages) == 1:
            return run_one(network, images, stages[0], folder=folder, **arguments).final
        first, second = stages
        return train_two_stage(network, images, first, second, folder=folder, **arguments).second.final
    except KeyboardInterrupt as error:
        if not run_folder.exists(folder):
            raise Interrupted("stopped before anything was saved") from error
        raise Interrupted(f"stopped and saved; go on with: {run_folder.how_to_go_on(folder)}") from error
    except DivergedError as error:
        rate = stages[-1].learning_rate
        raise ArithmeticError(
            f"diverged: {error.what}; start anew in another --folder with a --learning-rate below {rate:g}; what was "
            f"good last is kept in {folder}"
        ) from error


def _tell(epochs: int, row: Epoch) -> None:
    typer.echo(
        f"epoch {row.epoch} of {epochs}: train loss {row.train_loss:.4f}, test loss {row.test_loss:.4f}, "
        f"test accuracy {row.test_accuracy:.2%}, {row.seconds:.1f} s"
    )


def _begin_with(network: Any, source: Path) -> None:
    """Raises: FileNotFoundError; ValueError for weights of another network."""
    from bittern.cli import run_folder
    from bittern.train import load_weights

    load_weights(network, run_folder.find(source)[1] if source.is_dir() else source)


def evaluate(
    target: Annotated[Path, typer.Argument(help="A run folder, a checkpoint in one, or a packed file.")],
    data: Annotated[str | None, typer.Option(help=f"{names.DATA_HELP} [default: that of the training]")] = None,
    size: Annotated[list[str] | None, typer.Option(help=sizes.SIZE_HELP)] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads. [default: torch's own choice]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Test a trained network, or a packed one, on the test part of a data set."""
    import json

    from bittern.cli.targets import open_target
    from bittern.train import evaluate as test

    if threads is not None:
        names.set_threads(threads)
    opened = open_target(target, size or ())
    images = names.data_set(names.data_spec(data) if data is not None else opened.data())
    fitted = opened.with_own_statistics(images)
    found = test(opened.network, fitted)
    count = images.counts[1]
    if as_json:
        measured = {"loss": found.loss, "accuracy": found.accuracy}
        values = {"target": str(target), "data": images.name, "images": count, **measured}
        typer.echo(json.dumps(values))
    else:
        typer.echo(
            f"{opened.kind} {target}: accuracy {found.accuracy:.2%}, loss {found.loss:.4f} "
            f"on {count:,} test images of {images.name}"
        )


def _option_names() -> set[str]:
    from bittern.cli.run_folder import Options

    return {field.name for field in dataclasses.fields(Options)}


def _fresh(folder: Path, chosen: dict[str, Any]) -> Options:
    """The options of a new run. Raises: FileExistsError when there is one already."""
    from bittern.cli import run_folder

    if run_folder.exists(folder):
        raise FileExistsError(f"{folder} holds a run already; go on with it by --resume, or choose another --folder")
    if "option" in chosen:
        chosen = {**chosen, "option": tuple(chosen["option"])}
    if "recipe" in chosen:
        chosen = train_recipe.with_recipe(chosen)
    options = run_folder.Options(**chosen)
    # through the tables, so that run.json has the proper spelling and errors come before anything is written
    names.method(options.method, options.option)
    names.optimizer(options.optimizer)
    return dataclasses.replace(
        options,
        method=names.method_name(options.method),
        model=names.network(options.model).__name__,
        data=names.data_spec(options.data),
        optimizer=options.optimizer.lower(),
        teacher=_absolute(options.teacher),
        init=_absolute(options.init),
    )


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())


def _resumed(folder: Path, chosen: dict[str, Any]) -> Options:
    """The options of the run in `folder`. Raises: ValueError for one that was given and differs; FileNotFoundError."""
    from bittern.cli import run_folder

    options = run_folder.load(folder).options
    if not run_folder.exists(folder):
        raise FileNotFoundError(f"{folder} holds no checkpoint yet, nothing to go on from; start anew without --resume")
    for name, value in chosen.items():
        stored = getattr(options, name)
        given = tuple(value) if isinstance(value, list) else value
        if name == "data":
            given = names.data_spec(value)
        if name == "recipe":
            given = names.paper_recipe(value, options.method).name
        if name in ("teacher", "init"):
            given = _absolute(value)
        if name == "epochs" and value > options.epochs:
            options = _extended(options, folder, value)
            continue
        same = given == stored or (
            isinstance(given, str) and isinstance(stored, str) and given.lower() == stored.lower()
        )
        if not same:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} was {stored!r} in {folder} and is {given!r}; leave it out, or start a new run")
    return options


def _extended(options: Options, folder: Path, epochs: int) -> Options:
    """The options of a run that goes on beyond its end, which is told. Raises: ValueError for one that cannot."""
    from bittern.cli import run_folder

    if options.recipe is not None:
        why = f"which follows the recipe of {options.recipe} to its end"
        raise ValueError(f"--epochs was {options.epochs} in {folder}, {why}; leave it out, or start a new run")
    second_began = options.two_stage and run_folder.second_began(folder)
    which = f" in {'its second stage' if second_began else 'each stage'}" if options.two_stage else ""
    typer.echo(
        f"{folder} was planned for {options.epochs} epochs and now for {epochs}{which}: from here on the learning rate "
        f"follows the schedule of {epochs}, so it may rise again; the result is not that of {epochs} epochs at once"
    )
    first = (options.first_epochs or options.epochs) if second_began else None
    return dataclasses.replace(options, epochs=epochs, first_epochs=first)


def _as_before(images: ImageData | FolderData, folder: Path) -> ImageData | FolderData:
    """The data set with the statistics of the run in `folder`, whose last bit may depend on the number of threads."""
    from bittern.cli import run_folder

    run = run_folder.load(folder)
    if (run.classes, run.input_shape) != (images.classes, images.image_shape):
        raise ValueError(f"{run.options.data} is no longer the data set that {folder} was trained on; put it back")
    return dataclasses.replace(images, mean=run.mean, std=run.std)


def _teacher(folder: Path, run: Run) -> Any:
    from bittern.cli import run_folder

    other, network = run_folder.trained(folder)
    if (other.classes, other.input_shape) != (run.classes, run.input_shape):
        raise ValueError(f"--teacher {folder}: it knows other classes or images of another size; train it on this data")
    return network


def _headline(run: Run, images: ImageData | FolderData, options: Options) -> str:
    from bittern.bench.core.words import plural

    return (
        f"{options.model}, {options.method}, on {images.name}: {images.counts[0]:,} images "
        f"of {' x '.join(str(n) for n in run.input_shape)}, {plural(options.epochs, 'epoch')}"
    )


def _complete(kind: str) -> list[str]:
    from bittern import models

    found = names.listed_methods() if kind == "method" else models.ALL
    return [item.__name__ for item in found]
