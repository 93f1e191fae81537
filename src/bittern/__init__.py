"""Bittern: low-bit deep learning for PyTorch."""

from __future__ import annotations
