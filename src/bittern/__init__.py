# SPDX-License-Identifier: Apache-2.0
"""Bittern: low-bit deep learning for PyTorch. Train networks in 1 to 8 bits, pack them, run them bit-packed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bittern import ops
from bittern._version import __version__

if TYPE_CHECKING:
    from bittern import binary as binary
    from bittern import codes as codes
    from bittern import data as data
    from bittern import deploy as deploy
    from bittern import estimators as estimators
    from bittern import models as models
    from bittern import nn as nn
    from bittern import optim as optim
    from bittern import pretrained as pretrained
    from bittern import ptq as ptq
    from bittern import quant as quant
    from bittern import quantizer as quantizer
    from bittern import recipes as recipes
    from bittern import start as start
    from bittern import train as train
    from bittern._load import load as load
    from bittern.deploy.pack import pack as pack
    from bittern.deploy.packed import Packed as Packed
    from bittern.deploy.verify import verify as verify
    from bittern.nn.convert import convert as convert
    from bittern.nn.sign_shares import ConstantInputWarning as ConstantInputWarning
    from bittern.nn.summary import summary as summary
    from bittern.ptq.quantize import quantize as quantize
    from bittern.quantizer import set_progress as set_progress

_MODULES = (
    "binary",
    "codes",
    "data",
    "ddnn",
    "deploy",
    "estimators",
    "models",
    "nn",
    "optim",
    "pretrained",
    "ptq",
    "quant",
    "quantizer",
    "recipes",
    "start",
    "train",
)
_NAMES = {
    "ConstantInputWarning": "nn",
    "Packed": "deploy",
    "convert": "nn",
    "load": "_load",
    "pack": "deploy",
    "quantize": "ptq",
    "set_progress": "quantizer",
    "summary": "nn",
    "verify": "deploy",
}
"""Name -> module. All of these are imported when they are first asked for: few programs need all, and together they
take longer than this package may add to the start of a program. The ops are registered with torch at once, so that a
saved graph which calls them finds them."""

__all__ = [
    "ConstantInputWarning",
    "Packed",
    "__version__",
    "binary",
    "convert",
    "data",
    "ddnn",
    "deploy",
    "load",
    "models",
    "nn",
    "ops",
    "optim",
    "pack",
    "pretrained",
    "ptq",
    "quant",
    "quantize",
    "recipes",
    "set_progress",
    "summary",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"bittern.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"bittern.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'bittern' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
