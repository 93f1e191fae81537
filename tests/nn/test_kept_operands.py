# SPDX-License-Identifier: Apache-2.0
"""Operands that backward computes again from what the graph keeps anyway: the same bits in less memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from _tolerance import assert_exact
from bittern import binary
from bittern.bench.train.memory import saved_bytes
from bittern.binary._samples import sample_sign
from bittern.estimators import (
    ApproxSign,
    Clip,
    ErrorDecay,
    Estimator,
    Fourier,
    Power,
    SwishSign,
    Triangle,
    binarize,
    origin_of,
    shifted_sign,
)
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear, scaled_product, sign_product
from bittern.quantizer import LayerShape

T, K = torch.tensor(0.7), torch.tensor(1.4)
BENT = (
    ApproxSign(),
    ErrorDecay(T, K),
    Fourier(torch.tensor(9), 0.1),
    Power(torch.tensor(2.0), 0.1, 1.5),
    SwishSign(5.0),
    Triangle(T, K),
)
SHAPES = (
    ((3, 5), torch.contiguous_format),
    ((2, 5, 3, 4), torch.contiguous_format),
    ((2, 5, 3, 4), torch.channels_last),
)
KEEPING = (binary.BiRealNet, binary.ReActNet, binary.ReCU, binary.IRNet, binary.FDA)
"""Methods whose sign of the input keeps the input."""


@pytest.fixture(autouse=True)
def _small_products_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_product, "LEAST_PRODUCTS", 1)


def assert_comes_again(values: Tensor, x: Tensor) -> None:
    origin = origin_of(values)
    assert origin is not None
    assert origin.tensors[0].data_ptr() == x.data_ptr()
    assert not any(t.requires_grad for t in origin.tensors)
    again = origin.again(*origin.tensors)
    assert_exact(again, values.detach())
    assert again.stride() == values.stride()


@pytest.mark.parametrize("estimator", BENT, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(("shape", "layout"), SHAPES)
def test_signs_of_what_is_kept_come_again(
    shape: tuple[int, ...], layout: torch.memory_format, estimator: Estimator
) -> None:
    x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
    assert_comes_again(binarize(x, estimator), x)
    assert_comes_again(sample_sign("test", x, training=True), x)
    assert_comes_again(shifted_sign(x, torch.randn(shape[1]).requires_grad_()), x)


@pytest.mark.parametrize(("shape", "layout"), SHAPES)
def test_noisy_signs_come_again(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    method = binary.FDA(LayerShape((4, shape[1], *(3,) * (len(shape) - 2))))
    x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
    w = torch.randn(method.shape.weight).contiguous(memory_format=layout).requires_grad_()
    inputs, weight = method.input(x).values, method.weight(w).values
    method.set_progress(1.0)  # what the noise was counts, not what it is
    assert_comes_again(inputs, x)
    assert_comes_again(weight, w)


def test_values_without_an_origin() -> None:
    x = torch.randn(3, 5, requires_grad=True)
    assert origin_of(x) is None
    assert origin_of(binarize(x, Clip())) is None  # keeps one bit a number, from which no sign comes
    assert origin_of(binarize(x.detach(), ApproxSign())) is None
    assert origin_of(binarize(x, ApproxSign()) * 1.0) is None
    changed = binarize(x, ApproxSign())
    changed.detach().neg_()
    assert origin_of(changed) is None
    lost = binarize(x * 1.0, ApproxSign())
    assert origin_of(lost) is None or torch.equal(lost, origin_of(lost).again(*origin_of(lost).tensors))  # type: ignore[union-attr]


def network(method: Any) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        BinaryConv2d(6, 8, 3, padding=1, pad_value=0, bias=True, method=method),
        nn.Hardtanh(),
        nn.Flatten(2),
        BinaryConv1d(8, 4, 3, method=method),
        nn.Flatten(),
        BinaryLinear(4 * 18, 3, method=method),
    )


def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sign_product, scaled_product):
        monkeypatch.setattr(module, "origin_of", lambda values: None)


@pytest.mark.parametrize("method", KEEPING, ids=lambda m: m.__name__)
def test_gradients_have_the_bits_of_operands_that_were_kept(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = network(method)
    x = torch.randn(5, 6, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()

    def run(forward: Callable[[Tensor], Tensor] = layers) -> list[Tensor]:
        y = forward(x)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), (x, *layers.parameters()))]

    mine = run()
    checkpointed = run(partial(checkpoint, layers, use_reentrant=False))
    with torch.autograd.graph.save_on_cpu():
        stored = run()
    y = layers(x)
    loss = y.square().sum()
    torch.autograd.grad(loss, (x,), retain_graph=True)
    twice = [y.detach(), *torch.autograd.grad(loss, (x, *layers.parameters()))]
    _nowhere(monkeypatch)
    theirs = run()
    for found in (mine, checkpointed, stored, twice):
        for one, other in zip(found, theirs, strict=True):
            assert_exact(one, other)


def test_gradients_of_gradients_go_through_what_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = BinaryConv2d(3, 4, 3, method=binary.FDA), torch.randn(2, 3, 5, 5, requires_grad=True)

    def second() -> tuple[Tensor, ...]:
        (to_weights,) = torch.autograd.grad(
            layer(x).square().sum(), layer.method.input_noise.up.weight, create_graph=True
        )
        asked = (layer.method.input_noise.up.weight, layer.method.weight_noise.up.weight)
        return torch.autograd.grad(to_weights.square().sum(), asked)

    mine = second()
    _nowhere(monkeypatch)
    for found, expected in zip(mine, second(), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("method", KEEPING, ids=lambda m: m.__name__)
def test_a_layer_keeps_its_input_and_little_else(method: Any) -> None:
    layer = BinaryConv2d(8, 8, 3, padding=1, method=method).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(4, 8, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    kept = saved_bytes(lambda: layer(x), [x, *layer.parameters(), *layer.buffers()])
    assert kept <= 2 * layer.weight.numel() * 4  # masks and statistics of the weight: nothing as large as x


def test_an_input_that_changes_before_backward_is_refused() -> None:
    layer, x = BinaryConv2d(8, 8, 3, method=binary.FDA), torch.randn(1, 8, 5, 5, requires_grad=True)
    v = x * 1.0
    y = layer(v)
    v.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()  # type: ignore[no-untyped-call]
