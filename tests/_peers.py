# SPDX-License-Identifier: Apache-2.0
"""Engines that end badly, for the processes in which contests are held."""

from __future__ import annotations

import os
import signal
import time
from functools import partial

from torch import Tensor, nn

from bittern.bench.speed.peers import Forward, Peer


def works(model: nn.Module, x: Tensor) -> Forward:
    return partial(model, x)


def raises(model: nn.Module, x: Tensor) -> Forward:
    raise RuntimeError("no such operator\nand more")


def crashes(model: nn.Module, x: Tensor) -> Forward:
    _crash()
    return works(model, x)


def crashes_in_a_run(model: nn.Module, x: Tensor) -> Forward:
    return _crash


def leaves(model: nn.Module, x: Tensor) -> Forward:
    os._exit(3)


def never_answers(model: nn.Module, x: Tensor) -> Forward:
    time.sleep(600)
    return works(model, x)


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


WORKS, RAISES, CRASHES, CRASHES_IN_A_RUN, LEAVES, NEVER_ANSWERS = (
    Peer(build.__name__.replace("_", " "), build)
    for build in (works, raises, crashes, crashes_in_a_run, leaves, never_answers)
)
