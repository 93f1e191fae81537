"""From a trained network to one that runs bit-packed: pack, verify, save, load."""

from __future__ import annotations

from bittern.deploy.kinds import FormatError, PackError
from bittern.deploy.pack import pack
from bittern.deploy.packed import Packed, load
from bittern.deploy.verify import VerifyReport, verify

__all__ = ["FormatError", "PackError", "Packed", "VerifyReport", "load", "pack", "verify"]
