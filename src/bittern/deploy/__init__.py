# SPDX-License-Identifier: Apache-2.0
"""From a trained network to one that runs bit-packed: pack, verify, save, load, export."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bittern.deploy.errors import ExportError, FormatError, PackError
from bittern.deploy.pack import pack
from bittern.deploy.packed import Packed, load
from bittern.deploy.verify import verify
from bittern.deploy.verify_report import VerifyReport

if TYPE_CHECKING:
    from bittern.deploy.c_export import CExport, to_c
    from bittern.deploy.executorch import to_executorch
    from bittern.deploy.onnx import to_onnx

_EXPORTS = {"CExport": "c_export", "to_c": "c_export", "to_executorch": "executorch", "to_onnx": "onnx"}
"""Name -> module, imported when it is asked for: most programs write no files for other runtimes."""

__all__ = [
    "CExport",
    "ExportError",
    "FormatError",
    "PackError",
    "Packed",
    "VerifyReport",
    "load",
    "pack",
    "to_c",
    "to_executorch",
    "to_onnx",
    "verify",
]


def __getattr__(name: str) -> Any:
    """What writes files for other runtimes is imported when first used."""
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"bittern.deploy.{_EXPORTS[name]}"), name)
    if name in _EXPORTS.values():
        return importlib.import_module(f"bittern.deploy.{name}")
    raise AttributeError(f"module 'bittern.deploy' has no attribute {name!r}")
