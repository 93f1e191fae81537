# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bittern.data import read_idx

IdxBytes = Callable[..., bytes]
SLACK_BYTES = 4 << 20
"""What reading may allocate beside the elements: one chunk, its copy, zlib's window, the interpreter's own."""


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 28, 28), (2, 3, 4, 5), (0, 4)])
@pytest.mark.parametrize("zipped", [False, True])
def test_reads_what_was_written(tmp_path: Path, idx_bytes: IdxBytes, shape: tuple[int, ...], zipped: bool) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = idx_bytes(values)
    path = write(tmp_path / "values", gzip.compress(data) if zipped else data)
    read = read_idx(path)
    assert read.dtype == torch.uint8
    assert read.shape == shape
    assert torch.equal(read, torch.from_numpy(values))


def test_the_result_is_writable_memory_of_its_own(tmp_path: Path, idx_bytes: IdxBytes) -> None:
    path = write(tmp_path / "values", idx_bytes(np.zeros(3)))
    read_idx(path)[0] = 1
    assert torch.equal(read_idx(path), torch.zeros(3, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "not an idx file"),
        (lambda data: data[:3], "not an idx file"),
        (lambda data: b"PK" + data[2:], "not an idx file"),
        (lambda data: data[:3] + b"\0" + data[4:], "not an idx file"),
        (lambda data: data[:3] + b"\x05" + data[4:], "not an idx file"),
        (lambda data: data[:2] + b"\x0d" + data[3:], "type 13"),
        (lambda data: data[:10], "inside its header"),
        (lambda data: data[:-1], "than its length can hold|ends early"),
        (lambda data: data + b"\0", "after the last element"),
        (lambda data: data[:4] + struct.pack(">3I", *[2**32 - 1] * 3) + data[16:], "more than its length"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_refuses_damage(
    tmp_path: Path, idx_bytes: IdxBytes, change: Callable[[bytes], bytes], message: str, zipped: bool
) -> None:
    data = change(idx_bytes(np.ones((3, 4, 5))))
    path = write(tmp_path / "values", gzip.compress(data) if zipped else data)
    with pytest.raises(ValueError, match=message):
        read_idx(path)


def test_refuses_a_gzip_file_cut_short(tmp_path: Path, idx_bytes: IdxBytes) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 5000)
    whole = gzip.compress(idx_bytes(noise))
    for length in (2, 9, 20, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ValueError, match="damaged gzip"):
            read_idx(write(tmp_path / "values", whole[:length]))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere")


def test_a_bomb_is_not_unpacked_beyond_its_header(tmp_path: Path) -> None:
    header = bytes([0, 0, 8, 1]) + struct.pack(">I", 10)
    packer = zlib.compressobj(9, wbits=31)
    body = packer.compress(header) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    path = write(tmp_path / "bomb.gz", body)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="after the last element"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < SLACK_BYTES
    finally:
        tracemalloc.stop()


def test_a_header_that_promises_more_than_deflate_can_hold_is_refused_before_reading(tmp_path: Path) -> None:
    header = bytes([0, 0, 8, 2]) + struct.pack(">2I", 2**16, 2**16)
    path = write(tmp_path / "promise.gz", gzip.compress(header + bytes(1000)))
    with pytest.raises(ValueError, match="more than its length can hold"):
        read_idx(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_give_a_tensor_that_fits_or_a_value_error(
    tmp_path: Path, idx_bytes: IdxBytes, data: st.DataObject
) -> None:
    content = bytearray(idx_bytes(np.arange(60).reshape(3, 4, 5)))
    zipped = data.draw(st.booleans())
    if zipped:
        content = bytearray(gzip.compress(bytes(content)))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] + data.draw(st.binary(max_size=8))
    path = write(tmp_path / "fuzzed", bytes(content))
    tracemalloc.start()
    try:
        read = read_idx(path)
    except ValueError:
        pass
    else:
        assert read.numel() <= len(content) * (1032 if zipped else 1)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < SLACK_BYTES
