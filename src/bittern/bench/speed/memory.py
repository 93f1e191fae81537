# SPDX-License-Identifier: Apache-2.0
"""Memory that loading a network from its file and running it adds to a process, each in a process of its own.

The process first imports everything and lets torch run convolutions and a product, so that code of libraries that is
read from disk once (torch's convolutions alone are 7 MB of it) does not count. Then its peak of resident memory is
reset, the network is loaded and run twice on one image, and the rise of the peak (Linux's VmHWM) is the figure. The
float network is made without memory for random weights and takes those of its file as they are, so that nothing is held
twice. Mapped pages of a file count; what the kernel caches of it does not.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bittern import deploy
from bittern.bench.optim.run import transient_bytes
from bittern.deploy.packed import Packed

RUNS = 2
PACKED_PROGRAM = "from bittern.bench.speed import memory as m; print(m.packed_bytes({file!r}, {shape!r}, {threads}))"
FLOAT_PROGRAM = (
    "from bittern.bench.speed import memory as m; from {module} import {name} as build; "
    "print(m.float_bytes(build, {file!r}, {shape!r}, {threads}))"
)
UNKNOWN = "None"


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """Bytes that a packed network and its float twin add to a process."""

    network: str
    twin: str
    packed_bytes: int
    float_bytes: int
    limit: float | None
    """Largest share of the twin's memory that the project allows."""

    @property
    def share(self) -> float:
        return self.packed_bytes / self.float_bytes


def measure(packed: Packed, twin: nn.Module, build: Callable[[], nn.Module]) -> tuple[int, int] | None:
    """(bytes of the packed network, bytes of its twin), or None where the system does not tell (Linux does).

    build: makes the twin; a function of a module, which the other process imports by its name.
    """
    shape, threads = packed.input_shape, torch.get_num_threads()
    with TemporaryDirectory() as folder:
        packed_file, float_file = str(Path(folder) / "packed"), str(Path(folder) / "float")
        packed.save(packed_file)
        save_file({name: value.contiguous() for name, value in twin.state_dict().items()}, float_file)
        found = (
            _run(PACKED_PROGRAM.format(file=packed_file, shape=shape, threads=threads)),
            _run(
                FLOAT_PROGRAM.format(
                    module=build.__module__, name=build.__name__, file=float_file, shape=shape, threads=threads
                )
            ),
        )
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def packed_bytes(file: str, shape: tuple[int, ...], threads: int) -> int | None:
    """For the other process: of a packed file."""
    return _rise(lambda: deploy.load(file), shape, threads)


def float_bytes(build: Callable[[], nn.Module], file: str, shape: tuple[int, ...], threads: int) -> int | None:
    """For the other process: of a float network."""

    def load() -> nn.Module:
        with torch.device("meta"):
            model = build()
        model.load_state_dict(load_file(file), assign=True)
        return model.eval()

    return _rise(load, shape, threads)


def _rise(load: Callable[[], Callable[[torch.Tensor], object]], shape: tuple[int, ...], threads: int) -> int | None:
    torch.set_num_threads(threads)
    x = torch.randn(1, *shape)
    small = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.Flatten(1), nn.Linear(4096, 4))

    def work() -> None:
        network = load()
        for _ in range(RUNS):
            network(x)

    with torch.inference_mode():
        small(torch.randn(1, 3, 16, 16))
        return transient_bytes(work)


def _run(program: str) -> int | None:
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    answer = child.stdout.strip()
    return None if answer == UNKNOWN else int(answer)
