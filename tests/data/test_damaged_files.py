# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes a data set's file holds, its reader gives values or the one documented error."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from bittern.data.idx import read_idx
from bittern.data.npz import read_npz
from bittern.data.text import read_characters, read_words

WANTED = {"a": np.dtype(np.uint8), "b": np.dtype(np.int64)}
HEADERS = (
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }",
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (-3,), }",
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000000000000,), }",
    b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    b"{'descr': [], 'fortran_order': False, 'shape': (3,), }",
    b"{[]: 1, 'descr': '|u1', 'fortran_order': False, 'shape': (3,), }",
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (3L,), ",
    b"'''",
    b"(\n  1,\n 2",
    b"  1\n 2\n",
    b"(" * 3000,
    b"-" * 9000 + b"1",
    b"",
)


def idx(*sizes: int, body: bytes = b"") -> bytes:
    return struct.pack(f">4B{len(sizes)}I", 0, 0, 8, len(sizes), *sizes) + body


def npz(header: bytes | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, dtype in WANTED.items():
            content = io.BytesIO()
            np.save(content, np.arange(5, dtype=dtype))
            text = content.getvalue()
            if header is not None and name == "a":
                text = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + b"abc"
            archive.writestr(f"{name}.npy", text)
    return file.getvalue()


def damaged(data: bytes, r: random.Random) -> bytes:
    at = r.randrange(len(data))
    return r.choice((data[:at], data[:at] + r.randbytes(r.randint(1, 6)) + data[at + r.randint(0, 6) :]))


@pytest.mark.parametrize("sizes", [(0, 2**32 - 1, 2**32 - 1, 2**32 - 1), (2**32 - 1, 0, 2**32 - 1), (2**32 - 1,) * 4])
def test_an_idx_file_of_impossible_sizes(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    (tmp_path / "x").write_bytes(idx(*sizes))
    with pytest.raises(ValueError, match="promises"):
        read_idx(tmp_path / "x")


def test_damaged_idx_files(tmp_path: Path) -> None:
    r, path = random.Random(0), tmp_path / "x"
    whole = idx(2, 3, 4, body=bytes(24))
    for _ in range(400):
        path.write_bytes(damaged(r.choice((whole, gzip.compress(whole))), r))
        with contextlib.suppress(ValueError):
            assert read_idx(path).dtype == torch.uint8


def test_damaged_npz_files(tmp_path: Path) -> None:
    r, path, whole = random.Random(0), tmp_path / "x", npz()
    for _ in range(400):
        path.write_bytes(damaged(whole, r))
        with contextlib.suppress(ValueError):
            assert read_npz(path, WANTED).keys() == WANTED.keys()


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header[:12].decode())
def test_an_npz_file_whose_array_says_anything(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "x").write_bytes(npz(header))
    if header == HEADERS[0]:
        assert read_npz(tmp_path / "x", WANTED)["a"].tolist() == [97, 98, 99]
        return
    with pytest.raises(ValueError, match=r"read_npz: .* is not the archive expected"):
        read_npz(tmp_path / "x", WANTED)


def test_damaged_texts(tmp_path: Path) -> None:
    r, path = random.Random(0), tmp_path / "x"
    for _ in range(100):
        path.write_bytes(damaged("the bird sees the fox, größer\r\n".encode(), r))
        with contextlib.suppress(ValueError):
            assert read_characters(path).train.numel() >= 1
            assert read_words(path, 3).train.numel() >= 1
