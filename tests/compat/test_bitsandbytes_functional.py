# SPDX-License-Identifier: Apache-2.0
"""bitsandbytes.functional: tables, codes and states, against literal numbers and against the real package."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bittern.compat.bitsandbytes import functional as F


def _x(rows: int = 33, columns: int = 80) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))


def test_dynamic_maps_have_the_published_bytes() -> None:
    starts = [
        hashlib.sha256(F.create_dynamic_map(signed).numpy().tobytes()).hexdigest()[:16] for signed in (True, False)
    ]
    assert starts == ["e732639a65f497b4", "305f002cc11278fb"]


def test_zero_stays_zero_and_one_element_per_code() -> None:
    x = _x()
    x[3] = 0
    codes, state = F.quantize_blockwise(x, blocksize=64)
    values = F.dequantize_blockwise(codes, state)
    assert codes.shape == x.shape
    assert torch.equal(values[3], torch.zeros(80))
    assert float((values - x).abs().max()) < 0.02 * float(x.abs().max())


def test_every_code_survives() -> None:
    table = F.create_dynamic_map()
    codes, state = F.quantize_blockwise(table, blocksize=256)
    assert torch.equal(codes, torch.arange(256, dtype=torch.uint8))
    assert torch.equal(F.dequantize_blockwise(codes, state), table)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_blockwise_arguments(nested: bool, dtype: torch.dtype) -> None:
    x = _x().to(dtype)
    out = torch.empty(x.shape, dtype=torch.uint8)
    codes, state = F.quantize_blockwise(x, F.create_linear_map(), out=out, blocksize=128, nested=nested)
    assert codes is out
    assert state.nested is nested
    values = F.dequantize_blockwise(codes, state)
    assert values.dtype == dtype
    assert float((values.float() - x.float()).abs().max()) < 0.05
    filled = torch.empty_like(x)
    assert F.dequantize_blockwise(codes, state, out=filled) is filled
    assert torch.equal(filled, values)


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize("shape", [(64, 96), (5, 48), (33, 80), (7, 3), (1,)])
@pytest.mark.parametrize("nested", [False, True])
def test_4bit_of_any_shape(quant_type: str, shape: tuple[int, ...], nested: bool) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    packed, state = F.quantize_4bit(x, quant_type=quant_type, compress_statistics=nested)
    assert packed.shape == ((x.numel() + 1) // 2, 1)
    values = F.dequantize_4bit(packed, state)
    scale = x.abs().max()
    assert values.shape == x.shape
    assert float((values - x).abs().max()) <= 0.2 * float(scale)
    for packed_dict in (False, True):
        copy = F.QuantState.from_dict(state.as_dict(packed_dict), "cpu")
        assert torch.equal(F.dequantize_4bit(packed, copy), values)


def test_fp4_bit_patterns() -> None:
    table = F.get_4bit_type("fp4")
    twelfths = [0, 0.0625, 8, 12, 4, 6, 2, 3]
    torch.testing.assert_close(table, torch.tensor([*twelfths, *(-x for x in twelfths)]) / 12)
    packed, state = F.quantize_fp4(torch.cat([table, torch.zeros(48)]))
    nibbles = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], 1).flatten()[:16].tolist()
    assert nibbles == [0, 1, 2, 3, 4, 5, 6, 7, 0, 9, 10, 11, 12, 13, 14, 15]
    assert state.quant_type == "fp4"


def test_packed_state_is_the_documented_json() -> None:
    _, state = F.quantize_nf4(_x(4, 64).bfloat16(), compress_statistics=True)
    packed = state.as_dict(packed=True)
    assert list(packed) == ["absmax", "quant_map", "nested_absmax", "nested_quant_map", "quant_state.bitsandbytes__nf4"]
    text = bytes(packed["quant_state.bitsandbytes__nf4"].tolist()).decode()
    assert text.startswith(
        '{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [4, 64], "nested_blocksize": 256, '
        '"nested_dtype": "float32", "nested_offset": '
    )


def test_refusals() -> None:
    with pytest.raises(ValueError, match="float32, bfloat16 or float16"):
        F.quantize_blockwise(_x().double())
    with pytest.raises(ValueError, match="blocksize must be positive"):
        F.quantize_blockwise(_x(), blocksize=0)
    with pytest.raises(ValueError, match="power of two"):
        F.quantize_blockwise(_x(), blocksize=100, nested=True)
    with pytest.raises(ValueError, match="power of two"):
        F.quantize_4bit(_x(), blocksize=100)
    with pytest.raises(ValueError, match="quant_type"):
        F.quantize_4bit(_x(), quant_type="nf5")
    with pytest.raises(ValueError, match="quant_state or absmax"):
        F.dequantize_blockwise(torch.zeros(4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="needs absmax and out"):
        F.dequantize_4bit(torch.zeros(4, 1, dtype=torch.uint8))
    with pytest.raises(ValueError, match="multiple of 4 bytes"):
        F.quantize_4bit(_x(1, 6), quant_storage=torch.float32)
    with pytest.raises(ValueError, match="unsigned map"):
        F.create_dynamic_map(False, 5, 8)


@pytest.fixture(scope="module")
def real() -> Any:
    from bitsandbytes import functional

    return functional


@pytest.mark.peers("bitsandbytes")
@pytest.mark.filterwarnings("ignore")
class TestAgainstTheRealOne:
    """bitsandbytes itself."""

    def test_maps(self, real: Any) -> None:
        for bits in range(2, 9):
            for signed in (True, False):
                assert torch.equal(
                    real.create_dynamic_map(signed, bits - 1, bits), F.create_dynamic_map(signed, bits - 1, bits)
                )
                for zero in (True, False):
                    assert torch.equal(
                        real.create_linear_map(signed, bits, zero), F.create_linear_map(signed, bits, zero)
                    )
        for exponent in range(2, 7):
            assert torch.equal(real.create_dynamic_map(True, exponent, 8), F.create_dynamic_map(True, exponent, 8))
        for bits in ((True, 5, 2, 8), (False, 5, 3, 8), (True, 4, 3, 8), (True, 2, 1, 4)):
            assert torch.equal(real.create_fp8_map(*bits), F.create_fp8_map(*bits))
        for name in ("nf4", "fp4"):
            assert torch.equal(real.get_4bit_type(name, "cpu"), F.get_4bit_type(name))

    @pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
    @pytest.mark.parametrize("nested", [False, True])
    def test_4bit_states_move_both_ways(self, real: Any, quant_type: str, nested: bool) -> None:
        x = _x(30, 128)
        a, theirs = real.quantize_4bit(x, quant_type=quant_type, compress_statistics=nested)
        b, ours = F.quantize_4bit(x, quant_type=quant_type, compress_statistics=nested)
        first, second = theirs.as_dict(packed=True), ours.as_dict(packed=True)
        assert list(first) == list(second)
        read_here = F.dequantize_4bit(a, F.QuantState.from_dict(first, "cpu"))
        read_there = real.dequantize_4bit(b, real.QuantState.from_dict(second, "cpu"))
        assert torch.equal(read_here, real.dequantize_4bit(a, theirs))
        assert torch.equal(read_there, F.dequantize_4bit(b, ours))
        torch.testing.assert_close(read_here, read_there, rtol=0, atol=1e-5)

    def test_blockwise(self, real: Any) -> None:
        x = _x(40, 128)
        for size in (64, 256, 4096):
            a, theirs = real.quantize_blockwise(x, blocksize=size)
            b, ours = F.quantize_blockwise(x, blocksize=size)
            assert torch.equal(theirs.absmax, ours.absmax)
            assert float((a != b).float().mean()) < 0.01
            assert torch.equal(F.dequantize_blockwise(a, ours), real.dequantize_blockwise(a, theirs))
            mine = (F.dequantize_blockwise(b, ours) - x).abs().mean()
            assert mine <= (real.dequantize_blockwise(a, theirs) - x).abs().mean()


@pytest.mark.parametrize("function", [F.quantize_blockwise, F.quantize_4bit, F.int8_vectorwise_quant])
def test_a_numpy_array_is_told_apart_from_a_tensor(function: Any) -> None:
    with pytest.raises(ValueError, match=r"A must be a tensor of float.*; got ndarray$"):
        function(np.zeros((2, 64), np.float32))
