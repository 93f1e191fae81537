# SPDX-License-Identifier: Apache-2.0
"""What quantizing cost in accuracy and saved in bytes, and its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bittern.nn._table import text_table

KIB = 2**10
PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class Quality:
    """A quantized network beside its float one."""

    network: str
    float_bytes: int
    """Of parameters, in float32."""
    file_bytes: int
    """Of the packed file."""
    noise_db: float
    """Signal over the error of the answers, in decibels; on the test part, or on noise."""
    agreement: float
    """Share of the inputs whose largest answer is the float network's."""
    inputs: int
    """That both were compared on."""
    float_accuracy: float | None
    accuracy: float | None
    """Shares of the test part; None: there is none."""
    left_in_float: tuple[str, ...]
    """Steps that stayed in float, and why."""


def quality_table(rows: Sequence[Quality]) -> str:
    """One line per network."""
    header = (
        "quantized",
        "float KiB",
        "file KiB",
        "SNR dB",
        "same answer",
        "inputs",
        "float top-1",
        "top-1",
        "in float",
    )
    lines = [
        (
            row.network,
            f"{row.float_bytes / KIB:,.0f}",
            f"{row.file_bytes / KIB:,.0f}",
            f"{row.noise_db:.1f}",
            _share(row.agreement),
            str(row.inputs),
            _share(row.float_accuracy),
            _share(row.accuracy),
            str(len(row.left_in_float)),
        )
        for row in rows
    ]
    return text_table(header, lines, right=(1, 2, 3, 4, 5, 6, 7, 8))


def _share(value: float | None) -> str:
    return "" if value is None else f"{value * PERCENT:.2f} %"
