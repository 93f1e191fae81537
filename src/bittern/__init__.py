# SPDX-License-Identifier: Apache-2.0
"""Bittern: low-bit deep learning for PyTorch. Train networks in 1 to 8 bits, pack them, run them bit-packed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bittern import binary, deploy, models, nn, ops
from bittern._version import __version__
from bittern.deploy import Packed, load, pack, verify
from bittern.nn.convert import convert
from bittern.nn.sign_shares import ConstantInputWarning
from bittern.nn.summary import summary
from bittern.quantizer import set_progress

if TYPE_CHECKING:
    from bittern import data as data
    from bittern import optim as optim
    from bittern import recipes as recipes
    from bittern import train as train

__all__ = [
    "ConstantInputWarning",
    "Packed",
    "__version__",
    "binary",
    "convert",
    "data",
    "deploy",
    "load",
    "models",
    "nn",
    "ops",
    "optim",
    "pack",
    "recipes",
    "set_progress",
    "summary",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    """`.data`, `.optim`, `.recipes`, `.train` are imported when first used: networks that only run do not need them."""
    if name in ("data", "optim", "recipes", "train"):
        return importlib.import_module(f"bittern.{name}")
    raise AttributeError(f"module 'bittern' has no attribute {name!r}")
