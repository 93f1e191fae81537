# SPDX-License-Identifier: Apache-2.0
"""Engines that end badly, and networks, for the processes in which contests are held."""

from __future__ import annotations

import os
import signal
import time
from functools import partial

import torch
from torch import Tensor, nn

from bittern.bench.speed.peers import Forward, Peer
from bittern.models import mlp
from bittern.models.binary_densenet import DenseLayer
from bittern.quantizer import Method


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


def ready() -> tuple[nn.Module, Tensor]:
    return mlp(input_size=4, widths=(8, 8)).eval(), torch.zeros(1, 1, 4, 4)


def norm_behind_a_concatenation(method: Method | None = None) -> tuple[nn.Module, Tensor]:
    layers = (DenseLayer(64, method, 1), nn.BatchNorm2d(128), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 2))
    return nn.Sequential(*layers).eval(), torch.randn(1, 64, 4, 4)
