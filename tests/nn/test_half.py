# SPDX-License-Identifier: Apache-2.0
"""Storage in 16 bits: what overflows and underflows, and a state that goes round."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bittern.nn import store_half


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight[0] = torch.tensor([65504.0, 65519.0, -1e6, float("inf")])
        model[0].weight[1] = torch.tensor([2.0**-24, 2.0**-26, -0.0, 1.5 * 2.0**-24])
        model[0].weight[2] = torch.tensor([1.0, 1.0 + 2.0**-11, 1.0 + 3 * 2.0**-11, -3.0])  # ties to even
    return model.eval()


def test_numbers_and_their_report() -> None:
    model = network()
    half = store_half(model, keep=["1.running_var"])
    weight = half.state_dict()["model.0.weight"]
    assert weight.dtype == torch.float16
    assert weight.tolist() == [
        [65504.0, 65504.0, -65504.0, float("inf")],
        [2.0**-24, 0.0, -0.0, 2 * 2.0**-24],
        [1.0, 1.0, 1.0 + 2.0**-9, -3.0],
    ]
    rows = {row.name: row for row in half.report.tensors}
    first = rows["0.weight"]
    assert (first.elements, first.overflow, first.underflow, first.subnormal) == (12, 1, 1, 1)
    assert first.largest_error == 15.0
    assert rows["1.running_var"].kept == "keep: 1.running_var"
    assert half.state_dict()["model.1.running_var"].dtype == torch.float32
    assert half.state_dict()["model.1.num_batches_tracked"].dtype == torch.int64
    assert "0.weight: of 12, 1 overflow, 1 become 0, 1 lose bits" in str(half.report)
    assert half.report.bytes_before - half.report.bytes_after == 2 * sum(rows[n].elements for n in half.report.stored)
    assert model[0].weight.dtype == torch.float32  # the model itself is not touched


def test_bfloat16_has_the_range() -> None:
    rows = {row.name: row for row in store_half(network(), torch.bfloat16).report.tensors}
    assert (rows["0.weight"].overflow, rows["0.weight"].underflow) == (0, 0)


def test_it_computes_in_float32_and_its_state_goes_round() -> None:
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)).eval(), torch.randn(3, 5)
    half = store_half(model)
    before = half.state_dict()
    y = half(x)
    rounded = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    rounded.load_state_dict({name: t.half().float() for name, t in model.state_dict().items()})
    assert torch.equal(y, rounded(x))
    after = half.state_dict()
    assert all(t.dtype == torch.float16 and torch.equal(t, before[name]) for name, t in after.items())
    other = store_half(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)))
    other.load_state_dict(after)
    assert torch.equal(other(x), y)
    with pytest.raises(ValueError, match=r"has numbers that torch\.float16 does not have"):
        other.load_state_dict({f"model.{name}": t for name, t in model.state_dict().items()})
    with pytest.raises(RuntimeError, match="do not train"):
        half.train()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dtype must be torch.float16 or torch.bfloat16; got torch.float32"):
        store_half(network(), torch.float32)
    with pytest.raises(ValueError, match="keep names no tensor: 'tail'"):
        store_half(network(), keep=["tail"])
    with pytest.raises(ValueError, match="no tensor is left"):
        store_half(network(), keep=["*"])
