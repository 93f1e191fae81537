# SPDX-License-Identifier: Apache-2.0
"""What the tests of ExecuTorch programs share: the kernel library, built once for all processes of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from bittern.deploy.executorch import build_kernels
from bittern.deploy.executorch.kernels import BUILD


@contextmanager
def building() -> Iterator[None]:
    """One process at a time."""
    BUILD.parent.mkdir(exist_ok=True)
    with FileLock(f"{BUILD}.lock"):
        yield


def built_kernels() -> Path:
    with building():
        return build_kernels()
