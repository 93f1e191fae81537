# SPDX-License-Identifier: Apache-2.0
"""What exports that compare what they write ask of their arguments."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from bittern.deploy.packed import Packed
from bittern.deploy.program import INPUT_TYPES

SEED = 0
EXAMPLES = 4
"""Samples of noise that are compared where the caller has no real ones."""


def noise(packed: Packed) -> Tensor:
    """The inputs on which a program is compared where the caller gives none."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(EXAMPLES, *packed.input_shape, generator=generator, dtype=torch.float32)


def check_place(owner: str, packed: Packed, path: Path) -> None:
    """Refuse a model on another device and a missing folder. Raises: ValueError, FileNotFoundError."""
    if packed.device.type != "cpu":
        raise ValueError(f"{owner}: the packed model is on {packed.device}; move it with .to('cpu')")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{owner}: no folder {str(path.parent)!r}; make it first")


def check_example(owner: str, packed: Packed, example: Tensor, wanted: str) -> None:
    """Refuse inputs that the model does not take. wanted: their type in words. Raises: TypeError, ValueError."""
    if example.dtype != INPUT_TYPES[packed.program.input_type] or example.device.type != "cpu":
        raise TypeError(f"{owner}: example must be {wanted} on the CPU; got {example.dtype} on {example.device}")
    if tuple(example.shape[1:]) != packed.input_shape or example.ndim == 0 or example.shape[0] == 0:
        sizes = ", ".join(str(size) for size in packed.input_shape)
        raise ValueError(f"{owner}: example must be [batch, {sizes}]; got {list(example.shape)}")
