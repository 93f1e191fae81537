# SPDX-License-Identifier: Apache-2.0
"""Many small checks in one test: for pytest and its processes each test costs milliseconds, more than such a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

T = TypeVar("T")

SIZE = 32
"""Checks in one test: few enough that the processes get equal shares."""


def parts(items: Iterable[T], key: Callable[[T], str]) -> Iterator[tuple[str, Sequence[T]]]:
    """Neighbours of one key, at most SIZE together, each with a name."""
    for name, found in groupby(sorted(items, key=key), key=key):
        some = list(found)
        for start in range(0, len(some), SIZE):
            yield f"{name}-{start // SIZE}", some[start : start + SIZE]


def run_all(checks: Mapping[str, Callable[[], None]]) -> None:
    """Runs every check, whatever the others do; fails with all that went wrong, each named."""
    errors: list[Exception] = []
    for name, check in checks.items():
        try:
            check()
        except Exception as error:
            error.add_note(f"in {name}")
            errors.append(error)
    if errors:
        raise ExceptionGroup(f"{len(errors)} of {len(checks)} checks failed", errors)
