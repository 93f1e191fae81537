# SPDX-License-Identifier: Apache-2.0
"""What averages of the weights are for: under noise they end nearer to the minimum than the weights of SGD."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bittern import optim

CURVATURES = torch.logspace(0, -1, 64)
STEPS, NOISE, LR = 400, 0.5, 0.3


def _end(optimizer: torch.optim.Optimizer, p: nn.Parameter, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        p.grad = CURVATURES * p.detach() + NOISE * torch.randn(64, generator=draw)
        optimizer.step()


def _loss(x: Tensor) -> float:
    return float((CURVATURES * x.detach() ** 2).sum()) / 2


@pytest.mark.parametrize("rule", ["ASGD", "SGDScheduleFree"])
def test_averages_end_below_the_noise_of_sgd(rule: str) -> None:
    """A noisy quadratic from x = 1, three seeds, at the same rate: less than half of SGD's loss."""
    for seed in range(3):
        plain, p = nn.Parameter(torch.ones(64)), nn.Parameter(torch.ones(64))
        _end(optim.SGD([plain], lr=LR), plain, seed)
        if rule == "ASGD":
            asgd = optim.ASGD([p], lr=LR, t0=STEPS // 4)
            _end(asgd, p, seed)
            found = asgd.state[p]["ax"]
        else:
            free = optim.SGDScheduleFree([p], lr=LR)
            _end(free, p, seed)
            free.eval()
            found = p
        assert _loss(found) < _loss(plain) / 2, (seed, _loss(found), _loss(plain))
