# SPDX-License-Identifier: Apache-2.0
"""The kernel library: building it from Bittern's sources, and loading it into ExecuTorch's Python runtime."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bittern.deploy.executorch.installed import require
from bittern.deploy.other_packages import quietly

LIBRARY = "libbittern_executorch.so"
BACKEND = "BitternBackend"
"""Name under which the library registers itself, and which a `.pte` asks for."""
SOURCES = Path(__file__).parents[4]
"""Bittern's source tree, where this package runs from one."""
BUILD = SOURCES / "build" / "edge"
"""Where `make edge` builds."""


class MissingKernels(RuntimeError):
    """No kernel library is loaded: the message says how to get one."""


def build_kernels(folder: str | Path = BUILD) -> Path:
    """Compile the kernel library for the installed ExecuTorch. Returns its path.

    folder: where CMake builds; what is there already is brought up to date. Takes a C++17 compiler, CMake >= 3.28
    and Bittern's source tree (a wheel of Bittern has no C++ sources).

    Raises: ImportError without ExecuTorch; RuntimeError when something else is missing or the compiler fails.
    """
    require("build_kernels")
    if not (SOURCES / "native" / "executorch" / "CMakeLists.txt").is_file():
        raise RuntimeError(
            "build_kernels: this bittern has no C++ sources; run it from a source tree (pip install --editable .)"
        )
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    if cmake is None:
        raise RuntimeError("build_kernels: CMake is missing; install it (pip install cmake)")
    folder = Path(folder)
    options = {"BITTERN_PYTHON": "OFF", "BITTERN_EXECUTORCH": "ON", "executorch_DIR": str(cmake_config())}
    _run([cmake, "-S", str(SOURCES), "-B", str(folder), *(f"-D{key}={value}" for key, value in options.items())])
    _run([cmake, "--build", str(folder), "--target", "bittern_executorch", "--parallel"])
    return folder / LIBRARY


def cmake_config() -> Path:
    """The folder of the installed ExecuTorch's CMake config, for `-Dexecutorch_DIR=`. Raises: ImportError."""
    return Path(require("cmake_config")) / "share" / "cmake"


def load_kernels(library: str | Path | None = None) -> None:
    """Make the kernels known to ExecuTorch's Python runtime, for the rest of the process; again is no error.

    library: what `build_kernels` returned. None: that of `make edge`.

    Raises: ImportError without ExecuTorch; MissingKernels when there is no such file or it does not fit.
    """
    require("load_kernels")
    if kernels_loaded():
        return
    path = BUILD / LIBRARY if library is None else Path(library)
    if not path.is_file():
        raise MissingKernels(f"load_kernels: no library {str(path)!r}; {ADVICE}")
    try:
        ctypes.CDLL(str(path.resolve()))
    except OSError as error:
        raise MissingKernels(
            f"load_kernels: {str(path)!r} does not fit the installed ExecuTorch: {error}; build it anew"
        ) from error
    if not kernels_loaded():
        raise MissingKernels(f"load_kernels: {str(path)!r} holds no backend {BACKEND}; {ADVICE}")


ADVICE = (
    "build it with 'make edge' or bittern.deploy.executorch.build_kernels(folder), and load it with "
    "bittern.deploy.executorch.load_kernels(library)"
)


def kernels_loaded() -> bool:
    """Whether ExecuTorch's runtime knows the kernels. Raises: ImportError without ExecuTorch."""
    require("kernels_loaded")
    with quietly():
        from executorch.runtime import Runtime

        return bool(Runtime.get().backend_registry.is_available(BACKEND))


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise RuntimeError(f"build_kernels: {' '.join(command)} failed:\n{last}")
