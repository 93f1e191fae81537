"""Binary methods, one paper a file."""

from __future__ import annotations

from bittern.binary.bnn import BNN

__all__ = ["BNN"]
