# SPDX-License-Identifier: Apache-2.0
"""Real nodes give the same bits on every device."""

from __future__ import annotations

import pytest
import torch

from bittern.deploy.check import KINDS
from bittern.deploy.program import Node


@pytest.mark.parametrize("size", [(64, 9), (8, 9, 70), (4, 9, 13, 11)], ids=str)
def test_an_affine_node_rounds_once_everywhere(size: tuple[int, ...]) -> None:
    """What it computes away from the CPU, on tensors of the CPU."""
    torch.manual_seed(0)
    tensors = {"affine": torch.randn(2, 9)}
    node = Node("affine", "norm", (0,), 1, {}, {"affine": "norm.affine"})
    x = torch.randn(size)
    here, there = (KINDS["affine"].build(node, tensors, torch.device(name)) for name in ("cpu", "cuda"))
    alpha, beta = tensors["affine"].view(2, -1, *[1] * (len(size) - 2))
    assert torch.equal(here(x), there(x))
    assert not torch.equal(here(x), x * alpha + beta)
