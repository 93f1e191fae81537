# SPDX-License-Identifier: Apache-2.0
"""`bittern advise`: what to take, by the trials of a store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bittern.cli import quantities

if TYPE_CHECKING:
    from rich.table import Table

    from bittern.bench.advice import Advice, Beside
    from bittern.bench.trials.candidates import Candidate


def advise(
    store: Annotated[Path, typer.Argument(help="Trials of `bittern bench run`.")],
    bytes_: Annotated[
        str | None, typer.Option("--bytes", metavar="SIZE", help="Most bytes of the packed file, as in 200kB.")
    ] = None,
    latency: Annotated[str | None, typer.Option(metavar="TIME", help="Most time for one input, as in 2ms.")] = None,
    ops: Annotated[str | None, typer.Option(metavar="NUMBER", help="Most operations, as in 3M.")] = None,
    task: Annotated[str | None, typer.Option(help="One task. [default: every task of the store]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Name the methods and networks that score best within limits, and how sure the trials are of it."""
    from bittern.bench.advice import advise as advice_of
    from bittern.bench.trials.store import TrialStore
    from bittern.cli.screen import say, screen

    limits = {
        name: parse(f"--{name}", text)
        for name, text, parse in (
            ("bytes", bytes_, quantities.bytes_of),
            ("ops", ops, quantities.count_of),
            ("latency", latency, quantities.seconds_of),
        )
        if text is not None
    }
    with TrialStore.read(store) as trials:  # artefacts are read when they are asked for
        found = advice_of(trials.done(), limits, task)
        if as_json:
            typer.echo(json.dumps([_as_json(one, limits) for one in found], indent=2, ensure_ascii=False))
            return
        for one in found:
            say(f"\n{_heading(one, limits)}")
            if one.choices:
                screen().print(_table(one))
            for sentence in _sentences(one, limits):
                say(sentence)


def _heading(one: Advice, limits: Mapping[str, float]) -> str:
    from bittern.bench.core.words import plural

    within = f" within {_limits(limits)}" if limits else ""
    count = plural(len(one.choices), "choice") if one.choices else "nothing"
    return f"{one.task}: {count}{within}"


def _table(one: Advice) -> Table:
    from bittern.bench.page.data import cost_text
    from bittern.bench.page.metrics import estimate_text
    from bittern.bench.trials.candidates import COSTS, SCORE
    from bittern.cli.screen import plain_table, printable

    costs = [cost for cost in COSTS if any(cost in beside.candidate.costs for beside in one.choices)]
    numbers = ("bits/parameter", "score", "seeds", *costs)
    table = plain_table("method", "network", "training", *numbers, "beside the best", right=numbers)
    for beside in one.choices:
        trial, bits = beside.candidate.trained.trial, beside.candidate.bits
        found = beside.candidate.costs
        table.add_row(
            printable(trial.method),
            printable(trial.network),
            f"{printable(trial.recipe)}, {trial.epochs} epochs",
            "" if bits is None else f"{bits:.1f}",
            estimate_text(SCORE, beside.candidate.score),
            str(beside.candidate.score.count),
            *(cost_text(cost, found[cost].estimate) if cost in found else "-" for cost in costs),
            "" if beside is one.choices[0] else _behind(beside),
        )
    return table


def _behind(beside: Beside) -> str:
    half = beside.behind.half_width
    points = f"{100 * beside.behind.mean:+.1f}"
    if half is None:
        return f"{points} points, one seed"
    return f"{points} ± {100 * half:.1f} points, {'worse' if beside.worse else 'not told apart'}"


def _sentences(one: Advice, limits: Mapping[str, float]) -> list[str]:
    from bittern.cli.screen import printable

    said = []
    if one.choices:
        best = one.choices[0].candidate
        said.append(f"Best by its mean score: {printable(best.name)}. {_sure(one)}")
        said += _beyond_at_times(one, limits)
        said.append(f"Its trials: {', '.join(done.trial.key[:12] for done in best.evidence)} ({_machines(best)}).")
    elif one.nearest:
        near = [
            f"{printable(near.candidate.name)} ({_excess(near.times)}; {100 * near.candidate.score.mean:.1f}%)"
            for near in one.nearest
        ]
        said.append(f"Nothing that was tried fits. Nearest: {'; '.join(near)}.")
    if one.ties:
        names = "; ".join(printable(beside.candidate.name) for beside in one.ties)
        said.append(f"Beaten by the means alone, and not told apart from the best by the seeds: {names}.")
    if one.unmeasured:
        names = "; ".join(printable(candidate.name) for candidate in one.unmeasured)
        said.append(f"Not judged, since a limited cost was not measured: {names}.")
    if mixed := _builds(one):
        said.append(mixed)
    return said


def _sure(one: Advice) -> str:
    """How far the seeds carry."""
    from bittern.cli.screen import printable

    best = one.choices[0].candidate
    if best.score.std is None:
        return "It has one seed, which says nothing of the noise between seeds."
    others = one.choices[1:]
    close = [beside for beside in others if not beside.worse]
    if not others:
        return "Nothing else is within the limits and not beaten." if not one.ties else ""
    if close:
        names = "; ".join(printable(beside.candidate.name) for beside in close)
        return f"Seeds do not tell it apart (95 % interval) from: {names}."
    return "It is better than each choice below it beyond seed noise (95 % interval)."


def _beyond_at_times(one: Advice, limits: Mapping[str, float]) -> list[str]:
    from bittern.cli.screen import printable

    said = []
    for beside in one.choices:
        over = [cost for cost, limit in limits.items() if beside.candidate.costs[cost].largest > limit]
        if over:
            name = printable(beside.candidate.name)
            said.append(f"{name}: within the limit by its mean, but not in every trial ({', '.join(over)}).")
    return said


def _excess(times: Mapping[str, float]) -> str:
    return ", ".join(f"{share:.3g} times the {cost}" for cost, share in times.items())


def _limits(limits: Mapping[str, float]) -> str:
    from bittern.bench.core.words import size
    from bittern.bench.page.metrics import count_text, seconds_text

    words = {
        "bytes": lambda value: size(round(value)),
        "ops": lambda value: f"{count_text(value)} OPs",
        "latency": seconds_text,
    }
    return ", ".join(words[cost](limit) for cost, limit in limits.items())


def _builds(one: Advice) -> str:
    """A sentence where what is compared was trained by several builds; "" else."""
    from bittern.bench.trials.builds import builds_told

    compared = [beside.candidate for beside in (*one.choices, *one.ties)] + [near.candidate for near in one.nearest]
    evidence = {done.trial.key: done for candidate in compared for done in candidate.evidence}
    return builds_told(evidence.values())


def _machines(best: Candidate) -> str:
    from bittern.cli.screen import printable

    return "; ".join(dict.fromkeys(printable(done.machine.cpu) for done in best.evidence))


def _as_json(one: Advice, limits: Mapping[str, float]) -> dict[str, Any]:
    return {
        "task": one.task,
        "limits": dict(limits),
        "choices": [{**_candidate(beside.candidate), **_difference(beside)} for beside in one.choices],
        "not_told_apart_from_the_best": [{**_candidate(b.candidate), **_difference(b)} for b in one.ties],
        "nearest": [{**_candidate(near.candidate), "times_the_limit": dict(near.times)} for near in one.nearest],
        "unmeasured": [candidate.name for candidate in one.unmeasured],
        "several_builds": _builds(one),
    }


def _candidate(one: Candidate) -> dict[str, Any]:
    trial = one.trained.trial
    return {
        "method": trial.method,
        "network": trial.network,
        "recipe": trial.recipe,
        "epochs": trial.epochs,
        "settings": dict(trial.settings),
        "bits_per_parameter": one.bits,
        "score": {"mean": one.score.mean, "std": one.score.std, "seeds": one.score.count},
        **{cost: found.estimate.mean for cost, found in one.costs.items()},
        "trials": [done.trial.key for done in one.evidence],
    }


def _difference(beside: Beside) -> dict[str, Any]:
    behind = beside.behind
    return {"behind_the_best": {"mean": behind.mean, "half_width_95": behind.half_width, "worse": beside.worse}}
