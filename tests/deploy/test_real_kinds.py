# SPDX-License-Identifier: Apache-2.0
"""Real nodes give the same bits on every device."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from bittern.deploy.kinds.table import KINDS
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


def test_a_batch_norm_rounds_alike_in_every_layout() -> None:
    """torch has one formula for images in either layout, and another for views that are neither."""
    torch.manual_seed(0)
    names = ("mean", "var", "weight", "bias")
    tensors = {name: torch.rand(4) + 0.1 for name in names}
    node = Node("batch_norm", "norm", (0,), 1, {"eps": 1e-5}, {name: f"norm.{name}" for name in names})
    x = 3 * torch.randn(2, 4, 8, 5)
    turned = x.transpose(1, 2).contiguous().transpose(1, 2)
    expected = F.batch_norm(x, *(tensors[name] for name in names), False, 0.0, 1e-5)
    assert not torch.equal(F.batch_norm(turned, *(tensors[name] for name in names), False, 0.0, 1e-5), expected)
    kind = KINDS["batch_norm"]
    assert kind.build_last is not None
    for build in (kind.build, kind.build_last):
        step = build(node, tensors, torch.device("cpu"))
        assert torch.equal(step(x), expected)
        assert torch.equal(step(turned), expected)
