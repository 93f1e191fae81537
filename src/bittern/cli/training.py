# SPDX-License-Identifier: Apache-2.0
"""`bittern train` and `bittern eval`."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bittern.cli import losses, names, optimizers, sizes, train_options, train_recipe
from bittern.cli import stages as staged
from bittern.cli.errors import Interrupted, Misused
from bittern.cli.program import command

if TYPE_CHECKING:
    from bittern.cli.run_folder import Options, Run
    from bittern.cli.train_recipe import Plan
    from bittern.data import FolderData, ImageData
    from bittern.train import Epoch


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
    attention: Annotated[
        str | None,
        typer.Option(
            help="What gives the products of attention bits, in vit_small and binary_vit_small: BiAttention or "
            "ElasticAttention. [default: they stay real]"
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help=f"{names.DATA_HELP} [default: digits]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data, of each stage. [default: 10]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step. [default: 64]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest of the schedule. [default: 0.003]")] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(optimizers.OPTIMIZERS)}; the last three, for WAGE and SignWeights, take options, "
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
    stage: Annotated[list[str] | None, typer.Option(help=staged.STAGE_HELP)] = None,
    stages: Annotated[str | None, typer.Option(help=staged.STAGES_HELP)] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Run folder of a network to learn from: its logits, or what a --loss compares. [default: none]"
        ),
    ] = None,
    loss: Annotated[list[str] | None, typer.Option(help=losses.LOSS_HELP)] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Run folder or checkpoint of such a network, to begin with its weights. [default: none]"),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="float32, or forward passes under autocast to bfloat16 or float16 (with a scaled loss); low-bit "
            "layers, weights, tests and the packed network stay float32. [default: float32]"
        ),
    ] = None,
    clip_norm: Annotated[
        float | None, typer.Option(help="The largest norm of all gradients together. [default: none]")
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

    given = {k: v for k, v in context.params.items() if v is not None and v not in ([], ())}
    options = train_options.resumed(folder, given) if resume else train_options.fresh(folder, given)
    if watch_weights and options.stage_names:
        raise Misused("--watch-weights watches one training, and this one has stages of its own; leave one of them out")
    if threads is not None:
        names.set_threads(threads)
    place = names.device(device)
    plan = train_recipe.plan(options)
    images = names.data_set(options.data)
    if resume:
        images = _as_before(images, folder)
    if options.augment:
        plan = train_recipe.augmented(plan, images)
    plan = train_recipe.of_size(plan, images)
    origin = train_recipe.recipes_of(plan)[-1].origin
    run = run_folder.Run(options, images.classes, images.mean, images.std, images.image_shape)
    torch.manual_seed(options.seed)
    network = run.network().to(place)
    mentor = None if options.teacher is None else _teacher(Path(options.teacher), run).to(place)
    if options.init is not None and not resume:
        _begin_with(network, Path(options.init))
    if options.stages is not None and not resume:
        staged.begin(options.stages, network, mentor)
    with run_folder.alone(folder):
        if not resume and run_folder.exists(folder):
            raise FileExistsError(f"{folder} holds a run by now; go on with it by --resume, or choose another --folder")
        run_folder.save(folder, run)
        typer.echo(_headline(run, images, options))
        if origin:
            typer.echo(f"recipe: {origin}")
        arguments: dict[str, Any] = {"resume": resume, "teacher": mentor, "checkpoint_steps": checkpoint_steps}
        arguments["watch_weights"] = watch_weights
        last = _run(network, images, plan, folder, arguments)
    scaled = f" ({origin})" if origin else ""
    trained = f"test accuracy {last.test_accuracy:.2%} after {plural(last.epoch, 'epoch')}{scaled}"
    typer.echo(f"{trained}, saved in {folder}")
    typer.echo(f"next: {command('pack', folder, '-o', f'{folder.resolve().name}.safetensors')}")


def _run(network: Any, images: ImageData | FolderData, plan: Plan, folder: Path, arguments: Any) -> Epoch:
    """Returns the last row of the log. What ends the run early is told in words of the command line."""
    from bittern.cli import run_folder
    from bittern.train import DivergedError, Stage, train_stages, train_two_stage
    from bittern.train import train as run_one

    recipes = train_recipe.recipes_of(plan)
    epochs = recipes[0].epochs if len({recipe.epochs for recipe in recipes}) == 1 else None
    # a bar says nothing in a file or a pipe
    arguments = {**arguments, "on_epoch": None if sys.stdout.isatty() else partial(_tell, epochs)}
    try:
        if isinstance(plan[0], Stage):
            del arguments["watch_weights"]
            return train_stages(network, images, plan, folder=folder, **arguments)[-1].final
        if len(recipes) == 1:
            return run_one(network, images, recipes[0], folder=folder, **arguments).final
        return train_two_stage(network, images, *recipes, folder=folder, **arguments).second.final
    except KeyboardInterrupt as error:
        if not run_folder.exists(folder):
            raise Interrupted("stopped before anything was saved") from error
        raise Interrupted(f"stopped and saved; go on with: {run_folder.how_to_go_on(folder)}") from error
    except DivergedError as error:
        rate = recipes[-1].learning_rate
        wider = " or --precision bfloat16" if recipes[-1].precision == "16-mixed" else ""
        raise ArithmeticError(
            f"diverged: {error.what}; start anew in another --folder with a --learning-rate below {rate:g}{wider}; "
            f"what was good last is kept in {folder}"
        ) from error


def _tell(epochs: int | None, row: Epoch) -> None:
    of_all = "" if epochs is None else f" of {epochs}"
    typer.echo(
        f"epoch {row.epoch}{of_all}: train loss {row.train_loss:.4f}, test loss {row.test_loss:.4f}, "
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
    found = names.listed_methods() if kind == "method" else names.networks()
    return [item.__name__ for item in found]
