# SPDX-License-Identifier: Apache-2.0
"""StableEmbedding: its formula, its start, and that its states stay in 32 bits."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bittern import optim
from bittern.nn import StableEmbedding


def test_norm_comes_right_after_the_look_up() -> None:
    layer = StableEmbedding(50, 8, padding_idx=3)
    indices = torch.tensor([[1, 2, 3], [49, 0, 1]])
    expected = F.layer_norm(layer.weight[indices], (8,), layer.norm.weight, layer.norm.bias)
    assert torch.equal(layer(indices), expected)
    assert (layer.weight[3] == 0).all()
    bound = (6 / (50 + 8)) ** 0.5
    assert 0.8 * bound < float(layer.weight.detach().abs().max()) <= bound


def test_half_precision_is_normed_in_float32() -> None:
    layer = StableEmbedding(50, 8, dtype=torch.bfloat16)
    assert layer(torch.tensor([1])).dtype == torch.bfloat16
    assert layer.norm.weight.dtype == torch.float32


@pytest.mark.parametrize("copied", [False, True])
def test_its_states_stay_in_32_bits(copied: bool) -> None:
    model = nn.Sequential(StableEmbedding(100, 64), nn.Linear(64, 100))
    model = copy.deepcopy(model) if copied else model
    optimizer = optim.AdamW(optim.param_groups(model), lr=1e-2, min_8bit_size=0)
    model(torch.arange(10)).sum().backward()
    optimizer.step()
    assert optimizer.state[model[0].weight]["exp_avg"].dtype == torch.float32
    assert optimizer.state[model[1].weight]["exp_avg"].dtype == torch.uint8


def test_plain_parameters_keep_them_too() -> None:
    model = nn.Sequential(StableEmbedding(100, 64), nn.Linear(64, 100))
    optimizer = optim.AdamW(model.parameters(), lr=1e-2, min_8bit_size=0)
    model(torch.arange(10)).sum().backward()
    optimizer.step()
    assert optimizer.state[model[0].weight]["exp_avg"].dtype == torch.float32
    assert optimizer.state[model[1].weight]["exp_avg"].dtype == torch.uint8


def test_sparse_gradients_are_refused() -> None:
    with pytest.raises(ValueError, match="sparse=False"):
        StableEmbedding(10, 4, sparse=True)
