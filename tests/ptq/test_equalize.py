# SPDX-License-Identifier: Apache-2.0
"""Equalised chains compute what they did; channels of a layer and the next have one range."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from _tolerance import assert_reduction
from bittern.ptq.equalize import Layer, absorb_high_bias, absorbed_bias, equalize


def _layers(random: torch.Generator, *shapes: tuple[int, ...], groups: tuple[int, ...]) -> tuple[Layer, ...]:
    """Weights whose channels differ by factors of up to a thousand."""
    made = []
    for shape, count in zip(shapes, groups, strict=True):
        spread = torch.logspace(-2, 1, shape[0]).view(-1, *[1] * (len(shape) - 1))
        weight = torch.randn(shape, generator=random) * spread[torch.randperm(shape[0], generator=random)]
        made.append(Layer(weight, torch.randn(shape[0], generator=random), count))
    return tuple(made)


def _run(layers: tuple[Layer, ...], x: Tensor) -> Tensor:
    x = x.double()
    for i, layer in enumerate(layers):
        bias = None if layer.bias is None else layer.bias.double()
        if layer.weight.ndim == 2:
            x = F.linear(x, layer.weight.double(), bias)
        else:
            x = F.conv2d(x, layer.weight.double(), bias, padding=1, groups=layer.groups)
        if i < len(layers) - 1:
            x = x.relu()
            if layer.most is not None:
                most = torch.as_tensor(layer.most).double()
                x = torch.minimum(x, most.view(-1, *[1] * (x.ndim - 2)) if most.ndim else most)
    return x


def test_one_pair_by_hand() -> None:
    first = Layer(torch.tensor([[8.0, -2.0], [0.5, 0.25], [0.0, 0.0]]), torch.tensor([4.0, 1.0, 3.0]), most=6.0)
    second = Layer(torch.tensor([[0.5, 2.0, 1.0], [-0.25, 1.0, 1.0]]))
    (a, b), (s, last) = equalize([first, second])
    assert torch.equal(s, torch.tensor([4.0, 0.5, 1.0]))  # sqrt(8 / 0.5), sqrt(0.5 / 2), and a channel of zeros
    assert torch.equal(last, torch.ones(2))
    assert torch.equal(a.weight, torch.tensor([[2.0, -0.5], [1.0, 0.5], [0.0, 0.0]]))
    assert a.bias is not None
    assert torch.equal(a.bias, torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(torch.as_tensor(a.most), torch.tensor([1.5, 12.0, 6.0]))
    assert torch.equal(b.weight, torch.tensor([[2.0, 1.0, 1.0], [-1.0, 0.5, 1.0]]))
    assert b.bias is None
    assert b.most is None


@pytest.mark.parametrize("most", [None, 6.0])
def test_a_separable_chain_computes_the_same(most: float | None) -> None:
    random = torch.Generator().manual_seed(0)
    shapes = ((8, 3, 3, 3), (8, 1, 3, 3), (6, 4, 1, 1), (5, 6, 3, 3))
    layers = _layers(random, *shapes, groups=(1, 8, 2, 1))
    layers = tuple(layer._replace(most=most) for layer in layers[:-1]) + layers[-1:]
    x = torch.randn(2, 3, 7, 5, generator=random)
    found = equalize(layers)
    wanted = _run(layers, x)
    assert_reduction(_run(found.layers, x).float(), wanted, 54, wanted.abs().max() + 1)
    a, depthwise, grouped, last = (layer.weight.abs() for layer in found.layers)
    for out, into in (
        (a, depthwise.amax((1, 2, 3))),
        (depthwise, torch.cat([part.amax((0, 2, 3)) for part in grouped.split(3)])),
        (grouped, last.amax((0, 2, 3))),
    ):
        assert ((out.amax((1, 2, 3)) / into).log().abs() < 0.05).all()


def test_linear_layers_and_extreme_channels() -> None:
    random = torch.Generator().manual_seed(1)
    first, second = _layers(random, (4, 3), (2, 4), groups=(1, 1))
    first.weight[0] *= 1e-30
    second.weight[:, 1] *= 1e30
    x = torch.randn(5, 3, generator=random)
    layers = equalize([first, second]).layers
    assert all(layer.weight.isfinite().all() for layer in layers)
    wanted = _run((first, second), x)
    assert_reduction(_run(layers, x).float(), wanted, 12, wanted.abs().max())


def test_high_biases_move_into_the_next_layer() -> None:
    c = absorbed_bias(torch.tensor([10.0, 1.0, -4.0]), torch.tensor([2.0, 0.5, 0.0]))
    assert torch.equal(c, torch.tensor([4.0, 0.0, 0.0]))
    first = Layer(torch.eye(3), torch.tensor([10.0, 1.0, -4.0]))
    second = Layer(torch.tensor([[1.0, 2.0, 3.0], [-0.5, 1.0, 1.0]]))
    a, b = absorb_high_bias(first, second, c)
    assert a.bias is not None
    assert b.bias is not None
    assert torch.equal(a.bias, torch.tensor([6.0, 1.0, -4.0]))
    assert torch.equal(b.bias, torch.tensor([4.0, -2.0]))
    x = torch.tensor([[-6.0, 3.0, 9.0], [5.0, -2.0, 1.0]])  # the first channel stays at 4 and more
    assert torch.equal(_run((a, b), x), _run((first, second), x))
    below = torch.tensor([[-8.0, 0.0, 0.0]])  # and here it does not
    assert not torch.equal(_run((a, b), below), _run((first, second), below))
    depthwise = Layer(torch.ones(3, 1, 2, 2), torch.zeros(3), groups=3)
    _, moved = absorb_high_bias(Layer(torch.ones(3, 1, 1, 1)), depthwise, c)
    assert moved.bias is not None
    assert torch.equal(moved.bias, torch.tensor([16.0, 0.0, 0.0]))


def test_refusals() -> None:
    good = Layer(torch.ones(3, 2))
    for layers, match in (
        ([good], "at least two layers"),
        ([good, Layer(torch.ones(2, 4))], "read the 3 channels"),
        ([good, Layer(torch.ones(4, 1, 1, 1), groups=3)], "out, in / groups"),
        ([Layer(torch.full((3, 2), math.nan)), Layer(torch.ones(2, 3))], "finite"),
        ([Layer(torch.zeros(0, 2)), Layer(torch.ones(2, 0))], "out, in / groups"),
    ):
        with pytest.raises(ValueError, match=match):
            equalize(layers)
    second = Layer(torch.ones(2, 3))
    with pytest.raises(ValueError, match="3 numbers of at least 0"):
        absorb_high_bias(good, second, torch.tensor([1.0, -1.0, 0.0]))
    with pytest.raises(ValueError, match="must be a ReLU"):
        absorb_high_bias(good._replace(most=6.0), second, torch.zeros(3))
    with pytest.raises(ValueError, match="at least 0"):
        absorbed_bias(torch.zeros(2), torch.tensor([1.0, -1.0]))
