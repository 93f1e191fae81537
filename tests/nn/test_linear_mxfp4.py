# SPDX-License-Identifier: Apache-2.0
"""LinearMXFP4: rounding by the OCP rule worked by hand and in loops, exact weights of others, files, gradients."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from _tolerance import assert_exact, assert_reduction
from bittern import deploy
from bittern.nn import LinearMXFP4, load_quantized, quantize, save_quantized
from bittern.nn.mx_codes import powers, round_to_mx, table

VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def rounded(v: float, largest: float) -> tuple[int, float]:
    """(e, the number) of v in a group whose largest magnitude is this, by section 6.3, in exact arithmetic."""
    if largest == 0:
        return 0, 0.0
    e = max(math.frexp(largest)[1] - 1 - 2 + 127, 0)
    unit = math.ldexp(1.0, e - 127)
    below = max(a for a in VALUES if a <= abs(v) / unit)
    above = min((a for a in VALUES if a >= abs(v) / unit), default=6.0)
    middle = (below + above) / 2
    even = below if VALUES.index(below) % 2 == 0 else above
    near = even if abs(v) / unit == middle else below if abs(v) / unit < middle else above
    return e, math.copysign(near * unit, v)


def layer_of(weight: Tensor) -> LinearMXFP4:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data.copy_(weight)
    return LinearMXFP4.from_float(linear)


def test_a_group_by_hand() -> None:
    """The largest is 7.5, so X = 2^(2 - 2) = 1; halves go to the even code, 7.5 is cut off at 6."""
    row = [7.5, 0.25, -0.25, 0.75, 1.25, 1.75, 2.5, -2.5, 3.5, 5.0, 5.1, 0.26, -0.74, 6.0] + [0.0] * 18
    want = [6.0, 0.0, -0.0, 1.0, 1.0, 2.0, 2.0, -2.0, 4.0, 4.0, 6.0, 0.5, -0.5, 6.0] + [0.0] * 18
    layer = layer_of(torch.tensor([row, [x / 8 for x in row]]))
    assert layer.exponents.tolist() == [[127], [124]]
    assert_exact(layer.dequantize(), torch.tensor([want, [x / 8 for x in want]]))
    assert torch.equal(layer.dequantize()[0].signbit(), torch.tensor(want).signbit())
    assert layer.packed[0, 0] == 0x70  # 6 is code 7, in the upper half
    assert layer.blocks()[0, 0, 0] == 0x07  # and in the lower half


@pytest.mark.parametrize("size", [1.0, 1e-3, 2.0**-126, 2.0**-140, 1e38])
def test_rounding_is_that_of_the_formula(size: float) -> None:
    weight = torch.randn(5, 96, generator=torch.Generator().manual_seed(0)).clamp(-3, 3) * size
    weight[1, 32:64] = 0.0
    weight[2, :32] *= 2.0 ** torch.arange(-20, 12).float() if size == 1.0 else 1.0
    layer = layer_of(weight)
    for row, decoded, exponents in zip(weight.tolist(), layer.dequantize().tolist(), layer.exponents, strict=True):
        for g in range(3):
            part = row[32 * g : 32 * g + 32]
            largest = max(map(abs, part))
            found = [rounded(v, largest) for v in part]
            assert int(exponents[g]) == found[0][0]
            assert decoded[32 * g : 32 * g + 32] == [value for _, value in found]


def test_every_code_and_scale_that_float32_has() -> None:
    """A scale is exact down to 2^-127; from 2^126 on, 6 of it is no float32."""
    e = torch.arange(255)
    assert powers(e).tolist() == [2.0 ** (i - 127) for i in range(255)]
    blocks = torch.tensor([[0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE] * 2], dtype=torch.uint8)
    for exponent in (0, 1, 2, 127, 251, 252):
        layer = LinearMXFP4.from_blocks(blocks.view(1, 1, 16), torch.full((1, 1), exponent, dtype=torch.uint8))
        want = [math.ldexp(v, exponent - 127) for v in table().tolist()] * 2
        assert layer.dequantize()[0].tolist() == want
        assert layer.dequantize(torch.bfloat16)[0].tolist() == want if exponent > 1 else True
        assert_exact(layer.blocks(), blocks.view(1, 1, 16))
        layer.check_codes()
    for exponent, what in ((253, "got 253"), (255, "1 of 255, which stands for no number")):
        with pytest.raises(ValueError, match=rf"scales must be 0 \.\.\. 252.*{what}"):
            LinearMXFP4.from_blocks(blocks, torch.full((1, 1), exponent, dtype=torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batch", [1, 3, 40])
def test_products_and_gradients(dtype: torch.dtype, batch: int) -> None:
    draw = torch.Generator().manual_seed(1)
    blocks = torch.randint(0, 256, (65, 3, 16), dtype=torch.uint8, generator=draw)
    scales = torch.randint(120, 128, (65, 3), dtype=torch.uint8, generator=draw)
    layer = LinearMXFP4.from_blocks(blocks, scales, torch.randn(65, generator=draw))
    low, high = blocks & 15, blocks >> 4
    numbers = table()[torch.stack([low, high], -1).flatten(1).long()].double()
    weight = numbers * 2.0 ** (scales.double() - 127).repeat_interleave(32, 1)
    assert_exact(layer.dequantize().double(), weight)
    x = torch.randn(batch, 96, generator=draw).to(dtype).requires_grad_()
    y = layer(x)
    assert layer.bias is not None
    want = x.detach().double() @ weight.T
    largest = (x.detach().double().abs() @ weight.abs().T).max() + 4
    assert_reduction(y - layer.bias.to(dtype), want, 96, largest)
    y.float().sum().backward()
    assert x.grad is not None
    assert_reduction(x.grad, weight.sum(0).expand(batch, -1), 65, weight.abs().sum(0).max())
    assert layer.bias.grad is not None


def test_derivatives_of_a_batch_by_torch_func() -> None:
    """Codes are turned into scales inside the transformation."""
    layer = LinearMXFP4(64, 5)
    rows = torch.func.vmap(torch.func.jacrev(layer))(torch.randn(3, 64))
    assert torch.equal(rows, layer.dequantize().expand(3, -1, -1))


def test_a_model_through_quantize_and_a_file(tmp_path: Path) -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 5))

    model = net()
    small = quantize(model, LinearMXFP4)
    x = torch.randn(4, 64)
    save_quantized(small, tmp_path / "x")
    again = load_quantized(net(), tmp_path / "x")
    assert_exact(again(x), small(x))
    assert isinstance(again[0], LinearMXFP4)
    assert sum(b.nbytes for n, b in again[0].named_buffers() if n != "table") * 8 == 4.25 * 64 * 96
    packed = deploy.pack(small.eval(), x)
    assert_exact(packed(x), small(x))
    assert again.half()[0].exponents.dtype == torch.uint8
    again[0].exponents[0, 0] = 255
    save_quantized(again, tmp_path / "y")
    with pytest.raises(ValueError, match="stands for no number"):
        load_quantized(net(), tmp_path / "y")


def test_errors() -> None:
    with pytest.raises(ValueError, match="its 70 inputs are no multiple of 32"):
        quantize(nn.Sequential(nn.Linear(70, 8)), LinearMXFP4)
    with pytest.raises(ValueError, match="in_features must be a multiple of 32; got 70; keep"):
        LinearMXFP4(70, 8)
    blocks, scales = torch.zeros(8, 2, 16, dtype=torch.uint8), torch.zeros(8, 2, dtype=torch.uint8)
    for bad in ((blocks[:, :1], scales), (blocks[:7], scales), (blocks[None], scales), (blocks[..., :8], scales)):
        with pytest.raises(ValueError, match=r"blocks must be \[out_features, groups, 16\]"):
            LinearMXFP4.from_blocks(*bad)
    with pytest.raises(TypeError, match="must be uint8"):
        LinearMXFP4.from_blocks(blocks.int(), scales)
    with pytest.raises(TypeError, match="must be uint8"):
        LinearMXFP4.from_blocks(blocks, scales.float())
    with pytest.raises(ValueError, match="bias must be numbers"):
        LinearMXFP4.from_blocks(blocks, scales, torch.zeros(7))
    layer = LinearMXFP4.from_blocks(blocks, scales)
    layer.table[3] = 7.0
    with pytest.raises(ValueError, match="the sixteen numbers of E2M1"):
        layer.check_codes()
    codes, exponents = round_to_mx(torch.zeros(0, 64))
    assert (tuple(codes.shape), tuple(exponents.shape)) == ((0, 64), (0, 2))
