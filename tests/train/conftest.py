# SPDX-License-Identifier: Apache-2.0
"""What the training tests share: the digits, one thread, and the run that is killed."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from bittern.binary import BNN
from bittern.data import ImageData, digits
from bittern.nn import BinaryLinear

SCRIPT = Path(__file__).parent / "_digits_run.py"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums over several threads may round differently from run to run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data() -> ImageData:
    return digits()


@pytest.fixture(scope="session")
def few(data: ImageData) -> ImageData:
    """A set so small that an epoch takes a moment: 96 and 32 digits."""
    return dataclasses.replace(
        data,
        train_images=data.train_images[:96],
        train_labels=data.train_labels[:96],
        test_images=data.test_images[:32],
        test_labels=data.test_labels[:32],
    )


@pytest.fixture(scope="session")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Mlp(nn.Sequential):
    """A BNN perceptron on the digits; the first and the last layer are real."""

    def __init__(self, seed: int = 0, width: int = 128) -> None:
        torch.manual_seed(seed)
        super().__init__(
            nn.Flatten(),
            nn.Linear(64, width),
            nn.BatchNorm1d(width),
            BinaryLinear(width, width, method=BNN),
            nn.BatchNorm1d(width),
            nn.Linear(width, 10),
        )


@pytest.fixture(scope="session")
def mlp() -> type[Mlp]:
    return Mlp
