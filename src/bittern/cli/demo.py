# SPDX-License-Identifier: Apache-2.0
"""`bittern demo`: the run of `bittern.bench.demo.run` on a screen."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from bittern.cli.errors import Interrupted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bittern.bench.demo.result import DemoResult, Row
    from bittern.deploy import Packed
    from bittern.train import Epoch


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report, the packed networks and three images.")] = Path(
        "bittern-report"
    ),
    seed: Annotated[int, typer.Option(help="Of weights and order.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads, for training and timing.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A few seconds, to see that everything works.")] = False,
) -> None:
    """Train, pack, verify and time every method on handwritten digits, and write a report."""
    from bittern.bench.core.drawing import check_matplotlib
    from bittern.bench.demo import files as demo_files
    from bittern.bench.demo import report
    from bittern.bench.demo import run as bench
    from bittern.bench.demo.result import Settings
    from bittern.cli.program import program
    from bittern.cli.screen import say, screen
    from bittern.data import digits

    check_matplotlib("bittern demo")
    settings = Settings(seed=seed, quick=quick, threads=threads)
    out.mkdir(parents=True, exist_ok=True)  # now rather than after the work
    console = screen(stderr=True)
    try:
        with Bars(console, bench.NAMES, out) as bars:
            result = bench.run(settings, bars, command=_command(out, seed, threads, quick))
    except KeyboardInterrupt as error:
        raise Interrupted("stopped; there is no report yet; run it again") from error
    screen().print(_table(result))
    demo_files.save_images(out, digits())
    commands = demo_files.commands(program(), out)
    path = report.write(result, out, commands)
    say(f"\n{_verdict(result)}")
    typer.echo(f"report: {path}\n")
    typer.echo("next, on the packed networks and three images beside the report:")
    for command in commands:
        typer.echo(f"  {command}")
    if not result.exact:
        wrong = ", ".join(row.name for row in result.rows if not row.exact)
        raise RuntimeError(f"packed models that disagree with their training graph: {wrong}; please report this")


def _command(out: Path, seed: int, threads: int, quick: bool) -> str:
    words = ["bittern", "demo"]
    words += ["--out", str(out)] if out != Path("bittern-report") else []
    words += ["--seed", str(seed)] if seed else []
    words += ["--threads", str(threads)] if threads != 1 else []
    return shlex.join([*words, *(["--quick"] if quick else [])])


class Bars:
    """A bar for each network while it is trained, and its packed file kept; a `bench.demo.Watcher`."""

    def __init__(self, console: Console, networks: tuple[str, ...], folder: Path) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = console
        self._folder = folder
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._tasks = {name: self._progress.add_task(name, start=False, total=None, note="") for name in networks}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def training(self, name: str, step: int, steps: int) -> None:
        if step == 0:
            self._progress.start_task(self._tasks[name])
            self._update(name, note="training")
        self._update(name, completed=step, total=steps)

    def epoch(self, name: str, row: Epoch) -> None:
        self._update(name, note=f"epoch {row.epoch}, test accuracy {row.test_accuracy:.1%}")

    def packing(self, name: str) -> None:
        self._update(name, note="packing")

    def packed(self, name: str, model: Packed) -> None:
        from bittern.bench.demo.files import save_network

        save_network(self._folder, name, model)

    def timing(self, name: str) -> None:
        self._update(name, note="timing")

    def done(self, row: Row) -> None:
        self._progress.stop_task(self._tasks[row.name])
        self._update(row.name, note=f"{row.accuracy:.1%}, {row.stored_bytes:,} bytes")
        if not self._console.is_terminal:
            # no bars there: a line for each network instead
            self._console.print(f"{row.name}: {row.accuracy:.1%}, {row.seconds:.1f} s", markup=False)

    def optimizers(self) -> None:
        if not self._console.is_terminal:
            self._console.print("optimizers with states of 32, 8 and 4 bits", markup=False)
        self._progress.add_task("optimizers", total=None, note="training, timing")

    def _update(self, name: str, **fields: Any) -> None:
        self._progress.update(self._tasks[name], **fields)


def _table(result: DemoResult) -> Table:
    from bittern.bench.core.words import duration
    from bittern.cli.screen import plain_table

    timed = [f"{latency.batch} image{'s' if latency.batch > 1 else ''}" for latency in result.methods[0].latencies]
    table = plain_table("method", "accuracy", "bytes", *timed, "exact", right=("accuracy", "bytes", *timed))
    floats = [
        sorted(row.latencies[i].float_us.median for row in result.methods)[len(result.methods) // 2]
        for i in range(len(timed))
    ]
    base = result.baseline
    table.add_row(base.name, f"{base.accuracy:.1%}", f"{base.stored_bytes:,}", *map(duration, floats), "-")
    for row in result.methods:
        ratios = ["" if result.noisy else f" ({one.speedup.median:.1f}x)" for one in row.latencies]
        times = [f"{duration(one.packed_us.median)}{ratio}" for one, ratio in zip(row.latencies, ratios, strict=True)]
        exact = "[green]yes[/]" if row.exact else "[bold red]NO[/]"
        table.add_row(row.name, f"{row.accuracy:.1%}", f"{row.stored_bytes:,}", *times, exact)
    return table


def _verdict(result: DemoResult) -> str:
    from bittern.bench.demo.notes import noise_text

    exact = sum(row.exact for row in result.methods)
    speed = "(..x): speed compared with float32 in torch, called in turn"
    return (
        f"{noise_text(result) if result.noisy else speed}\n"
        f"{exact} of {len(result.methods)} packed models give the answers of their training graph; "
        f"{result.seconds:.0f} s in all"
    )
