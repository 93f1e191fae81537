# SPDX-License-Identifier: Apache-2.0
"""BNN against arXiv 1602.02830."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from _tolerance import assert_mean
from bittern.binary import BNN
from bittern.nn import BinaryLinear, clip_latent_weights
from bittern.quantizer import LayerShape

W = torch.tensor([[0.5, -0.0, 0.0], [-0.1, 2.0, -1.5]])
X = torch.tensor([[-1.5, -1.0, -0.0], [0.0, 1.0, 1.0000001]])
G = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_forward_takes_signs_and_no_scale() -> None:
    method = BNN(shape_of(W))
    assert method.weight(W).values.tolist() == [[1, 1, 1], [-1, 1, -1]]
    assert method.weight(W).scale is None
    assert method.input(X).values.tolist() == [[-1, -1, 1], [1, 1, 1]]
    assert method.input(X).scale is None


def test_weight_gradient_is_the_identity_and_latents_are_clipped_to_one() -> None:
    method = BNN(shape_of(W))
    assert torch.equal(scaled_weight_gradient(method, W, G), G)
    assert method.clip_latent == 1.0


def test_input_gradient_paper_masks_beyond_one_inclusive() -> None:
    assert scaled_input_gradient(BNN(shape_of(W)), X, G).tolist() == [[0, 2, 3], [4, 5, 0]]


def test_input_gradient_released_is_the_identity() -> None:
    method = BNN(shape_of(W), input_gradient="released")
    assert torch.equal(scaled_input_gradient(method, X, G), G)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_stochastic_weights_follow_the_hard_sigmoid_in_training_only(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    w = torch.tensor([[-1.0], [-0.5], [0.0], [0.5], [1.0], [1.5], [-9.0]], dtype=dtype).repeat(1, 4001)
    method = BNN(shape_of(w), stochastic_weights=True)
    drawn = method.weight(w).values
    assert drawn.dtype == dtype
    assert drawn.abs().eq(1).all()
    chances = [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.0]
    for row, chance in zip(drawn, chances, strict=True):
        assert_mean(row, 2 * chance - 1, 2 * (chance * (1 - chance)) ** 0.5)
    g = torch.randn_like(w)
    assert torch.equal(scaled_weight_gradient(method, w, g), g)
    method.eval()
    assert torch.equal(method.weight(w).values, torch.where(w >= 0, 1.0, -1.0).to(dtype))


def test_unknown_options_name_the_choices() -> None:
    with pytest.raises(ValueError, match=r"BNN: input_gradient must be one of 'paper', 'released'; got 'author'"):
        BNN(shape_of(W), input_gradient="author")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stochastic_weights must be one of False, True; got 1"):
        BNN(shape_of(W), stochastic_weights=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [1.0, 1.25, 1.3, 1.5])
def test_limit_moves_the_mask_of_the_inputs(limit: float) -> None:
    method = BNN(LayerShape((1, 4)), limit=limit)
    x = torch.tensor([[limit, -limit, limit * 1.0001, -limit * 1.0001]])
    assert scaled_input_gradient(method, x, torch.ones_like(x)).tolist() == [[1, 1, 0, 0]]


@pytest.mark.parametrize("limit", [1.25, 1.3])
def test_latents_are_clipped_where_the_network_says(limit: float) -> None:
    layer = BinaryLinear(2, 1, method=partial(BNN, clip_latent=limit))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, -1.2]]))
    clip_latent_weights(layer)
    assert layer.weight.tolist() == [[pytest.approx(limit), pytest.approx(-1.2)]]
    layer = BinaryLinear(2, 1, method=partial(BNN, clip_latent=None))
    with torch.no_grad():
        layer.weight.fill_(3.0)
    clip_latent_weights(layer)
    assert layer.weight.tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0.0}, "limit must be a positive number; got 0.0"),
        ({"limit": None}, "limit must be a positive number; got None"),
        ({"limit": True}, "limit must be a positive number; got True"),
        ({"clip_latent": -1.0}, "clip_latent must be a positive number, or None for no limit; got -1.0"),
        ({"clip_latent": float("nan")}, "clip_latent must be a positive number, or None"),
        ({"limit": 1.3, "input_gradient": "released"}, "limit=1.3 has no effect"),
    ],
)
def test_limits_that_are_none_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BNN(LayerShape((1, 4)), **options)
