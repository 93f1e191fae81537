# SPDX-License-Identifier: Apache-2.0
"""BiPer against arXiv 2404.01278 and the authors' code."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from _tolerance import assert_elementwise
from bittern.binary import BiPer, ReCU
from bittern.codes import Reals, Signs
from bittern.deploy import PackError, pack
from bittern.nn import BinaryLinear
from bittern.quantizer import LayerShape, SignCode

# at omega = 2 the wave is negative between pi / 2 and pi
W = torch.tensor([[0.5, -0.0, 2.0, -2.0], [3.5, -0.25, 1.5, 0.0]], dtype=torch.float64)
G = torch.linspace(-2, 3, 8, dtype=torch.float64).view_as(W)


def method(**options: object) -> BiPer:
    made = BiPer(shape_of(W), frequency=2.0, **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        made.alpha.copy_(torch.tensor([0.5, 2.0]))
    return made


def test_values_are_a_square_wave() -> None:
    q = method().weight(W)
    assert q.values.tolist() == [[1, 1, -1, 1], [1, -1, 1, 1]]
    assert q.scale is not None
    assert q.scale.flatten().tolist() == [0.5, 2.0]
    assert method().weight_code() == Signs()
    assert method().input_code() == SignCode()


@pytest.mark.parametrize("stage", [1, 2])
def test_weight_gradient_is_the_cosine(stage: int) -> None:
    cosine = torch.tensor([[math.cos(2 * v) for v in row] for row in W.tolist()], dtype=torch.float64)
    expected = G * torch.tensor([[0.5], [2.0]]) * 2.0 * cosine
    assert_elementwise(scaled_weight_gradient(method(stage=stage), W, G), expected, 8, 12.0)


def test_the_first_stage_has_real_weights_which_are_not_packed() -> None:
    first = method(stage=1)
    assert first.weight_code() == Reals()
    wave = torch.tensor([[math.sin(2 * v) for v in row] for row in W.tolist()], dtype=torch.float64)
    assert_elementwise(first.weight(W).values, wave, 4, 1.0)
    assert method().load_state_dict(first.state_dict()) == ([], [])
    model = nn.Sequential(BinaryLinear(4, 2, method=lambda shape: BiPer(shape, stage=1)))
    with pytest.raises(PackError, match="pack: layer '0' has real weights"):
        pack(model, torch.randn(1, 4))


def test_inputs_are_those_of_recu() -> None:
    torch.manual_seed(0)
    x, g = torch.randn(2, 3, 7, dtype=torch.float64).unbind(0)
    for training in (True, False):
        ours, recu = (m(LayerShape((2, 7))).double().train(training) for m in (BiPer, ReCU))
        assert torch.equal(ours.input(x).values, recu.input(x).values)
        assert torch.equal(scaled_input_gradient(ours, x, g), scaled_input_gradient(recu, x, g))


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="BiPer: frequency must be a positive number; got 0"):
        BiPer(shape_of(W), frequency=0.0)
    with pytest.raises(ValueError, match="BiPer: stage must be one of 1, 2; got 3"):
        BiPer(shape_of(W), stage=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="BiPer: standardizes each sample"):
        BiPer(LayerShape((4, 1))).input(torch.zeros(3, 1))
