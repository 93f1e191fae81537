# SPDX-License-Identifier: Apache-2.0
"""A training run for the tests that kill it: python _digits_run.py <folder> <"kill N" or "wait N">

"kill N": the process kills itself with SIGKILL after N steps. "wait N": it prints "waiting" after N steps and reads a
line.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

import torch
from torch import nn

from bittern.binary import BNN
from bittern.data import ImageData, RandomCropFlip, digits
from bittern.nn import BinaryConv2d
from bittern.train import Recipe, train

CHECKPOINT_STEPS = 7
"""No divisor of the 22 steps of an epoch."""


def build() -> nn.Module:
    """A network with everything that an exact resume must restore: BN statistics, dropout, stochastic weights."""
    torch.manual_seed(0)
    method = partial(BNN, stochastic_weights=True)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        BinaryConv2d(8, 8, 3, stride=2, padding=1, method=method),
        nn.BatchNorm2d(8),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 10),
    )


def recipe() -> Recipe:
    return Recipe(epochs=2, batch_size=64, learning_rate=0.01, augment=RandomCropFlip(padding=1), seed=3)


def run(folder: Path, data: ImageData, resume: bool, action: str, at: int) -> nn.Module:
    def on_step(step: int, loss: float) -> None:
        if step == at and action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if step == at and action == "wait":
            print("waiting", flush=True)
            sys.stdin.readline()

    model = build()
    train(
        model,
        data,
        recipe(),
        folder=folder,
        resume=resume,
        checkpoint_steps=CHECKPOINT_STEPS,
        progress=False,
        on_step=on_step,
    )
    return model


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, what = sys.argv[1:]
    chosen, _, number = what.partition(" ")
    run(Path(place), digits(), False, chosen, int(number))
