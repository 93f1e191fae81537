# SPDX-License-Identifier: Apache-2.0
"""`bittern bench`: the measurements of `bittern.bench`."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bittern._files import write_atomically
from bittern.cli import bench_page, bench_store, bench_trials, names
from bittern.cli.bench_decode import decode
from bittern.cli.bench_layers import train, weights
from bittern.cli.errors import Interrupted, Misused

app = typer.Typer(help="Measure: kernels against torch, and every method on one recipe.")
app.command()(bench_trials.run)
app.command()(bench_trials.quick)
app.command()(bench_store.ls)
app.command()(bench_store.show)
app.command()(bench_store.compare)
app.command()(bench_store.merge)
app.command()(bench_store.export)
app.command()(weights)
app.command()(train)
app.command()(decode)
app.command()(bench_page.report)


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def ops(
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    budget: Annotated[float, typer.Option(help="Seconds for each row.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time the kernels and the packed ResNet-20 against torch."""
    from bittern.bench.kernels import run as bench
    from bittern.cli.screen import screen

    with screen(stderr=True).status("measuring") as status:
        result = bench.run(threads, budget_s=budget, on_row=lambda subject: status.update(f"measuring {subject}"))
    typer.echo(result.to_json() if as_json else str(result))


@app.command()
def optim(
    threads: Annotated[
        list[int] | None, typer.Option(help="CPU threads; may be given again. [default: 1 and 2]")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    budget: Annotated[float, typer.Option(help="Seconds for each row.")] = 2.0,
    peers: Annotated[bool, typer.Option(help="Time torch's other forms and bitsandbytes too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time a step of every optimizer against torch's fused ones, and measure the memory of its states."""
    from bittern.bench.optim import cuda as optim_cuda
    from bittern.bench.optim import run as bench
    from bittern.bench.optim.report import CudaOptimReport, OptimReport
    from bittern.cli.screen import screen

    where = names.device(device)
    if where.type == "cuda" and threads:
        raise Misused("--threads counts threads of the CPU: leave it out with --device cuda")
    result: OptimReport | CudaOptimReport
    with screen(stderr=True).status("measuring") as status:

        def tell(subject: str) -> None:
            status.update(f"measuring {subject}")

        if where.type == "cuda":
            result = optim_cuda.run(where, budget_s=budget, with_peers=peers, on_row=tell)
        else:
            result = bench.run(tuple(threads or (1, 2)), budget_s=budget, with_peers=peers, on_row=tell)
    typer.echo(result.to_json() if as_json else str(result))


@app.command()
def speed(
    threads: Annotated[
        list[int] | None, typer.Option(help="CPU threads; may be given again. [default: 1 and 2]")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="A network by its name; may be given again. [default: all five]")
    ] = None,
    budget: Annotated[float, typer.Option(help="Seconds for each comparison.")] = 2.0,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compare with torch.compile too, which takes minutes to build.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="SVG file to draw the latencies to.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time packed networks against torch and other engines, and their layers against the CPU's peak."""
    from bittern.bench.core.drawing import check_matplotlib
    from bittern.bench.speed import run as bench
    from bittern.bench.speed.networks import networks
    from bittern.bench.speed.peers import COMPILED, PEERS
    from bittern.bench.speed.plot import latencies_svg
    from bittern.cli.errors import unknown
    from bittern.cli.screen import screen

    known = {one.name: one for one in networks()}
    for name in network or ():
        if name.lower() not in known:
            raise unknown("network", name, known)
    if plot is not None:
        check_matplotlib("bittern bench speed --plot")
    with screen(stderr=True).status("measuring") as status:
        result = bench.run(
            tuple(threads or (1, 2)),
            command=shlex.join(["bittern", *sys.argv[1:]]),
            budget_s=budget,
            chosen=[known[name.lower()] for name in network or known],
            peers=(*PEERS, COMPILED) if compiled else PEERS,
            on_row=lambda subject: status.update(f"measuring {subject}"),
        )
    if plot is not None:
        write_atomically(plot, latencies_svg(result))
    typer.echo(result.to_json() if as_json else str(result))


@app.command()
def optim_training(
    out: Annotated[Path, typer.Option(help="JSON file of the results; the table goes beside it.")],
    characters: Annotated[Path | None, typer.Option(help="Text file: train the GPT, one token per character.")] = None,
    words: Annotated[Path | None, typer.Option(help="Text file: train the LSTM, words between white space.")] = None,
    images: Annotated[str | None, typer.Option(help=f"Train ResNet-20. {names.DATA_HELP}")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="A seed; may be given again. [default: 0, 1, 2]")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Train with optimizer states of 32, 8 and 4 bits; started again, it goes on where it stopped.

    Each task that has data is trained.
    """
    from bittern import data
    from bittern.bench.core.drawing import check_matplotlib
    from bittern.bench.optim import training as bench

    check_matplotlib("bittern bench optim-training")
    if characters is None and words is None and images is None:
        raise Misused("optim-training trains on --characters, --words or --images; got none of them")
    tasks = [
        *([] if characters is None else [bench.gpt_task(data.read_characters(characters))]),
        *([] if words is None else [bench.lstm_task(data.read_words(words, vocabulary_size=4000))]),
        *([] if images is None else bench.resnet_tasks(names.data_set(names.data_spec(images)).in_memory())),
    ]
    command = shlex.join(["bittern", *sys.argv[1:]])
    report = bench.run(
        tasks,
        command=command,
        out=out,
        seeds=tuple(seed or (0, 1, 2)),
        threads=threads,
        on_run=lambda run: typer.echo(f"{run.task}: {run.storage} bits, seed {run.seed}: {run.metric} {run.value:.3f}"),
    )
    write_atomically(out.with_name(report.curves), report.drawing())
    typer.echo(report.markdown())


@app.command()
def optim_rules(
    out: Annotated[Path, typer.Option(help="JSON file of the results; the table goes beside it.")],
    rule: Annotated[
        list[str],
        typer.Option(
            help='An optimizer, "soap-8bit" or "asgd-32bit:lr=0.1,t0=100", lr being where the search begins; may be '
            "given again."
        ),
    ],
    characters: Annotated[Path | None, typer.Option(help="Text file: train the GPT, one token per character.")] = None,
    words: Annotated[Path | None, typer.Option(help="Text file: train the LSTM, words between white space.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of each training.")] = 400,
    layers: Annotated[int, typer.Option(help="Layers of the GPT.")] = 4,
    width: Annotated[int, typer.Option(help="Width of both networks; the GPT has heads of 32.")] = 128,
    falling: Annotated[bool, typer.Option("--falling", help="Let rates fall to 0 along half a cosine.")] = False,
    seed: Annotated[list[int] | None, typer.Option(help="A seed; may be given again. [default: 0, 1, 2]")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Train with other rules, each at a rate found on held-out training text; started again, it goes on."""
    from bittern import data
    from bittern.bench.optim import rules as bench
    from bittern.bench.optim.training import gpt_task, lstm_task
    from bittern.models import GPTShape

    if characters is None and words is None:
        raise Misused("optim-rules trains on --characters or --words; got neither")
    if width % 32:
        raise Misused(f"--width must be a multiple of 32; got {width}")
    tasks = []
    if characters is not None:
        make = partial(gpt_task, steps=steps, shape=GPTShape(layers, width, width // 32))
        tasks.append(bench.RuleTask(data.read_characters(characters), make))
    if words is not None:
        make = partial(lstm_task, steps=steps, width=width)
        tasks.append(bench.RuleTask(data.read_words(words, vocabulary_size=4000), make))
    report = bench.run(
        tasks,
        [bench.Rule(text, names.optimizer_rule(text)) for text in rule],
        command=shlex.join(["bittern", *sys.argv[1:]]),
        out=out,
        seeds=tuple(seed or (0, 1, 2)),
        falling=falling,
        threads=threads,
        on_run=lambda run: typer.echo(f"{run.task}: {run.rule}, rate {run.rate:.2g}: {run.metric} {run.values}"),
    )
    typer.echo(report.markdown())


@app.command()
def optim_ablation(
    words: Annotated[Path, typer.Option(help="Text file: words between white space.")],
    out: Annotated[Path, typer.Option(help="JSON file of the results; the table goes beside it.")],
    steps: Annotated[int, typer.Option(help="Steps of each training.")] = 300,
    seed: Annotated[list[int] | None, typer.Option(help="A seed; may be given again. [default: 0, 1, 2]")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Train with linear and dynamic codes, per tensor and per block; started again, it goes on where it stopped."""
    from bittern import data
    from bittern.bench.optim import ablation as bench

    def show(run: bench.AblationRun) -> None:
        loss = "diverged" if run.loss is None else f"{run.loss:.3f}"
        typer.echo(f"{run.storage}{', stable embedding' * run.stable_embedding}, seed {run.seed}: {loss}")

    report = bench.run(
        data.read_words(words, vocabulary_size=4000),
        command=shlex.join(["bittern", *sys.argv[1:]]),
        out=out,
        steps=steps,
        seeds=tuple(seed or (0, 1, 2)),
        threads=threads,
        on_run=show,
    )
    typer.echo(report.markdown())


@app.command()
def optim_curvature(
    out: Annotated[Path, typer.Option(help="JSON file of the results; the table goes beside it.")],
    steps: Annotated[int, typer.Option(help="Steps of the quadratic.")] = 4000,
    seed: Annotated[list[int] | None, typer.Option(help="A seed; may be given again. [default: 0, 1, 2]")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """See what few bits do to unlike curvatures and rare gradients; started again, it goes on where it stopped."""
    from bittern.bench.optim import curvature as bench

    report = bench.run(
        command=shlex.join(["bittern", *sys.argv[1:]]),
        out=out,
        steps=steps,
        seeds=tuple(seed or (0, 1, 2)),
        threads=threads,
        on_run=lambda run: typer.echo(f"{run.task}: {run.storage} bits, seed {run.seed}: {run.value:.4g}"),
    )
    typer.echo(report.markdown())


@app.command()
def optim_scales(
    out: Annotated[Path, typer.Option(help="JSON file of the results; the table goes beside it.")],
    steps: Annotated[int, typer.Option(help="Steps of each training.")] = 300,
    seed: Annotated[list[int] | None, typer.Option(help="A seed; may be given again. [default: 0, 1, 2]")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """See what 4-bit states do to gradients of unlike size; started again, it goes on where it stopped."""
    from bittern.bench.optim import scales as bench

    report = bench.run(
        command=shlex.join(["bittern", *sys.argv[1:]]),
        out=out,
        steps=steps,
        seeds=tuple(seed or (0, 1, 2)),
        threads=threads,
        on_run=lambda run: typer.echo(f"{run.storage}, span {run.span}, seed {run.seed}: {run.accuracy:.1%}"),
    )
    typer.echo(report.markdown())


@app.command()
def methods(
    data: Annotated[str, typer.Option(help=names.DATA_HELP)],
    out: Annotated[Path, typer.Option(help="Folder for the table and the results.")],
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    train_size: Annotated[int | None, typer.Option(help="Training images, drawn once.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="A seed; may be given again. [default: 0, 1, 2]")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help=f"{names.METHOD_HELP} May be given again. [default: all]")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    augment: Annotated[bool, typer.Option("--augment", help="Shift and mirror training images.")] = False,
    recipe: Annotated[
        str, typer.Option(help="common: one for all; paper: that of each method's paper, scaled to the epochs.")
    ] = "common",
    batch_size: Annotated[
        int | None, typer.Option(help="Most images of a batch, with --recipe paper. [default: those of the papers]")
    ] = None,
    model: Annotated[str, typer.Option(help="The network.")] = "resnet20_cifar",
    name: Annotated[str, typer.Option(help="Beginning of the files' names.")] = "methods",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train every method and write a table; started again, it goes on where it stopped."""
    from bittern import recipes
    from bittern.bench.methods import run as bench

    if recipe not in ("common", "paper"):
        raise Misused(f"--recipe must be common or paper; got {recipe!r}")
    chosen = bench.ALL
    if method:
        chosen = tuple(names.method(text, ()) for text in method)
    images = names.data_set(names.data_spec(data)).in_memory()
    try:
        report = bench.run(
            images,
            out=out,
            command=shlex.join(["bittern", *sys.argv[1:]]),
            epochs=bench.EPOCHS if epochs is None else epochs,
            train_size=min(bench.TRAIN_SIZE, len(images.train_labels)) if train_size is None else train_size,
            seeds=tuple(seed or (0, 1, 2)),
            threads=threads,
            device=names.device(device),
            augment=augment,
            record_of=recipes.for_method if recipe == "paper" else None,
            batch_size=batch_size,
            methods=chosen,
            network=names.network(model),
            name=name,
        )
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped; finished trainings are in {out}; the same command goes on") from error
    typer.echo(report.page())
