# SPDX-License-Identifier: Apache-2.0
"""safetensors files in pieces: what the library reads back, and what writing takes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load
from torch import Tensor, nn

from bittern._files import write_atomically
from bittern._tensor_file import pieces
from bittern.nn import Linear8bit, save_quantized

TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
TYPES += (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.complex64)


def of_every_type() -> dict[str, Tensor]:
    values = torch.arange(15).view(3, 5) % 2
    found = {str(dtype): values.to(dtype) for dtype in TYPES}
    shared = torch.randn(7, generator=torch.Generator().manual_seed(0))
    more = {"a scalar": torch.tensor(2.5), "nothing": torch.empty(0, 3), "strided": torch.arange(12).view(3, 4).t()}
    return {**found, **more, "one": shared, "the same": shared, "gradient": torch.ones(2, requires_grad=True)}


def test_the_library_reads_what_was_written(tmp_path: Path) -> None:
    tensors = of_every_type()
    data = b"".join(pieces(tensors, {"words": 'ä "quoted"\n'}))
    again = load(data)
    assert set(again) == set(tensors)
    for name, value in tensors.items():
        assert again[name].dtype == value.dtype, name
        assert again[name].shape == value.shape, name
        assert again[name].flatten().view(torch.uint8).equal(value.detach().flatten().view(torch.uint8)), name
    (tmp_path / "x").write_bytes(data)
    with safe_open(tmp_path / "x", "pt") as file:
        assert file.metadata() == {"words": 'ä "quoted"\n'}


def test_a_piece_is_the_memory_of_its_tensor() -> None:
    tensors = {"a": torch.randn(50, 40), "b": torch.zeros(9, dtype=torch.uint8)}
    _, *bodies = pieces(tensors, {})
    assert [np.frombuffer(body, np.uint8).ctypes.data for body in bodies] == [t.data_ptr() for t in tensors.values()]


def test_a_type_without_a_name_is_refused() -> None:
    with pytest.raises(TypeError, match=r"z: a safetensors file holds no torch.complex128; convert it first"):
        list(pieces({"z": torch.zeros(1, dtype=torch.complex128)}, {}))


def test_pieces_that_fail_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, [b"the ", memoryview(b"old")])
    assert path.read_bytes() == b"the old"
    with pytest.raises(TypeError, match="holds no"):
        write_atomically(path, pieces({"z": torch.zeros(1, dtype=torch.complex128)}, {}))
    assert path.read_bytes() == b"the old"
    assert list(tmp_path.iterdir()) == [path]


def test_saving_a_frozen_model_copies_no_tensor(tmp_path: Path) -> None:
    model = nn.ModuleList(Linear8bit(512, 512) for _ in range(8))
    path = tmp_path / "net.safetensors"
    save_quantized(model, path)  # what is imported at the first call counts for nothing
    tracemalloc.start()
    try:
        save_quantized(model, path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = path.stat().st_size
    assert size > 8 * 512 * 512
    assert peak < size / 16
