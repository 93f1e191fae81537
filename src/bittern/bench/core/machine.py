# SPDX-License-Identifier: Apache-2.0
"""What a figure was measured on: without it, a figure means nothing."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from bittern import _native
from bittern._version import __version__
from bittern.bench.core.build import this_build
from bittern.bench.core.timing import Spread, latency
from bittern.ops import chosen_isa

COPY_ELEMENTS = 32 * 2**20
"""128 MiB of float32 each way: beyond every cache, so that it is memory that is measured."""
FLOAT_BYTES = 4
ASSUMED_CACHE = 32 * 2**20
"""Bytes of a last-level cache that the system does not tell of."""
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
MATMUL_SIDE = 1024
"""A product of this size is large enough that torch's fp32 matmul comes close to the peak of the FMA units."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Hardware, software and settings of a run."""

    cpu: str
    cores: int
    """Logical processors that this process may use."""
    features: tuple[str, ...]
    """Instruction sets that bear on the kernels, those present only."""
    isa: str
    """Of the native kernels in this process."""
    threads: int
    device: str
    """"cpu", or the name of the GPU."""
    system: str
    python: str
    torch: str
    bittern: str
    build: str = ""
    """Of bittern (`build.this_build`); "" in results from before it was kept."""

    def __str__(self) -> str:
        return (
            f"{self.cpu}, {self.cores} logical cores, {self.threads} thread(s), native kernels at {self.isa}"
            f"{'' if self.device == 'cpu' else f', on {self.device}'}; "
            f"{self.system}, Python {self.python}, torch {self.torch}, {self.software}"
        )

    @property
    def software(self) -> str:
        """Version and build of bittern, in words."""
        return f"bittern {self.bittern}{f' (build {self.build})' if self.build else ''}"


def load_before() -> str:
    """What else the machine does before a run, as far as it tells."""
    if not hasattr(os, "getloadavg"):
        return "load unknown"
    return f"load average before the run {os.getloadavg()[0]:.1f}"


def this_machine(device: torch.device | None = None) -> Machine:
    """Describe this process on `device` (None: the CPU), with the number of threads that torch uses now."""
    on_gpu = device is not None and device.type == "cuda"
    return Machine(
        cpu=cpu_model(),
        cores=usable_cores(),
        features=tuple(name for name, present in _native.cpu_features().items() if present),
        isa=chosen_isa().label,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if on_gpu else "cpu",
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
        bittern=__version__,
        build=this_build(),
    )


def cpu_model() -> str:
    """The processor's own name, where the system tells it; else its architecture."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Logical processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def last_level_cache_bytes(folder: Path = CACHES) -> int:
    """Of the largest cache of the first core, as Linux tells it in `folder`; an assumed one elsewhere."""
    found = []
    for size in folder.glob("index*/size"):
        text = size.read_text(encoding="utf-8").strip()
        if text.endswith("K") and text[:-1].isdecimal():
            found.append(int(text[:-1]) * 1024)
    return max(found, default=ASSUMED_CACHE)


def copy_bandwidth_gb_s(elements: int = COPY_ELEMENTS) -> Spread:
    """Bytes read plus bytes written per second, in 1e9, of torch's copy of float32 memory on its current threads."""
    source = torch.ones(elements)
    target = torch.empty_like(source)
    time_us = latency(lambda: target.copy_(source))
    return _rate(time_us, 2 * FLOAT_BYTES * elements)


def fp32_gmac_s(side: int = MATMUL_SIDE) -> Spread:
    """1e9 multiply-accumulates per second of torch's fp32 matmul: an estimate, from below, of the FMA units' peak."""
    a, b = torch.randn(2, side, side)
    out = torch.empty(side, side)
    time_us = latency(lambda: torch.mm(a, b, out=out))
    return _rate(time_us, side**3)


def _rate(time_us: Spread, work: float) -> Spread:
    """1e9 units of work per second: 1e3 units per microsecond are 1e9 per second."""
    per_us = [work / t / 1e3 for t in (time_us.median, time_us.max, time_us.min)]
    return Spread(*per_us)
