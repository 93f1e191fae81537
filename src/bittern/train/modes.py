# SPDX-License-Identifier: Apache-2.0
"""Optimizers that train other weights than those to judge and keep: the schedule-free ones, ours and their authors'."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch


@runtime_checkable
class TwoModes(Protocol):
    """An optimizer that is told when its parameters are to be judged: `eval` puts those weights in, `train` back."""

    def eval(self) -> None: ...

    def train(self) -> None: ...


def to_eval(optimizer: torch.optim.Optimizer) -> None:
    """Puts the weights to judge into the parameters; nothing for an optimizer of one mode."""
    if isinstance(optimizer, TwoModes):
        optimizer.eval()


def to_train(optimizer: torch.optim.Optimizer) -> None:
    """Puts the weights to train into the parameters; nothing for an optimizer of one mode."""
    if isinstance(optimizer, TwoModes):
        optimizer.train()


@contextmanager
def in_eval(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """The weights to judge within, those to train after."""
    to_eval(optimizer)
    try:
        yield
    finally:
        to_train(optimizer)
