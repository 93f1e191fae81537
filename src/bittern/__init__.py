"""Bittern: low-bit deep learning for PyTorch. Train networks in 1 to 8 bits, pack them, run them bit-packed."""

from __future__ import annotations

from bittern import binary, deploy, models, nn, ops
from bittern._version import __version__
from bittern.deploy import Packed, load, pack, verify
from bittern.nn.convert import convert
from bittern.nn.summary import summary
from bittern.quantizer import set_progress

__all__ = [
    "Packed",
    "__version__",
    "binary",
    "convert",
    "deploy",
    "load",
    "models",
    "nn",
    "ops",
    "pack",
    "set_progress",
    "summary",
    "verify",
]
