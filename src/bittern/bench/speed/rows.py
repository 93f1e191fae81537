# SPDX-License-Identifier: Apache-2.0
"""Comparisons of packed networks with other engines, and their table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bittern.bench.core.timing import Comparison, Spread
from bittern.deploy.packed import Packed
from bittern.nn._table import text_table

ITSELF = "itself"
"""In place of a float network: the packed one, run in another way."""
ONE_THREAD = "bittern, 1 thread"
THREADS_TARGET = 1.7
"""Two threads over one."""
FAILED = "failed"
US_PER_MS = 1e3


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """One comparison of a packed network with another engine on a float network."""

    network: str
    twin: str
    peer: str
    threads: int
    latency_us: Spread
    peer_latency_us: Spread
    ratio: Spread
    target: float | None
    """Least ratio that the project wants; None: no target for this row."""

    @staticmethod
    def of(network: str, twin: str, peer: str, threads: int, found: Comparison, target: float | None) -> SpeedRow:
        """What a comparison says, the packed network its candidate."""
        return SpeedRow(
            network, twin, peer, threads, found.latency_us, found.baseline_latency_us, found.speedup, target
        )


def on_one_thread(packed: Packed, x: Tensor, threads: int) -> None:
    """A pass with one of torch's threads, of which there are so many before and after it."""
    torch.set_num_threads(1)
    packed(x)
    torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True)
class Failure:
    """A comparison that could not be made."""

    network: str
    twin: str
    peer: str
    threads: int
    why: str

    def __str__(self) -> str:
        return f"{self.peer} on {self.network}, {self.twin}, {self.threads} thread(s): {self.why}"


def reached(value: float, target: float | None) -> tuple[str, str]:
    """Cells of a least value and of whether it is reached."""
    if target is None:
        return "", ""
    return f">= {target:g}", "yes" if value >= target else "NO"


def speed_table(rows: Sequence[SpeedRow], failures: Sequence[Failure] = ()) -> str:
    """One line per comparison, those that failed behind the others of their float network."""
    header = ("packed", "threads", "ms", "against", "float network", "ms", "ratio", "(min - max)", "target", "reached")
    every: list[SpeedRow | Failure] = [*rows, *failures]
    blocks: dict[tuple[str, str, int], list[SpeedRow | Failure]] = defaultdict(list)
    for one in every:
        blocks[one.network, one.twin, one.threads].append(one)
    lines: list[tuple[str, ...]] = []
    for block in blocks.values():
        lines += [(), *map(_cells, block)] if lines else map(_cells, block)
    return text_table(header, lines, right=(1, 2, 5, 6, 7))


def _cells(row: SpeedRow | Failure) -> tuple[str, ...]:
    if isinstance(row, Failure):
        return row.network, str(row.threads), "", row.peer, row.twin, FAILED, "", "", "", ""
    return (
        row.network,
        str(row.threads),
        f"{row.latency_us.median / US_PER_MS:.2f}",
        row.peer,
        row.twin,
        f"{row.peer_latency_us.median / US_PER_MS:.2f}",
        f"{row.ratio.median:.2f}",
        f"({row.ratio.min:.2f} - {row.ratio.max:.2f})",
        *reached(row.ratio.median, row.target),
    )
