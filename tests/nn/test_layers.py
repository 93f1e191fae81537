# SPDX-License-Identifier: Apache-2.0
"""The low-bit layers: arithmetic against plain torch, and their errors."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from _tolerance import assert_exact
from bittern import binary, ops
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear, Linear4bit, RSign
from bittern.quantizer import InputScale


@pytest.mark.parametrize("pad_value", [0, -1, 1])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_is_the_convolution_of_signs(groups: int, pad_value: int) -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(
        4,
        6,
        (3, 2),
        stride=(2, 1),
        padding=(1, 2),
        dilation=(2, 1),
        groups=groups,
        method=binary.BNN,
        pad_value=pad_value,
    )
    x = torch.randn(2, 4, 9, 8)
    padded = F.pad(ops.sign(x), (2, 2, 1, 1), value=float(pad_value))
    expected = F.conv2d(padded, ops.sign(layer.weight.detach()), None, (2, 1), 0, (2, 1), groups)
    assert_exact(layer(x).detach(), expected)


def test_conv1d_and_linear_are_products_of_signs_plus_bias() -> None:
    torch.manual_seed(0)
    conv = BinaryConv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=True, method=binary.BNN)
    x = torch.randn(2, 4, 9)
    expected = F.conv1d(ops.sign(x), ops.sign(conv.weight.detach()), None, 2, 1, 2, 2)
    assert conv.bias is not None
    assert_exact(conv(x).detach(), expected + conv.bias.detach().view(1, -1, 1))
    linear = BinaryLinear(5, 3, bias=True, method=binary.BNN)
    x = torch.randn(2, 7, 5)
    assert linear.bias is not None
    assert_exact(linear(x).detach(), ops.sign(x) @ ops.sign(linear.weight.detach()).T + linear.bias.detach())


def test_linear_takes_any_leading_dimensions() -> None:
    torch.manual_seed(0)
    layer = BinaryLinear(5, 3, method=partial(binary.XNORNet, input_scale=InputScale.PER_SAMPLE))
    x = torch.randn(2, 7, 5)
    rows = torch.stack([layer(row) for row in x.reshape(14, 5)])
    assert_exact(layer(x).detach(), rows.reshape(2, 7, 3).detach())


def test_spatial_scale_of_a_single_pixel_is_averaged_over_the_padded_window() -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(4, 2, 3, padding=1, method=partial(binary.XNORNet, input_scale=InputScale.SPATIAL))
    x = torch.randn(1, 4, 1, 1)
    alone = layer(x)
    # the same pixel in the middle of zeros: zeros are +1 on the grid, but add nothing to the mean |x|
    w_q, x_q = layer.method.weight(layer.weight), layer.method.input(x)
    assert w_q.scale is not None
    acc = F.conv2d(x_q.values, w_q.values, padding=1)
    expected = acc * w_q.scale.view(1, -1, 1, 1) * (x.abs().mean() / 9)
    torch.testing.assert_close(alone, expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("method", binary.ALL, ids=lambda m: m.__name__)
def test_empty_batch_and_its_gradient(method: type) -> None:
    conv = BinaryConv2d(4, 6, 3, padding=1, method=method).eval()
    assert conv(torch.zeros(0, 4, 5, 5)).shape == (0, 6, 5, 5)
    linear = BinaryLinear(4, 6, method=method).eval()
    assert linear(torch.zeros(0, 4)).shape == (0, 6)


def test_initial_weights_have_both_signs_and_biases_are_as_small_as_torchs() -> None:
    torch.manual_seed(0)
    layer = BinaryLinear(400, 100, bias=True, method=binary.BNN)
    assert 0.4 < (layer.weight > 0).float().mean() < 0.6
    assert layer.bias is not None
    assert layer.bias.abs().max() <= 400**-0.5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BinaryLinear(0, 3, method=binary.BNN), "at least one input and one output"),
        (lambda: BinaryLinear(3, 0, method=binary.BNN), "at least one input and one output"),
        (lambda: BinaryConv2d(0, 3, 3, method=binary.BNN), "at least one input and one output"),
        (lambda: BinaryConv2d(4, 6, 3, groups=4, method=binary.BNN), "groups must divide"),
        (lambda: BinaryConv2d(4, 6, 0, method=binary.BNN), "kernel_size must be"),
        (lambda: BinaryConv2d(4, 6, 3, padding=-1, method=binary.BNN), "padding must be"),
        (lambda: BinaryConv1d(4, 6, (3, 3), method=binary.BNN), "kernel_size must be 1"),  # type: ignore[arg-type]
        (lambda: BinaryConv2d(4, 6, 3, padding=1, pad_value=2, method=binary.BNN), "pad_value must be"),
        (lambda: BinaryConv2d(4, 6, 3, pad_value=1, method=binary.BNN), "no effect without padding"),
        (lambda: BinaryConv2d(4, 6, 3, padding=1, pad_value=1, method=binary.DoReFa), "where padding is 0"),
        (lambda: BinaryLinear(2**24 + 1, 1, method=binary.BNN), "no longer exact"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]


@pytest.mark.parametrize("method", ["BNN", None, 3, nn.ReLU, BinaryLinear(3, 3, method=binary.BNN).method])
def test_a_method_that_is_no_class_is_refused(method: object) -> None:
    with pytest.raises(TypeError, match=r"BinaryLinear: method must .*pass the class"):
        BinaryLinear(3, 3, method=method)  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", [BinaryLinear(4, 2, method=binary.BNN), RSign(4), Linear4bit(4, 2)])
def test_a_numpy_array_is_told_apart_from_a_tensor(layer: nn.Module) -> None:
    with pytest.raises(TypeError, match=r": x must be a tensor; got ndarray; make it one by torch\.as_tensor"):
        layer(np.zeros((1, 4), np.float32))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_inputs_that_are_not_real_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="must be floating point"):
        BinaryLinear(3, 3, method=binary.BNN)(torch.zeros(2, 3, dtype=dtype))
    with pytest.raises(TypeError, match="must be floating point"):
        BinaryConv2d(3, 3, 1, method=binary.BNN)(torch.zeros(2, 3, 4, 4, dtype=dtype))


@pytest.mark.parametrize("shape", [(2, 4, 5, 5), (3, 5, 5), (2, 3, 5), ()])
def test_inputs_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected an input \[batch, 3, H, W\]"):
        BinaryConv2d(3, 3, 1, method=binary.BNN)(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"expected an input \[\.\.\., 3\]"):
        BinaryLinear(3, 3, method=binary.BNN)(torch.zeros(shape))
