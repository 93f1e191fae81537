# SPDX-License-Identifier: Apache-2.0
"""Files of a user's, written for a test: a model and data, each under a name that no other test has imported."""

from __future__ import annotations

import itertools
from pathlib import Path

_numbers = itertools.count()
DATA = """
import torch
from torch.utils.data import DataLoader, TensorDataset

def examples():
    x = torch.randn(240, 8, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] + x[:, 1] > 0).long()

def sets():
    x, y = examples()
    return TensorDataset(x[:200], y[:200]), TensorDataset(x[200:], y[200:])

def loaders():
    return tuple(DataLoader(part, batch_size=20) for part in sets())
"""
MODEL = """
import torch
from torch import nn

def build():
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(),
        nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2),
    )
"""


def written(folder: Path, text: str = MODEL + DATA) -> Path:
    """A module of that text, in `folder`."""
    path = folder / f"own_file_{next(_numbers)}.py"
    path.write_text(text)
    return path
