# SPDX-License-Identifier: Apache-2.0
"""What draws: matplotlib, which is not installed with Bittern."""

from __future__ import annotations

from importlib.util import find_spec

INK, LINE = "#374151", "#d1d5db"
"""Of text, and of what is behind it."""


def check_matplotlib(subject: str) -> None:
    """Say before any work that the drawings of `subject` cannot be made. Raises: ImportError."""
    if find_spec("matplotlib") is None:
        raise ImportError(f"{subject}: draws with matplotlib, which is missing; install it: pip install matplotlib")
