# SPDX-License-Identifier: Apache-2.0
"""Reader of numpy's npz archives that trusts nothing: no pickle, and sizes are checked before allocation."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

MAX_DEFLATE_RATIO = 1032
"""See bittern.data.idx: no deflated byte stands for more than this many."""


def read_npz(path: Path, wanted: dict[str, np.dtype[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Read the one-dimensional arrays `wanted` (name -> dtype) from an npz archive; others are not looked at.

    Raises: ValueError for a file that is not an npz archive, is damaged, lacks an array, or holds one of another
    dtype or shape, or one that promises more than the file can hold.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            present = set(archive.namelist())
            missing = [name for name in wanted if f"{name}.npy" not in present]
            if missing:
                raise ValueError(f"it lacks {', '.join(missing)}")
            return {name: _read_array(archive, name, dtype) for name, dtype in wanted.items()}
    # zipfile answers damage with any of these, NotImplementedError and RuntimeError among them (encryption, methods)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError, OverflowError) as error:
        raise ValueError(f"read_npz: {path} is not the archive expected: {error}") from error


def _read_array(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} must be stored or deflated; got method {info.compress_type}")
    if info.file_size > info.compress_size * MAX_DEFLATE_RATIO:
        raise ValueError(f"{name} promises {info.file_size} bytes, more than its {info.compress_size} can hold")
    with archive.open(info) as file:
        shape, got = _read_header(file)
        if got != dtype or len(shape) != 1:
            raise ValueError(f"{name} must be {dtype} with one dimension; got {got} {list(shape)}")
        count = math.prod(shape)
        size = count * dtype.itemsize
        if size > info.file_size:
            raise ValueError(f"{name} promises {size} bytes but has {info.file_size}")
        body = file.read(size + 1)
    if len(body) != size:
        raise ValueError(f"{name} must hold {size} bytes; got {'more' if len(body) > size else len(body)}")
    return np.frombuffer(bytearray(body), dtype=dtype)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"its npy version must be 1.0 or 2.0; got {version}")
    try:
        shape, _, dtype = readers[version](file)
    # numpy parses the header as a Python literal, and lets through whatever the parser raises for a damaged one
    except (SyntaxError, tokenize.TokenError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError(f"the header of an array is damaged ({type(error).__name__})") from error
    return shape, dtype
