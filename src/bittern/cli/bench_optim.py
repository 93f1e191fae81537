# SPDX-License-Identifier: Apache-2.0
"""`bittern bench optim` and the trainings that say what few bits of optimizer states cost."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bittern._files import write_atomically
from bittern.cli import names, optimizers
from bittern.cli.errors import Misused


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
        [bench.Rule(text, optimizers.optimizer_rule(text)) for text in rule],
        command=shlex.join(["bittern", *sys.argv[1:]]),
        out=out,
        seeds=tuple(seed or (0, 1, 2)),
        falling=falling,
        threads=threads,
        on_run=lambda run: typer.echo(f"{run.task}: {run.rule}, rate {run.rate:.2g}: {run.metric} {run.values}"),
    )
    typer.echo(report.markdown())


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
