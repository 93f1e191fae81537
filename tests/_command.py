# SPDX-License-Identifier: Apache-2.0
"""Running the command line: in this process, or for real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from bittern.cli import main

PROGRAM = "import sys; from bittern.cli import main; sys.exit(main())"


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("bittern: ")


class Trained(NamedTuple):
    """A run folder and the packed file that was made of it."""

    folder: Path
    packed: Path


class Command:
    """`command("train", "--folder", folder)` runs that in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *words: object) -> Outcome:
        self._capture.readouterr()
        status = main([str(word) for word in words])
        out, err = self._capture.readouterr()
        return Outcome(status, out, err)

    def done(self, *words: object) -> str:
        """What it printed; it must succeed."""
        outcome = self(*words)
        assert outcome.status == 0, outcome.err
        return outcome.out


def start(*words: object, **environment: str) -> subprocess.Popen[str]:
    """A process of its own, with one thread."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *(str(word) for word in words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def run(*words: object, **environment: str) -> Outcome:
    """A process of its own, to its end."""
    process = start(*words, **environment)
    out, err = process.communicate(timeout=120)
    return Outcome(process.returncode, out, err)
