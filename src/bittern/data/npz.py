# SPDX-License-Identifier: Apache-2.0
"""Reader of numpy's npz archives that trusts nothing: no pickle, and sizes are checked before allocation."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

MAX_DEFLATE_RATIO = 1032
"""See bittern.data.idx: no deflated byte stands for more than this many."""
TEXT = np.dtype(np.str_)
"""Among the wanted: text of any width."""
MAX_CODE_POINT = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)


def read_npz(
    path: Path, wanted: Mapping[str, np.dtype[Any]], dimensions: Mapping[str, int] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays `wanted` (name -> dtype, or `TEXT`) from an npz archive; others are not looked at.

    dimensions: of those arrays that do not have one.

    Raises: ValueError for a file that is not an npz archive, is damaged, lacks an array, or holds one of another
    dtype or number of dimensions, or one that promises more than the file can hold.
    """
    dimensions = dimensions or {}
    try:
        with zipfile.ZipFile(path) as archive:
            present = set(archive.namelist())
            missing = [name for name in wanted if f"{name}.npy" not in present]
            if missing:
                raise ValueError(f"it lacks {', '.join(missing)}")
            return {name: _read_array(archive, name, dtype, dimensions.get(name, 1)) for name, dtype in wanted.items()}
    # zipfile answers damage with any of these, NotImplementedError and RuntimeError among them (encryption, methods)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError, OverflowError) as error:
        raise ValueError(f"read_npz: {path} is not the archive expected: {error}") from error


def _read_array(archive: zipfile.ZipFile, name: str, wanted: np.dtype[Any], dims: int) -> npt.NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} must be stored or deflated; got method {info.compress_type}")
    if info.file_size > info.compress_size * MAX_DEFLATE_RATIO:
        raise ValueError(f"{name} promises {info.file_size} bytes, more than its {info.compress_size} can hold")
    with archive.open(info) as file:
        shape, by_columns, dtype = _read_header(file)
        if not _is_wanted(dtype, wanted) or len(shape) != dims:
            kind = "text" if wanted == TEXT else wanted
            words = "one dimension" if dims == 1 else f"{dims} dimensions"
            raise ValueError(f"{name} must be {kind} with {words}; got {dtype} {list(shape)}")
        if any(size < 0 for size in shape):
            raise ValueError(f"{name} must hold sizes of at least 0; got {list(shape)}")
        if by_columns and dims > 1:
            raise ValueError(f"{name} must be stored row by row; got Fortran's order")
        size = math.prod(shape) * dtype.itemsize
        if size > info.file_size:
            raise ValueError(f"{name} promises {size} bytes but has {info.file_size}")
        body = file.read(size + 1)
    if len(body) != size:
        raise ValueError(f"{name} must hold {size} bytes; got {'more' if len(body) > size else len(body)}")
    values = np.frombuffer(bytearray(body), dtype=dtype).reshape(shape)
    if wanted == TEXT:
        _check_text(name, values)
    return values


def _is_wanted(dtype: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    if wanted == TEXT:
        return dtype.kind == "U" and dtype.isnative and dtype.itemsize > 0
    return dtype == wanted


def _check_text(name: str, values: npt.NDArray[Any]) -> None:
    """Raises: ValueError for what is no character."""
    codes = values.view(np.uint32)
    bad = (codes > MAX_CODE_POINT) | ((codes >= SURROGATES[0]) & (codes <= SURROGATES[1]))
    if bad.any():
        raise ValueError(f"{name} must be Unicode text; it holds {int(codes[bad][0]):#x}, which is no character")


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"its npy version must be 1.0 or 2.0; got {version}")
    try:
        shape, by_columns, dtype = readers[version](file)
    # numpy parses the header as a Python literal, and lets through whatever the parser raises for a damaged one
    except (SyntaxError, tokenize.TokenError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError(f"the header of an array is damaged ({type(error).__name__})") from error
    return shape, by_columns, dtype
