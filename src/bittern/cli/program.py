# SPDX-License-Identifier: Apache-2.0
"""The words that start this program, for commands that are printed to be typed."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

NAME = "bittern"


def program() -> list[str]:
    """`bittern` where the shell finds it by that name, else its path; `python -m bittern.cli` where there is none."""
    started = Path(sys.argv[0])
    if started.name != NAME:
        return [sys.executable, "-m", "bittern.cli"]
    found = shutil.which(NAME)
    if found is not None and started.exists() and os.path.samefile(found, started):
        return [NAME]
    return [str(started)]


def command(*words: str | Path) -> str:
    """This program with these arguments, as a shell takes it."""
    return shlex.join([*program(), *map(str, words)])
