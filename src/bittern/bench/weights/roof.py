# SPDX-License-Identifier: Apache-2.0
"""What limits a product on this machine: reading memory, or multiplying.

Both are measured in the very rounds of the rows, so that a slow hour slows the roof too. Memory: what torch reads per
second beyond every cache, by a matrix times a vector or by a sum of integers, the better one at its best. Multiplying:
what torch's matmul of square matrices reaches at its best, of float32 or of the inputs' own type where the CPU
multiplies it. Of int8, torch's matmul where the CPU has AVX-512 VNNI; torch has only plain loops elsewhere, so it is
the rate of float32 times what the instructions say: VPMADDUBSW and VPMADDWD take 32 products in the time in which two
FMAs take 16, and NEON's SDOT 16 where FMLA takes 4. All are estimates from below, which a kernel may exceed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle
from typing import NamedTuple

import torch

from bittern import _native
from bittern.bench.core.machine import FLOAT_BYTES, last_level_cache_bytes
from bittern.bench.core.timing import NS_PER_US, Clock
from bittern.bench.weights.contender import multiplies

SIDE = 1024
CACHES = 2
"""So many times the last-level cache are read: what was in it before is gone."""
ROW_BYTES = 4096
LEAST_SWEEP = 64 * 2**20
MEMORY, PRODUCTS = "memory", "products"


class Roof(NamedTuple):
    """Rates that no layer is expected to exceed."""

    memory_gb_s: float
    float_gmac_s: float
    """Of the inputs' type."""
    int8_gmac_s: float

    def of(self, moved: int, float_macs: int, int8_macs: int) -> tuple[float, str]:
        """Microseconds for so many bytes and products, and which of both takes them. 1e9 a second are 1e3 a us."""
        memory = moved / self.memory_gb_s / 1e3
        products = float_macs / self.float_gmac_s / 1e3 + int8_macs / self.int8_gmac_s / 1e3
        return max((memory, MEMORY), (products, PRODUCTS))


class Sweep:
    """Reads more than all caches hold, so that what is called next finds its weights in memory alone; times itself."""

    def __init__(self, size: int, clock: Clock = time.perf_counter_ns) -> None:
        self._values = torch.ones(max(1, size // ROW_BYTES), ROW_BYTES // FLOAT_BYTES)
        vector, numbers = torch.ones(ROW_BYTES // FLOAT_BYTES), self._values.view(torch.int64)
        readers: tuple[Callable[[], object], ...] = (
            lambda: torch.mv(self._values, vector),
            lambda: torch.sum(numbers),
        )
        self._readers = cycle(readers)
        self._clock = clock
        self.us: list[float] = []

    @property
    def size(self) -> int:
        return self._values.nbytes

    def __call__(self) -> None:
        started = self._clock()
        next(self._readers)()
        self.us.append(max(self._clock() - started, 1) / NS_PER_US)

    def gb_s(self) -> float:
        """1e9 bytes per second, at best."""
        return self.size / min(self.us) / 1e3


def sweep_bytes() -> int:
    """How much a sweep reads on this machine."""
    return max(LEAST_SWEEP, CACHES * last_level_cache_bytes())


def float_product(side: int, dtype: torch.dtype) -> Callable[[], object]:
    """Of the inputs' type where the CPU multiplies it, else of float32."""
    a, b = torch.randn(2, side, side).to(dtype if multiplies(dtype) else torch.float32)
    return lambda: torch.mm(a, b)


def int8_product(side: int) -> tuple[Callable[[], object], int]:
    """A product, and how many of int8 take as long as it: 1 where it is one of int8."""
    features = _native.cpu_features()
    if features.get("avx512_vnni", False):
        a, b = torch.randint(-127, 128, (2, side, side), dtype=torch.int8)
        return lambda: torch._int_mm(a, b), 1
    return float_product(side, torch.float32), 4 if features.get("neon_dotprod", False) else 2
