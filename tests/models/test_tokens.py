# SPDX-License-Identifier: Apache-2.0
"""The vision transformer and the mixer: they pack exactly, every parameter learns, and sizes must fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from bittern import deploy
from bittern.binary import BNN, ReActNet, XNORNetPlusPlus
from bittern.models import mixer_small, vit_small
from bittern.nn import LowBitLayer, summary
from bittern.quantizer import Method

each = pytest.mark.parametrize("build", [vit_small, mixer_small])
SMALL: dict[str, Any] = {"input_size": 8, "width": 16, "depth": 1}


@each
@pytest.mark.parametrize("method", [None, BNN, ReActNet, XNORNetPlusPlus])
def test_every_parameter_learns(build: Callable[..., nn.Module], method: Method | None) -> None:
    model = build(method, 5, 2, **SMALL)
    logits = model(torch.randn(3, 2, 8, 8))
    assert logits.shape == (3, 5)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 4])).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


@each
def test_packs_exactly(build: Callable[..., nn.Module]) -> None:
    model = build(BNN, 5, 2, **SMALL).eval()
    x = torch.randn(5, 2, 8, 8)
    packed = deploy.pack(model, x[:1])
    assert deploy.verify(packed, model, x).exact
    assert sum(isinstance(m, LowBitLayer) for m in model.modules()) == (6 if build is vit_small else 4)


def test_counts_by_hand() -> None:
    """Of 16 patches, width 16, one block."""
    square = 16 * 16
    vit = summary(vit_small(BNN, 5, 2, **SMALL), torch.randn(1, 2, 8, 8))
    assert vit.binary_params == 4 * square + 2 * 2 * square
    assert vit.bmac == 16 * vit.binary_params
    # patches, scores and mixtures of all heads, head
    assert vit.fmac == 16 * 16 * 2 * 4 + 2 * 16 * 16 * 16 + 16 * 5
    mixer = summary(mixer_small(BNN, 5, 2, **SMALL), torch.randn(1, 2, 8, 8))
    assert mixer.binary_params == 2 * 2 * square + 2 * 2 * square
    assert mixer.bmac == 16 * mixer.binary_params


@pytest.mark.parametrize(("size", "patches"), [(32, 64), (28, 49), (8, 16), (4, 16), (7, 49), (1, 1)])
def test_default_patch(size: int, patches: int) -> None:
    assert vit_small(None, input_size=size).positions.shape == (1, patches, 64)


@each
def test_sizes_that_do_not_fit(build: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match="patch must divide input_size; got 3 and 8"):
        build(None, input_size=8, patch=3)
    with pytest.raises(ValueError, match="depth must be an integer of at least 1; got 0"):
        build(None, depth=0)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="heads must divide width; got 3 and 64"):
        vit_small(None, heads=3)
