# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bittern.data.npz import TEXT, read_npz

WANTED = {"values": np.dtype(np.int64)}
VALUES = np.arange(50, dtype=np.int64)


def archive(compressed: bool = False) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, values=VALUES, other=np.zeros(3))
    return file.getvalue()


def promise(count: int, body: bytes, method: int) -> bytes:
    """An archive whose array header promises `count` int64."""
    head = str({"descr": "<i8", "fortran_order": False, "shape": (count,)}).encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as packer:
        packer.writestr("values.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head) + 1) + head + b"\n" + body)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_reads_the_arrays_asked_for(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(archive(compressed))
    read = read_npz(path, WANTED)
    assert list(read) == ["values"]
    np.testing.assert_array_equal(read["values"], VALUES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not the archive"),
        (archive()[:-30], "not the archive"),
        (promise(2**50, bytes(800), zipfile.ZIP_STORED), "promises"),
        (promise(2**50, bytes(800), zipfile.ZIP_DEFLATED), "promises"),
        (promise(-1, bytes(800), zipfile.ZIP_STORED), "must hold"),
        (promise(10, bytes(88), zipfile.ZIP_STORED), "must hold 80 bytes; got more"),
        (promise(10, bytes(80), zipfile.ZIP_BZIP2), "stored or deflated"),
    ],
)
def test_refuses_damage(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_npz(path, WANTED)


def test_names_what_is_missing_or_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(archive())
    with pytest.raises(ValueError, match="lacks labels"):
        read_npz(path, {"labels": np.dtype(np.uint8)})
    with pytest.raises(ValueError, match=r"values must be uint8 .* got int64"):
        read_npz(path, {"values": np.dtype(np.uint8)})


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_give_the_array_or_a_value_error(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(archive(data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzzed.npz"
    path.write_bytes(bytes(content))
    tracemalloc.start()
    try:
        read = read_npz(path, WANTED)
    except ValueError:
        pass
    else:
        assert read["values"].nbytes <= 1032 * len(content)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 << 20


def test_texts_and_more_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    table = np.arange(6, dtype=np.int16).reshape(3, 2)
    np.savez(path, names=np.array(["one", "größe"]), table=table, columns=np.asfortranarray(table))
    read = read_npz(path, {"names": TEXT, "table": table.dtype}, {"table": 2})
    assert read["names"].tolist() == ["one", "größe"]
    np.testing.assert_array_equal(read["table"], table)
    with pytest.raises(ValueError, match=r"table must be int16 with one dimension; got int16 \[3, 2\]"):
        read_npz(path, {"table": table.dtype})
    with pytest.raises(ValueError, match="columns must be stored row by row"):
        read_npz(path, {"columns": table.dtype}, {"columns": 2})
    with pytest.raises(ValueError, match=r"table must be text with 2 dimensions"):
        read_npz(path, {"table": TEXT}, {"table": 2})


@pytest.mark.parametrize("code", [0x110000, 0xD800, 0xFFFFFFFF])
def test_what_is_no_character(tmp_path: Path, code: int) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, names=np.array([code], np.uint32).view("<U1"))
    with pytest.raises(ValueError, match=f"it holds {code:#x}, which is no character"):
        read_npz(path, {"names": TEXT})
