# SPDX-License-Identifier: Apache-2.0
"""Batch norms whose statistics stay."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from _bit_networks import randomize_norm
from bittern.deploy import pack
from bittern.nn import BinaryConv2d, FrozenBatchNorm2d, freeze_norms
from bittern.quant import FQN


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        BinaryConv2d(8, 8, 3, method=FQN),
        nn.BatchNorm2d(8),
        nn.Flatten(),
        nn.Linear(128, 6),
        nn.BatchNorm1d(6),
    )
    for module in model:
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            randomize_norm(module)
    return model


def test_statistics_stay_and_parameters_train() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    assert freeze_norms(model) == 3
    assert model.state_dict().keys() == before.keys()
    x = 5 * torch.randn(2, 3, 8, 8)
    expected = copy.deepcopy(model).eval()[:3](x)
    assert torch.equal(model.train()[:3](x), expected), "a norm is that of inference"
    assert isinstance(model[1], FrozenBatchNorm2d)
    for _ in range(25):  # past the batches in which FQN only looks
        optimizer.zero_grad()
        model(x).mean().backward()
        optimizer.step()
    after = model.state_dict()
    for name, value in before.items():
        if "running" in name or "tracked" in name:
            assert torch.equal(after[name], value), name
    assert not torch.equal(after["1.weight"], before["1.weight"])
    packed = pack(model.eval(), x)
    assert torch.equal(packed(x), model(x))
    assert freeze_norms(model) == 3  # again changes nothing


def test_what_cannot_be_frozen_is_named() -> None:
    with pytest.raises(ValueError, match="no batch norms"):
        freeze_norms(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="'0' keeps no running statistics"):
        freeze_norms(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)))
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm3d(3))
    with pytest.raises(ValueError, match="'1' is a BatchNorm3d"):
        freeze_norms(model)
    assert type(model[0]) is nn.BatchNorm2d
