# SPDX-License-Identifier: Apache-2.0
"""Where in the user's code something stands that a program cannot hold."""

from __future__ import annotations

import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch import fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv

USER_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in ')
NOT_THE_USERS = ("/torch/", "/bittern/", "/sympy/", "<frozen", "<string>")
_PYTHONS_OWN = sysconfig.get_path("stdlib")

FAR = 5040
"""A number of samples that no example has."""


def is_users(file: str) -> bool:
    """Whether code is neither torch's nor ours."""
    return not any(part in file for part in NOT_THE_USERS)


def place_of(node: fx.Node) -> str:
    """at FILE:LINE, where the forward called this, as far as torch noted it."""
    found = [m for m in USER_FRAME.finditer(str(node.meta.get("stack_trace") or "")) if is_users(m["file"])]
    return f" (at {found[-1]['file']}:{found[-1]['line']})" if found else ""


def place_of_error(error: BaseException) -> str:
    """at FILE:LINE, of the innermost call in the user's code."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if is_users(frame.filename)]
    return f" (at {own[-1].filename}:{own[-1].lineno})" if own else ""


class Guards:
    """What torch.export took for granted about sizes, and where: its own error says neither."""

    def __init__(self) -> None:
        self._found: list[tuple[Any, str]] = []

    def add(self, condition: Any) -> None:
        self._found.append((condition, _running()))

    def place(self) -> str:
        """at FILE:LINE, of the first that another number of samples breaks; else of the first that has a place."""
        broken = [place for condition, place in self._found if not _holds_far(condition)]
        return next(filter(None, [*broken, *(place for _, place in self._found)]), "")


@contextmanager
def guards_noted() -> Iterator[Guards]:
    """Note guards inside, on all threads; where torch has no longer the method that this looks at, there are none."""
    noted, name = Guards(), "_log_guard"
    own = getattr(ShapeEnv, name, None)
    if own is None:
        yield noted
        return

    def note(self: ShapeEnv, prefix: str, condition: Any, *args: Any, **kwargs: Any) -> None:
        noted.add(condition)
        own(self, prefix, condition, *args, **kwargs)

    setattr(ShapeEnv, name, note)
    try:
        yield noted
    finally:
        setattr(ShapeEnv, name, own)


def _holds_far(condition: Any) -> bool:
    return bool(condition.subs(dict.fromkeys(condition.free_symbols, FAR)))


def _running() -> str:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if is_users(file) and not file.startswith(_PYTHONS_OWN):
            return f" (at {file}:{frame.f_lineno})"
        frame = frame.f_back
    return ""
