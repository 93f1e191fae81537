# SPDX-License-Identifier: Apache-2.0
"""Gradients of standardized weights: the few passes of a training step against the formula that autograd follows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from _binary import shape_of
from _tolerance import assert_reduction
from bittern.bench.train.memory import saved_bytes
from bittern.binary import IRNet, ReCU
from bittern.quantizer import Quantized, Quantizer

METHODS = pytest.mark.parametrize("make", [IRNet, ReCU])


def values_of(method: Quantizer, w: Tensor) -> Tensor:
    quantized = method.weight(w)
    assert isinstance(quantized, Quantized)
    return quantized.values


@METHODS
@pytest.mark.parametrize("progress", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("shape", [(5, 9), (4, 3, 5), (4, 6, 3, 3)])
def test_the_gradient_is_the_one_that_autograd_follows(
    make: type[IRNet | ReCU], progress: float, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    w, g = torch.randn(shape), torch.randn(shape)
    w[0] = 0.3  # a filter of equal weights
    w[1] += 20.0
    method, reference = make(shape_of(w)), make(shape_of(w)).double()
    method.set_progress(progress)
    reference.set_progress(progress)
    exact = w.double().requires_grad_()
    (expected,) = torch.autograd.grad(values_of(reference, exact), exact, g.double(), create_graph=True)
    for layout in (torch.contiguous_format, torch.channels_last) if w.ndim == 4 else (torch.contiguous_format,):
        leaf = w.clone(memory_format=layout).requires_grad_()
        values = values_of(method, leaf)
        (found,) = torch.autograd.grad(values, leaf, g, retain_graph=True)
        (again,) = torch.autograd.grad(values, leaf, g, create_graph=True)
        usual = slice(2, None)  # the mean of the second filter is far from its weights, which costs digits
        for mine in (found, again.detach()):
            assert mine.isfinite().all()
            largest = expected.detach().flatten(1).abs().amax(1).clamp_min(1.0)
            assert_reduction(
                mine[usual].flatten(1), expected.detach()[usual].flatten(1), w[0].numel(), largest[usual].max()
            )
            assert_reduction(mine[1], expected.detach()[1], w[0].numel(), 64 * largest[1])


@METHODS
def test_kept_are_the_weight_and_numbers_of_its_filters(make: type[IRNet | ReCU]) -> None:
    w = torch.randn(8, 16, 3, 3, requires_grad=True)
    method = make(shape_of(w))
    held = [w, *method.parameters(), *method.buffers()]
    assert saved_bytes(lambda: values_of(method, w), held) <= 4 * (2 * 8 + 2)


def test_a_second_derivative_of_clamped_weights() -> None:
    w = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    method = ReCU(shape_of(w)).double()
    (grad,) = torch.autograd.grad(values_of(method, w).square().sum(), w, create_graph=True)
    (second,) = torch.autograd.grad(grad.square().sum(), w)
    assert second.abs().max() > 0.0
