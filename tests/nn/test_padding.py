# SPDX-License-Identifier: Apache-2.0
"""Padding by words and by modes, as torch's convolutions: alone, converted and packed; and what layers tell of it."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _tolerance import assert_exact
from bittern import binary, ops
from bittern.deploy import pack, verify
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear, convert
from bittern.nn.sign_shares import sign_shares
from bittern.quantizer import InputScale

MODES = ("zeros", "reflect", "replicate", "circular")

CONVS: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": "same"},
    {"kernel_size": 2, "padding": "same"},
    {"kernel_size": 4, "padding": "same", "dilation": 3},
    {"kernel_size": 4, "padding": "same", "groups": 2},
    {"kernel_size": 3, "padding": "valid", "stride": 2},
    {"kernel_size": 3, "padding": 2, "stride": 2, "groups": 2},
]
FLAT: list[dict[str, Any]] = [
    {"kernel_size": (2, 3), "padding": "same", "dilation": (3, 2)},
    {"kernel_size": (3, 5), "padding": (0, 2), "stride": (1, 2)},
]


def _name(options: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())


def _pair(dims: int, options: dict[str, Any], mode: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    cls: Any = nn.Conv1d if dims == 1 else nn.Conv2d
    layer = cls(4, 6, **options, padding_mode=mode)
    with torch.no_grad():
        layer.bias.copy_((8 * layer.bias).round() / 8)  # exact in any order
    return layer, torch.randn(2, 4, *(13, 11)[:dims])


ALL = [(dims, options, mode) for dims in (1, 2) for options in (CONVS if dims == 1 else CONVS + FLAT) for mode in MODES]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize(("dims", "options", "mode"), ALL, ids=lambda v: _name(v) if isinstance(v, dict) else str(v))
def test_padding_is_that_of_torch_on_signs(dims: int, options: dict[str, Any], mode: str) -> None:
    """The signs of copied values are the copied signs, so torch's layer on signs says what must come out."""
    layer, x = _pair(dims, options, mode)
    low = convert(nn.Sequential(layer), binary.BNN, keep=())[0]
    with torch.no_grad():
        layer.weight.copy_(ops.sign(layer.weight))
        assert_exact(low(x), layer(ops.sign(x)))


@pytest.mark.parametrize("pad_value", [-1, 1])
@pytest.mark.parametrize("options", [*CONVS[:4], *FLAT[:1]], ids=_name)
def test_lopsided_padding_takes_any_constant(options: dict[str, Any], pad_value: int) -> None:
    layer, x = _pair(2, options, "zeros")
    low = convert(nn.Sequential(layer), binary.BNN, keep=(), pad_value=pad_value)[0]
    with torch.no_grad():
        w = ops.sign(layer.weight)
        padded = F.pad(ops.sign(x), layer._reversed_padding_repeated_twice, value=float(pad_value))
        expected = F.conv2d(padded, w, None, 1, 0, layer.dilation, layer.groups) + layer.bias.view(1, -1, 1, 1)
        assert_exact(low(x), expected)


def test_copied_values_are_seen_by_thresholds_and_scales() -> None:
    method = partial(binary.XNORNet, input_scale=InputScale.SPATIAL)
    torch.manual_seed(0)
    padded = BinaryConv2d(4, 6, 3, padding=1, padding_mode="replicate", method=method)
    bare = BinaryConv2d(4, 6, 3, method=method)
    bare.load_state_dict(padded.state_dict())
    x = torch.randn(2, 4, 7, 7)
    assert_exact(padded(x).detach(), bare(F.pad(x, (1, 1, 1, 1), mode="replicate")).detach())


def test_gradients_reach_the_values_that_were_copied() -> None:
    layer = BinaryConv1d(2, 3, 3, padding=1, padding_mode="circular", method=binary.BNN)
    x = torch.zeros(1, 2, 5, requires_grad=True)
    layer(x)[..., 0].sum().backward()
    assert x.grad is not None
    assert bool(x.grad[..., -1].any())


METHODS = (binary.BNN, binary.XNORNet, partial(binary.DoReFa, weight_bits=2, input_bits=2))
PACKED = [(o, m) for o in (CONVS[2], CONVS[3], CONVS[5], *FLAT) for m in MODES]


@pytest.mark.parametrize(
    ("options", "mode", "method"),
    [(options, mode, METHODS[i % len(METHODS)]) for i, (options, mode) in enumerate(PACKED)],
    ids=[f"{_name(options)} {mode}" for options, mode in PACKED],
)
@pytest.mark.filterwarnings("ignore::bittern.nn.ConstantInputWarning")
def test_every_padding_packs_exactly(options: dict[str, Any], mode: str, method: Any) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, **options, padding_mode=mode)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), conv, nn.BatchNorm2d(4), nn.Hardtanh(), conv)
    model.eval()
    x = torch.randn(2, 3, 17, 15)
    low = convert(model, method, keep=["0"], example=x).eval()
    report = verify(pack(low, x), low, [torch.randn(1, 3, 17, 15), torch.randn(3, 3, 17, 15)])
    assert report.exact
    assert report.logits_identical
    assert {layer.name for layer in report.layers} == {"2", "2#2"}


def test_one_dimension_packs_too() -> None:
    torch.manual_seed(0)
    convs = [nn.Conv1d(4, 4, 4, padding="same", padding_mode=mode) for mode in MODES]
    model, x = nn.Sequential(*convs).eval(), torch.randn(2, 4, 19)
    low = convert(model, binary.ReActNet, keep=(), example=x).eval()
    assert verify(pack(low, x), low, [torch.randn(3, 4, 19)]).exact


def test_the_share_of_signs_is_that_of_the_padded_input() -> None:
    layer = nn.Sequential(BinaryConv2d(1, 1, 3, padding=1, padding_mode="replicate", method=binary.BNN))
    x = -torch.ones(1, 1, 2, 2)
    x[..., 0, 0] = 1.0
    assert sign_shares(layer, [(x,)])["0"].plus == 4 / 16


def _layers() -> list[nn.Module]:
    kinds = itertools.product(("same", "valid", 1, 0), MODES)
    convs: list[nn.Module] = []
    for padding, mode in kinds:
        convs.append(nn.Conv2d(4, 6, (2, 3), padding=padding, padding_mode=mode, groups=2, dilation=(1, 2)))
        convs.append(nn.Conv1d(4, 6, 2, padding=padding, padding_mode=mode, bias=False))
    return [*convs, nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(1, 0)), nn.Linear(4, 6), nn.Linear(4, 6, bias=False)]


TOLD = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"),
    *("transposed", "output_padding", "in_features", "out_features"),
)
"""What torch's layers tell of themselves."""


@pytest.mark.parametrize("layer", _layers(), ids=str)
def test_a_low_bit_layer_tells_what_the_layer_of_torch_told(layer: nn.Module) -> None:
    (low,) = convert(nn.Sequential(layer), binary.BNN, keep=())
    told = {name: getattr(layer, name) for name in TOLD if hasattr(layer, name)}
    assert len(told) in (2, 10)
    assert {name: getattr(low, name) for name in told} == told
    assert low.weight.shape == layer.weight.shape
    assert (low.bias is None) == (layer.bias is None)
    assert low.training == layer.training


@pytest.mark.parametrize("layer", _layers(), ids=str)
def test_layers_made_by_the_arguments_of_torch_are_the_converted_ones(layer: nn.Module) -> None:
    (low,) = convert(nn.Sequential(layer), binary.BNN, keep=())
    names = TOLD[-2:] if isinstance(layer, nn.Linear) else TOLD[:8]
    options: dict[str, Any] = {name: getattr(layer, name) for name in names}
    own = type(low)(**options, bias=layer.bias is not None, method=binary.BNN)
    assert str(own) == str(low)
    own.load_state_dict(low.state_dict())
    x = torch.randn(2, 4, 9, 9)[(..., 0) if isinstance(layer, nn.Conv1d) else ...]
    x = torch.randn(2, 4) if isinstance(layer, nn.Linear) else x
    assert_exact(own(x).detach(), low(x).detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "sam"}, r'BinaryConv2d: padding must be integers, "same" or "valid"; got \'sam\''),
        ({"padding": "same", "stride": 2}, r'padding="same" needs stride 1, as in torch; got stride=\(2, 2\)'),
        ({"padding": 1, "padding_mode": "constant"}, "padding_mode must be one of 'zeros', 'reflect'.*'constant'"),
        ({"padding": 1, "padding_mode": "reflect", "pad_value": 1}, "pad_value=1 has no effect with padding_mode"),
        ({"padding": "valid", "pad_value": 1}, "pad_value=1 has no effect without padding"),
    ],
)
def test_paddings_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BinaryConv2d(2, 2, 3, method=binary.BNN, **options)


def test_layers_are_made_of_their_own_kind_of_layer_alone() -> None:
    for cls, layer in ((BinaryConv2d, nn.Conv1d(2, 2, 3)), (BinaryConv1d, nn.Linear(2, 2)), (BinaryLinear, nn.ReLU())):
        with pytest.raises(TypeError, match=f"{cls.__name__}: it takes the place of"):
            cls.from_float(layer, method=binary.BNN)
