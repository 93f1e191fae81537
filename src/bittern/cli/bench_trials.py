# SPDX-License-Identifier: Apache-2.0
"""`bittern bench run` and `quick`: trials of the tracks into a store, and what a store has."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bittern.cli import lists, names
from bittern.cli.errors import Interrupted, Misused, unknown

if TYPE_CHECKING:
    from bittern.bench.tracks.problem import Problem
    from bittern.bench.trials.executor import Executor
    from bittern.bench.trials.runner import Summary
    from bittern.bench.trials.store import TrialStore
    from bittern.bench.trials.track import Choice, Track
    from bittern.quantizer import Method

EPOCHS = 3
STORE_HELP = "File of results; made where there is none. The same command goes on where it stopped."
Store = Annotated[Path, typer.Option("--store", help=STORE_HELP)]
Jobs = Annotated[int, typer.Option(help="Trials beside each other; those that measure time run alone.")]
Threads = Annotated[int, typer.Option(help="CPU threads of each trial.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")]


def run(
    store: Store,
    track: Annotated[list[str] | None, typer.Option(help="A track; may be given again. [default: all]")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="A method ('bittern methods'), or MODULE:CLASS; may be given again; all for every one. "
            + names.COMPARED_HELP
        ),
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="A seed; may be given again. [default: 0, 1, 2]")] = None,
    recipe: Annotated[
        list[str] | None, typer.Option(help="common, paper; may be given again. [default: common]")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Of each training. [default: 3; with --budget what fits]", min=1)
    ] = None,
    train_size: Annotated[int | None, typer.Option(help="Training examples, at most.", min=1)] = None,
    model: Annotated[
        str | None,
        typer.Option(help="FILE.py:FUNCTION that gives a model of your own, in place of tasks and networks."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Folder with the data sets, or with --model FILE.py:FUNCTION that gives (training, test). "
            "[default: embedded data only]"
        ),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="A task; may be given again. [default: all]")] = None,
    network: Annotated[list[str] | None, typer.Option(help="A network; may be given again.")] = None,
    threads: Threads = 1,
    jobs: Jobs = 1,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster, or local; instead of --jobs.")] = None,
    ray_gpus: Annotated[float, typer.Option(help="GPUs of each trial, with --ray.", min=0)] = 0.0,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoints, which every node of --ray sees. [default: beside the store]"),
    ] = None,
    retry_failed: RetryFailed = False,
    budget: Annotated[
        str | None,
        typer.Option(help="Time for all of it, as 90s, 30m or 2h: what fits is planned, and what does not is told."),
    ] = None,
    rate: Annotated[
        list[float] | None, typer.Option(help="A learning rate to try, with --budget; may be given again.", min=0)
    ] = None,
) -> None:
    """Run methods on every track, beside the float twin, and keep each result in a store."""
    from bittern.bench.trials.track import Choice
    from bittern.cli.quantities import span_of

    began = time.monotonic()
    if rate and budget is None:
        raise Misused("--rate names rates that a budget tries; give --budget too")
    seconds = None if budget is None else span_of("--budget", budget)
    problem = None
    if model is not None:
        if task or network:
            raise Misused("--task and --network name what comes with bittern; leave them out with --model")
        problem = _own_problem(model, data)
    folder = None if problem is not None or data is None else _folder(data)
    choice = Choice(
        methods=_methods(method),
        seeds=tuple(dict.fromkeys(seed or (0, 1, 2))),
        recipes=tuple(dict.fromkeys(recipe or ("common",))),
        epochs=EPOCHS if epochs is None else epochs,
        train_size=train_size,
        data=folder,
        tasks=tuple(dict.fromkeys(task or ())),
        networks=tuple(dict.fromkeys(network or ())),
    )
    for name in choice.recipes:
        if name not in ("common", "paper"):
            raise unknown("recipe", name, ("common", "paper"))
    if ray is None and (ray_gpus or work is not None):
        raise Misused("--ray-gpus and --work belong to --ray; leave them out, or give --ray")
    executor = _processes(jobs) if ray is None else _on_ray(ray, jobs, threads, ray_gpus)
    problems = () if problem is None else (problem,)
    drive = None
    if seconds is not None:
        drive = partial(_within, seconds=seconds, rates=tuple(dict.fromkeys(rate or ())), epochs=epochs, began=began)
    _go(_tracks(track, problems), choice, store, executor, threads, retry_failed, work, problems, drive)


def quick(store: Store, jobs: Jobs = 2, threads: Threads = 1, retry_failed: RetryFailed = False) -> None:
    """Nine methods and the float twin on small data, in minutes: to see what there is, not to judge methods by."""
    from bittern.bench.trials.quick import CHOICE, tracks

    _go(tracks(), CHOICE, store, _processes(jobs), threads, retry_failed, None)


def _go(
    tracks: Sequence[Track],
    choice: Choice,
    store: Path,
    executor: Callable[[], Executor],
    threads: int,
    retry_failed: bool,
    work: Path | None,
    problems: Sequence[Problem] = (),
    within: Callable[..., Summary] | None = None,
) -> None:
    """within: drives in place of the runner, with a budget."""
    from bittern.bench.trials.runner import run as drive
    from bittern.bench.trials.store import TrialStore
    from bittern.cli.trials_shown import Screen

    if threads < 1:
        raise Misused(f"--threads must be at least 1; got {threads}")
    command = shlex.join(["bittern", *sys.argv[1:]])
    store = store.expanduser()
    began, busy = time.perf_counter(), time.process_time()
    try:
        with TrialStore.open(store) as opened, Screen() as shown, executor() as entered:
            options: dict[str, Any] = {
                "command": command,
                "work": None if work is None else work.absolute(),
                "threads": threads,
                "retry_failed": retry_failed,
                "on_event": shown.tell,
            }
            if within is None:
                summary = drive(tracks, choice, opened, entered, known=_tracks(None, problems), **options)
            else:
                summary = within(tracks, choice, opened, entered, problems=problems, say=shown.say, **options)
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped; finished trials are in {store}; the same command goes on") from error
    # of this process alone: trials run in others
    _say(summary, store, time.process_time() - busy, time.perf_counter() - began)


def _within(
    tracks: Sequence[Track],
    choice: Choice,
    store: TrialStore,
    executor: Executor,
    *,
    problems: Sequence[Problem],
    seconds: float,
    **options: Any,
) -> Summary:
    from bittern.bench.budget.asking import Asking
    from bittern.bench.budget.run import run as spend
    from bittern.bench.tracks.problems import PROBLEMS

    return spend(Asking(seconds, tracks, problems or PROBLEMS, choice, **options), store, executor)


def _say(summary: Summary, store: Path, busy: float, seconds: float) -> None:
    """busy: processor seconds of the driver, of all `seconds`."""
    for sentence in summary.dropped:
        typer.echo(f"left out: {sentence}", err=True)
    for failed in (*summary.failed, *summary.failed_before):
        typer.echo(f"failed: {failed.trial}: {failed.error}", err=True)
    for trial in summary.blocked:
        typer.echo(f"not run: {trial}: what it needs failed", err=True)
    if summary.late:
        typer.echo(f"not begun: {len(summary.late)} trials, for the budget was over", err=True)
    failures = len(summary.failed) + len(summary.failed_before)
    typer.echo(
        f"{summary.total} trials: {summary.done} done now, {summary.known} before, {failures} failed, "
        f"{len(summary.blocked)} not run; see bittern bench compare {shlex.quote(str(store))}"
    )
    if summary.done:
        typer.echo(
            f"beside the trials, planning, store and screen took {busy:.1f} s of a processor: {busy / seconds:.1%} of "
            f"the run's {seconds:.0f} s"
        )
    if summary.failed_before:
        typer.echo("what failed before was not tried again; --retry-failed does")
    if summary.failed or summary.blocked:
        raise typer.Exit(1)


def _own_problem(model: str, data: str | None) -> Problem:
    """A problem of the user's, and what bittern does to its model told. Raises: Misused; what its code raises."""
    from bittern.bench.tracks.own_problem import own_problem
    from bittern.cli.screen import printable

    if data is None:
        raise Misused("--model needs --data FILE.py:FUNCTION, a function that returns (training, test)")
    problem = own_problem(names.own_code("--model", model), names.own_code("--data", data))
    for name, network in problem.networks.items():
        for sentence in network.about:
            typer.echo(printable(f"{name}: {sentence}"), err=True)
    return problem


def _folder(data: str) -> Path:
    place = Path(data)
    if not place.is_dir():
        own = "; a function of yours needs --model too" if ":" in data else ""
        raise FileNotFoundError(f"--data: no folder {data}{own}")
    return place.absolute()


def _tracks(wanted: Sequence[str] | None, problems: Sequence[Problem] = ()) -> list[Track]:
    """problems: those of the tracks; empty: the ones that come with bittern."""
    from bittern.bench.tracks import all as listed

    known = {track.name: track for track in listed.ALL}
    for name in wanted or ():
        if name not in known:
            raise unknown("track", name, known)
    given = (tuple(problems),) if problems else ()
    return [track(*given) for name, track in known.items() if not wanted or name in wanted]


def _methods(wanted: Sequence[str] | None) -> Mapping[str, Method]:
    """By the names under which trials remember them; the float twin comes by itself."""
    if not wanted:
        return {method.__name__: method for method in names.method_classes(None)}
    found: dict[str, Method] = {}
    for name in wanted:
        if name == lists.ALL:
            found |= {method.__name__: method for method in names.method_classes([name])}
            continue
        method = names.method(name, ())
        if method is None:
            continue
        found[names.method_name(name)] = method
    return found


def _processes(jobs: int) -> Callable[[], Executor]:
    from bittern.bench.trials.processes import Processes

    if jobs < 1:
        raise Misused(f"--jobs must be at least 1; got {jobs}")
    return lambda: Processes(jobs)


def _on_ray(address: str, jobs: int, threads: int, gpus: float) -> Callable[[], Executor]:
    from bittern.bench.trials.ray_executor import RayTasks

    if jobs != 1:
        raise Misused("--jobs counts processes of this machine; leave it out with --ray, which knows its nodes' cores")
    return lambda: RayTasks(address, cpus=threads, gpus=gpus)
