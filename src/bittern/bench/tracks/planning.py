# SPDX-License-Identifier: Apache-2.0
"""Which trials a choice asks for: what the tracks that train share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bittern import recipes
from bittern.bench.tracks.overall import COMMON, PAPER
from bittern.bench.tracks.problem import Problem, find
from bittern.bench.tracks.stages import settings_of
from bittern.bench.trials.track import Choice
from bittern.bench.trials.trial import CHOSEN_RATE, TWIN, Trial
from bittern.quantizer import Method

RECIPES = (COMMON, PAPER)


class Cells(NamedTuple):
    """Problems with the names of their networks, and sentences on what was left out."""

    found: tuple[tuple[Problem, tuple[str, ...]], ...]
    dropped: tuple[str, ...]


def cells(
    problems: Sequence[Problem],
    choice: Choice,
    standard: Callable[[Problem], Sequence[str]],
    *,
    needs_data: bool = True,
) -> Cells:
    """What of `problems` is asked for and there. standard: the networks of a problem where none is named.

    Raises: ValueError for a task or network that none of the problems has.
    """
    asked = [find(problems, name) for name in choice.tasks] if choice.tasks else list(problems)
    known = dict.fromkeys(name for problem in problems for name in problem.networks)
    for name in choice.networks:
        if name not in known:
            raise ValueError(f"bench: no network {name}; there are {', '.join(known)}")
    found, dropped = [], []
    for problem in asked:
        missing = problem.missing(choice.data) if needs_data else None
        networks = tuple(n for n in choice.networks or standard(problem) if n in problem.networks)
        if missing is not None:
            dropped.append(missing)
        elif networks:
            found.append((problem, networks))
        elif choice.networks:
            dropped.append(f"{problem.name}: has none of the networks {', '.join(choice.networks)}.")
    return Cells(tuple(found), tuple(dropped))


def check_trainings(choice: Choice) -> None:
    """Raises: ValueError for epochs, sizes, seeds or recipes that no training can have."""
    for what, values in (("seeds", choice.seeds), ("recipes", choice.recipes)):
        if not values or len(set(values)) != len(values):
            raise ValueError(f"bench: {what} must be different from each other, at least one; got {list(values)}")
    other = [recipe for recipe in choice.recipes if recipe not in RECIPES]
    if other:
        raise ValueError(f"bench: recipes are {', '.join(RECIPES)}; got {other[0]}")
    if choice.epochs < 1 or (choice.train_size is not None and choice.train_size < 1):
        raise ValueError(
            f"bench: epochs and train_size must be at least 1; got {choice.epochs} and {choice.train_size}"
        )


def trainings(track: str, found: Cells, choice: Choice) -> Iterator[Trial]:
    """Seed by seed, so that a run that is stopped early has all methods; the twin first, by the common recipe."""
    for seed, (problem, networks) in itertools.product(choice.seeds, found.found):
        for network, (name, recipe) in itertools.product(networks, ways(choice)):
            settings = settings_of(problem, network, recipe, choice.methods.get(name))
            if recipe == COMMON and name in choice.rates:
                settings[CHOSEN_RATE] = choice.rates[name]
            trial = Trial(track, problem.name, network, name, recipe, seed, choice.epochs)
            yield trial.having(train_size=choice.train_size, **settings)


def ways(choice: Choice) -> list[tuple[str, str]]:
    """(method, recipe), the float twin first."""
    found = [(TWIN, COMMON)]
    found += [
        (name, recipe)
        for name, method in choice.methods.items()
        for recipe in choice.recipes
        if recipe == COMMON or has_paper(method)
    ]
    return found


def without_papers(choice: Choice) -> tuple[str, ...]:
    """A sentence for each method whose paper's recipe is asked for and not known."""
    if PAPER not in choice.recipes:
        return ()
    return tuple(
        f"{name}: no paper's recipe is known of it." for name, method in choice.methods.items() if not has_paper(method)
    )


def has_paper(method: Method) -> bool:
    try:
        recipes.for_method(method)
    except ValueError:
        return False
    return True
