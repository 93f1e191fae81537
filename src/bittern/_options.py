# SPDX-License-Identifier: Apache-2.0
"""Checks of options that a caller chooses."""

from __future__ import annotations

from collections.abc import Sequence


def check_choice(owner: str, option: str, value: object, choices: Sequence[object]) -> None:
    """Raises: ValueError that names the choices when `value` is none of them."""
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        named = ", ".join(repr(choice) if isinstance(choice, str) else str(choice) for choice in choices)
        raise ValueError(f"{owner}: {option} must be one of {named}; got {value!r}")
