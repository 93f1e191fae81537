# SPDX-License-Identifier: Apache-2.0
"""The methods that benchmarks do not compare: each trains, keeps its state in copies, and packs exactly."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern import binary
from bittern.deploy import pack, verify
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.nn.parameters import clip_latent_weights
from bittern.quantizer import Method, set_progress

LATER = [method for method in binary.ALL if method not in binary.COMPARED]


def network(method: Method) -> nn.Sequential:
    """Odd sizes, groups, padding, stride and bias."""
    return nn.Sequential(
        BinaryConv2d(5, 9, 3, padding=1, bias=True, method=method),
        nn.BatchNorm2d(9),
        nn.Hardtanh(),
        BinaryConv2d(9, 12, (3, 2), stride=(2, 1), padding=1, groups=3, method=method),
        nn.BatchNorm2d(12),
        nn.Flatten(),
        BinaryLinear(12 * 4 * 8, 7, bias=True, method=method),
    )


def trained(method: Method) -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    model, x = network(method), torch.randn(24, 5, 7, 7)
    x[:, 0, 0] = 0.0
    classes = torch.arange(24) % 7
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(3):
        set_progress(model, step / 2)
        optimizer.zero_grad()
        F.cross_entropy(model(x), classes).backward()
        optimizer.step()
        clip_latent_weights(model)
    return model.eval(), x


@pytest.mark.parametrize("method", LATER, ids=lambda m: m.__name__)
def test_it_trains_and_packs_exactly_and_copies_answer_alike(method: Method) -> None:
    model, x = trained(method)
    with torch.no_grad():
        y = model(x)
        assert torch.equal(copy.deepcopy(model)(x), y)
        torch.manual_seed(9)
        twin = network(method)
        assert twin.load_state_dict(model.state_dict(), strict=True) == ([], [])
        assert torch.equal(twin.eval()(x), y)
    report = verify(pack(model, x[:2]), model, x)
    assert report.exact
    assert report.logits_identical
