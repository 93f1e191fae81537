"""verify: it agrees with what is equal and finds what is not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bittern.binary import BNN
from bittern.deploy import pack, verify
from bittern.nn import BinaryConv2d


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        BinaryConv2d(8, 8, 3, padding=1, method=BNN), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 4)
    )


def test_one_changed_weight_is_found() -> None:
    original = model()
    packed = pack(original, torch.randn(1, 8, 4, 4))
    with torch.no_grad():
        original[0].weight[3, 2, 1, 1] *= -1
    report = verify(packed, original, torch.randn(4, 8, 4, 4))
    assert not report.exact
    # one weight of the centre tap: every position of one output channel, by +-2
    assert report.layers[0].different == 4 * 16
    assert "layer '0': 64 of 512 differ" in str(report)


def test_a_changed_head_is_found_by_its_logits() -> None:
    original = model()
    packed = pack(original, torch.randn(1, 8, 4, 4))
    with torch.no_grad():
        original[3].bias += 0.01
    report = verify(packed, original, torch.randn(4, 8, 4, 4))
    assert not report.layers[0].different
    assert not report.exact
    assert not report.logits_identical


def test_nan_is_never_exact() -> None:
    original = model()
    packed = pack(original, torch.randn(1, 8, 4, 4))
    with torch.no_grad():
        original[3].bias.fill_(float("nan"))
    assert not verify(packed, original, torch.randn(1, 8, 4, 4)).exact


def test_models_with_other_layers_cannot_be_compared() -> None:
    packed = pack(model(), torch.randn(1, 8, 4, 4))
    other = nn.Sequential(nn.Identity(), BinaryConv2d(8, 8, 3, padding=1, method=BNN), nn.Flatten())
    with pytest.raises(ValueError, match="different low-bit layers"):
        verify(packed, other, torch.randn(1, 8, 4, 4))
