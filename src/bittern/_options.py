# SPDX-License-Identifier: Apache-2.0
"""Checks of options that a caller chooses."""

from __future__ import annotations

from collections.abc import Sequence


def check_choice(owner: str, option: str, value: object, choices: Sequence[object]) -> None:
    """Raises: ValueError that names the choices when `value` is none of them."""
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        named = ", ".join(repr(choice) if isinstance(choice, str) else str(choice) for choice in choices)
        raise ValueError(f"{owner}: {option} must be one of {named}; got {value!r}")


def check_bits(owner: str, option: str, value: object, most: int, *, least: int = 1) -> None:
    """Raises: ValueError unless `value` is an integer in least ... most."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(
            f"{owner}: {option} must be an integer from {least} to {most}; got {value!r}; "
            "keep a layer of higher precision out of the conversion"
        )
