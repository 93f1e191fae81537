# SPDX-License-Identifier: Apache-2.0
"""From an exception to one line on stderr and an exit status."""

from __future__ import annotations

import difflib
import sys
import traceback
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

FAILED = 1
MISUSED = 2
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


class Misused(Exception):
    """A command line that cannot be understood; the message says what is understood."""


class Interrupted(Exception):
    """Ctrl-C; the message says what was kept and how to go on."""


@runtime_checkable
class _UsageError(Protocol):
    """What Typer raises for a command line that it cannot understand, whichever version of it."""

    exit_code: int

    def format_message(self) -> str: ...


def report(error: BaseException, debug: bool, cause: BaseException | None) -> int:
    """Print `error` as one line (after the traceback of `cause`, when `debug`). Returns the exit status."""
    if debug and cause is not None:
        traceback.print_exception(cause)
    status, text = _explain(error)
    print(f"bittern: {' '.join(text.split())}", file=sys.stderr)
    return status


def _explain(error: BaseException) -> tuple[int, str]:
    if isinstance(error, Interrupted):
        return INTERRUPTED, str(error)
    if isinstance(error, Misused):
        return MISUSED, str(error)
    if isinstance(error, _UsageError):
        context = getattr(error, "ctx", None)
        command = getattr(context, "command_path", "bittern")
        return error.exit_code, f"{error.format_message().rstrip('.')}; see {command} --help"
    if isinstance(error, OSError) and error.strerror:
        # without the number that str() begins with
        return FAILED, f"{error.filename}: {error.strerror}; check this path" if error.filename else error.strerror
    if isinstance(error, (ValueError, TypeError, OSError, RuntimeError, ArithmeticError, ImportError)) and str(error):
        return FAILED, str(error)
    return FAILED, f"internal error: {error!r}; --debug shows where; please report it"


def unknown(kind: str, name: str, known: Iterable[str], advice: str = "") -> Misused:
    """The error for a name that is not known: with the nearest one that is."""
    names = list(known)
    lowered = {known.lower(): known for known in names}
    nearest = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    guess = f"did you mean {lowered[nearest[0]]}?" if nearest else f"known are {', '.join(names)}"
    return Misused(f"unknown {kind} {name!r}: {guess}{advice}")
