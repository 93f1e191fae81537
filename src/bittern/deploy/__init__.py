"""From a trained network to one that runs bit-packed: pack, verify, save, load, export."""

from __future__ import annotations

from bittern.deploy.c_export import CExport, ExportError, to_c
from bittern.deploy.executorch import to_executorch
from bittern.deploy.kinds import FormatError, PackError
from bittern.deploy.pack import pack
from bittern.deploy.packed import Packed, load
from bittern.deploy.verify import VerifyReport, verify

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
    "verify",
]
