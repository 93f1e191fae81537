# SPDX-License-Identifier: Apache-2.0
"""Bytes of state per parameter, and what happens to layouts, types and devices of parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bittern import optim
from optim._training import parameters, relative_error, train

MANY = 1 << 18


def _bytes_per_param(optimizer: torch.optim.Optimizer, p: torch.nn.Parameter) -> float:
    p.grad = torch.randn_like(p)
    optimizer.step()
    tensors = [x for name, x in optimizer.state[p].items() if name != "step"]
    return sum(x.numel() * x.element_size() for x in tensors) / p.numel()


@pytest.mark.parametrize(
    ("name", "options", "limit"),
    [
        ("AdamW", {}, 2.04),
        ("AdamW", {"state_bits": 4}, 1.1),
        ("AdamW", {"state_bits": 4, "state_rounding": "nearest"}, 1.07),
        ("Lion", {}, 1.02),
        ("SGD", {"momentum": 0.9}, 1.02),
        ("AdEMAMix", {}, 3.05),
        ("Adan", {}, 4.07),
        ("Adafactor", {"momentum": 0.9}, 1.04),
        ("AdamW", {"block_size": 2048}, 2.004),
        ("Adadelta", {}, 2.04),
        ("AdamWScheduleFree", {"state_bits": 4}, 4.57),
    ],
)
def test_bytes_of_state_per_parameter(name: str, options: dict[str, Any], limit: float) -> None:
    p = torch.nn.Parameter(torch.randn(512, MANY // 512))
    assert _bytes_per_param(getattr(optim, name)([p], lr=1e-3, **options), p) <= limit


def test_small_parameters_keep_floats() -> None:
    params = parameters([(4095,), (4096,)])
    optimizer = optim.Adam(params)
    train(optimizer, params, 1)
    assert [optimizer.state[p]["exp_avg"].dtype for p in params] == [torch.float32, torch.uint8]


def test_a_parameter_can_ask_for_its_bits() -> None:
    params = parameters([(5000,), (5000,)])
    params[0].optimizer_state_bits = 32
    optimizer = optim.Adam(params)
    train(optimizer, params, 1)
    assert [optimizer.state[p]["exp_avg"].dtype for p in params] == [torch.float32, torch.uint8]


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_channels_last_parameters_keep_their_layout_and_blocks_follow_memory(bits: int) -> None:
    flat = torch.randn(5, 7, 3, 16)  # [N, H, W, C] in memory
    p = torch.nn.Parameter(flat.permute(0, 3, 1, 2))
    q = torch.nn.Parameter(flat.clone())
    a, b = (optim.AdamW([x], min_8bit_size=0, state_bits=bits) for x in (p, q))
    for _ in range(5):
        q.grad = torch.randn_like(q)
        p.grad = q.grad.permute(0, 3, 1, 2).contiguous()  # another layout than the parameter
        a.step()
        b.step()
    assert p.stride() == flat.permute(0, 3, 1, 2).stride()
    assert torch.equal(p.permute(0, 2, 3, 1), q)


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_a_strided_slice_steps_like_its_copy(bits: int) -> None:
    base = torch.randn(60, 100)
    p = torch.nn.Parameter(base[:, ::2])
    q = torch.nn.Parameter(base[:, ::2].contiguous())
    untouched = base[:, 1::2].clone()
    a, b = (optim.AdamW([x], min_8bit_size=0, state_bits=bits) for x in (p, q))
    train(a, [p], 5)
    train(b, [q], 5)
    assert torch.equal(p, q)
    assert torch.equal(base[:, 1::2], untouched)


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_states_follow_a_parameter_into_another_layout(bits: int) -> None:
    values = torch.randn(4, 16, 8, 8)
    p, q = (torch.nn.Parameter(values.clone()) for _ in range(2))
    a, b = (optim.Adam([x], lr=1e-2, min_8bit_size=0, state_bits=bits) for x in (p, q))
    train(a, [p], 5)
    train(b, [q], 5)
    p.data = p.data.to(memory_format=torch.channels_last)
    train(a, [p], 5, start=5)
    train(b, [q], 5, start=5)
    limit = {32: 1e-6, 8: 0.03, 4: 0.3}[bits]
    assert relative_error([p.detach() - values], [q.detach() - values]) < limit


def test_states_stay_right_when_the_parameter_changes_its_type_or_memory() -> None:
    params = parameters([(5000,)])
    optimizer = optim.Adam(params, rounding="kahan")
    train(optimizer, params, 2)
    params[0].data = params[0].data.bfloat16()
    params[0].grad = None
    train(optimizer, params, 2, start=2)
    assert optimizer.state[params[0]]["step"] == 4
    assert optimizer.state[params[0]]["compensation"].dtype == torch.bfloat16
    params[0].grad = None
    params[0].data = torch.zeros(300)
    with pytest.raises(ValueError, match="make a new optimizer after a change of shape"):
        train(optimizer, params, 1, start=4)


def test_changing_the_bits_of_a_group_converts_its_states() -> None:
    params, twins = parameters([(5000,)]), parameters([(5000,)])
    a, b = optim.Adam(params, state_bits=8), optim.Adam(twins, state_bits=8)
    train(a, params, 3)
    train(b, twins, 3)
    a.param_groups[0]["state_bits"] = 32
    train(a, params, 1, start=3)
    train(b, twins, 1, start=3)
    assert a.state[params[0]]["exp_avg"].dtype == torch.float32
    assert "exp_avg_absmax" not in a.state[params[0]]
    assert torch.equal(params[0], twins[0])  # the parameter sees the states before they are coded


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_kahan_rounding_keeps_small_updates(dtype: torch.dtype) -> None:
    moved = {}
    for rounding in ("nearest", "kahan"):
        p = torch.nn.Parameter(torch.ones(5000, dtype=dtype))
        optimizer = optim.SGD([p], lr=1e-5, rounding=rounding)
        for _ in range(1000):
            p.grad = torch.ones_like(p)
            optimizer.step()
        moved[rounding] = 1 - float(p.detach().float().mean())
    assert moved["nearest"] == 0
    assert abs(moved["kahan"] - 1e-2) < 4 * torch.finfo(dtype).eps


def test_stochastic_rounding_is_right_on_average_and_repeats() -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        p = torch.nn.Parameter(torch.ones(20000, dtype=torch.bfloat16))
        optimizer = optim.SGD([p], lr=1e-4, rounding="stochastic")
        for _ in range(20):
            p.grad = torch.ones_like(p)
            optimizer.step()
        results.append(p.detach().float())
    assert torch.equal(results[0], results[1])
    spacing = 2.0**-8  # of bfloat16 just below 1
    deviation = (20 * 1e-4 / spacing) ** 0.5 * spacing / 20000**0.5
    assert abs(float(1 - results[0].mean()) - 20 * 1e-4) < 5 * deviation
