# SPDX-License-Identifier: Apache-2.0
"""`torch.ops.bitsandbytes`: what the operators give, and that torch accepts them (in a process of its own)."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from bittern.compat.bitsandbytes import functional as F
from bittern.compat.bitsandbytes._torch_ops import OPERATORS
from bittern.compat.bitsandbytes._torch_ops._operator import Operator

RUN = {operator.name: operator.run for operator in OPERATORS}


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_products_with_4_bit_weights(quant_type: str, nested: bool) -> None:
    weight, x, bias = _random(24, 128), _random(3, 128, seed=1), _random(24, seed=2)
    packed, state = F.quantize_4bit(weight, quant_type=quant_type, compress_statistics=nested)
    expected = F.gemv_4bit(x, packed.t(), state=state)
    if nested:
        assert state.state2 is not None
        parts = (state.absmax, state.state2.code, state.offset)
        y = RUN["gemm_4bit"](x, packed, [24, 128], state.state2.absmax, 64, quant_type, bias, *parts)
    else:
        y = RUN["gemm_4bit"](x, packed, [24, 128], state.absmax, 64, quant_type, bias)
    torch.testing.assert_close(y, expected + bias)
    if not nested:
        assert torch.equal(RUN["gemv_4bit"](x, packed, [24, 128], state.absmax, state.code, 64), expected)


def test_nested_parts_go_together() -> None:
    packed, state = F.quantize_nf4(_random(4, 64))
    with pytest.raises(ValueError, match="go together; got no absmax_8bit and absmax_code"):
        RUN["gemm_4bit"](_random(1, 64), packed, [4, 64], state.absmax, 64, "nf4", None, None, state.code)


def test_mixed_product_keeps_outliers_in_floating_point() -> None:
    x, weight = _random(4, 32).half(), _random(8, 32, seed=1).half()
    x[:, 5] = 20.0
    codes, absmax, columns = F.int8_vectorwise_quant(x, threshold=6.0)
    weight_codes, weight_absmax, _ = F.int8_vectorwise_quant(weight)
    y, kept = RUN["int8_mixed_scaled_mm"](x, codes, weight_codes, absmax, weight_absmax, columns)
    assert columns is not None
    assert columns.tolist() == [5]
    assert torch.equal(kept, x[:, 5:6])
    exact = x.double() @ weight.double().t()
    assert (y - exact).abs().max() < 0.02 * exact.abs().max()
    without, nothing = RUN["int8_mixed_scaled_mm"](x, codes, weight_codes, absmax, weight_absmax)
    assert nothing is None
    assert torch.equal(without, RUN["int8_scaled_mm"](codes, weight_codes, absmax, weight_absmax))


def test_out_is_filled_or_refused() -> None:
    a, b = (torch.randint(-128, 128, (n, 20), dtype=torch.int8) for n in (3, 5))
    out = torch.empty(3, 5, dtype=torch.int32)
    assert RUN["int8_linear_matmul.out"](a, b, out) is None
    assert torch.equal(out, a.int() @ b.int().t())
    with pytest.raises(ValueError, match=r"int8_linear_matmul: out must be torch.int32 \[3, 5\]"):
        RUN["int8_linear_matmul.out"](a, b, out.float())


def test_an_operator_knows_its_overload() -> None:
    assert Operator("f.out(Tensor a) -> ()", print, print).name == "f.out"


_PROGRAM = """
import warnings
warnings.simplefilter("ignore")
from bittern.compat import bitsandbytes as bnb
import torch
assert not hasattr(torch.ops.bitsandbytes, "gemv_4bit")
bnb.install()
bnb.install()
ops, F, check = torch.ops.bitsandbytes, bnb.functional, torch.library.opcheck
x, code = torch.randn(24, 128), F.create_dynamic_map()
codes, absmax = ops.quantize_blockwise(x, code, 64)
packed, scales = ops.quantize_4bit(x, 64, "nf4", torch.uint8)
_, nested = F.quantize_nf4(x, compress_statistics=True)
table, out = F.get_4bit_type("nf4"), torch.empty
a, b = (torch.randint(-128, 128, (n, 20), dtype=torch.int8) for n in (3, 5))
row, column, half = torch.rand(3), torch.rand(5), torch.randn(3, 20).half()

inner = (nested.absmax, nested.state2.code, nested.offset)
p, g, m, v = (torch.rand(600) for _ in range(4))
bytes1, bytes2 = (torch.zeros(600, dtype=torch.uint8) for _ in range(2))
unsigned = F.create_dynamic_map(signed=False)
CASES = [
    (ops.quantize_blockwise.default, (x, code, 64)),
    (ops.dequantize_blockwise.default, (codes, absmax, code, 64, torch.bfloat16)),
    (ops.dequantize_blockwise.out, (codes, absmax, code, 64, torch.float32, out(24, 128))),
    (ops.quantize_4bit.default, (x, 64, "fp4", torch.uint8)),
    (ops.dequantize_4bit.default, (packed, scales, 64, "nf4", (24, 128), torch.float16)),
    (ops.dequantize_4bit.out, (packed, scales, 64, "nf4", (24, 128), torch.float32, out(24, 128))),
    (ops.gemv_4bit.default, (torch.randn(1, 128), packed, (24, 128), scales, table, 64)),
    (ops.gemv_4bit.out, (torch.randn(1, 128), packed, (24, 128), scales, table, 64, out(1, 24))),
    (ops.gemm_4bit.default, (torch.randn(2, 3, 128), packed, (24, 128), scales, 64, "nf4", torch.randn(24))),
    (ops.gemm_4bit.default, (torch.randn(2, 128), packed, (24, 128), nested.state2.absmax, 64, "nf4", None, *inner)),
    (ops.int8_linear_matmul.default, (a, b)),
    (ops.int8_linear_matmul.out, (a, b, torch.empty(3, 5, dtype=torch.int32))),
    (ops.int8_scaled_mm.default, (a, b, row, column, torch.randn(5), torch.float32)),
    (ops.int8_mixed_scaled_mm.default, (half, a, b, row, column, torch.tensor([1, 4]))),
    (ops.int8_vectorwise_quant.default, (half, )),
    (ops.int8_vectorwise_quant.default, (half, 1.0)),
    (ops.int8_vectorwise_dequant.default, (a, row)),
    (ops.int8_mm_dequant.default, (ops.int8_linear_matmul(a, b), row, column)),
    (ops.int8_double_quant.default, (half, 1.0)),
    (ops.optimizer_update_32bit.default,
     ("adam", g, p, m, v, None, 0.0, 0.0, 0.9, 0.999, 0.0, 0.0, 1e-8, 0.0, 1, 1e-3, 1.0)),
    (ops.optimizer_update_8bit_blockwise.default,
     ("adam", g, p, bytes1, bytes2, 0.9, 0.999, 0.0, 0.0, 1e-8, 1, 1e-3, code, unsigned, torch.zeros(3),
      torch.zeros(3), 0.0, 1.0)),
]
for op, arguments in CASES:
    check(op, arguments)
print(len({op for op, _ in CASES}))
"""


def test_torch_accepts_every_operator() -> None:
    result = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=500)
    assert result.stdout.strip() == str(len(OPERATORS)), result.stderr[-3000:]
