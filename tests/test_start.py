# SPDX-License-Identifier: Apache-2.0
"""How latent weights start: the distributions, and who starts how."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bittern import binary, models
from bittern.nn import BinaryConv2d, BinaryLinear, LowBitLayer, convert, parameter_groups, start_latent_weights
from bittern.start import GlorotNormal, HeNormal, Normal, Start, TorchUniform, Uniform
from bittern.train import RealWeights
from bittern.train.real_weights import real_weights

SHAPE = (96, 80, 3, 3)
FAN_IN = 80 * 9
FAN_OUT = 96 * 9
SIGMAS = 5.0


def assert_deviation(w: Tensor, std: float, kurtosis: float) -> None:
    """The standard deviation of w, as drawn from a distribution with that deviation and kurtosis E[x^4] / std^4."""
    found = float(w.detach().double().square().mean())
    spread = std**2 * math.sqrt((kurtosis - 1) / w.numel())
    assert abs(found - std**2) <= SIGMAS * spread
    assert abs(float(w.detach().double().mean())) <= SIGMAS * std / math.sqrt(w.numel())


@pytest.mark.parametrize(
    ("start", "bound"), [(Uniform(1.0), 1.0), (Uniform(0.25), 0.25), (TorchUniform(), FAN_IN**-0.5)]
)
def test_uniform_starts(start: Start, bound: float) -> None:
    torch.manual_seed(0)
    w = torch.full(SHAPE, 7.0)
    start(w)
    assert float(w.abs().max()) <= bound
    assert float(w.max()) > 0.999 * bound
    assert float(w.min()) < -0.999 * bound
    assert_deviation(w, bound / math.sqrt(3), 9 / 5)


@pytest.mark.parametrize(
    ("start", "std"),
    [
        (HeNormal(), (2 / FAN_IN) ** 0.5),
        (HeNormal("out"), (2 / FAN_OUT) ** 0.5),
        (GlorotNormal(), (2 / (FAN_IN + FAN_OUT)) ** 0.5),
        (Normal(0.01), 0.01),
    ],
)
def test_normal_starts(start: Start, std: float) -> None:
    torch.manual_seed(0)
    w = torch.full(SHAPE, 7.0)
    start(w)
    assert_deviation(w, std, 3.0)
    assert float(w.abs().max()) > 3.5 * std


def test_starts_are_torchs_own() -> None:
    """The same draws as torch.nn.init and torch.nn.Conv2d."""
    for start, theirs in (
        (HeNormal(), nn.init.kaiming_normal_),
        (GlorotNormal(), nn.init.xavier_normal_),
        (HeNormal("out"), partial(nn.init.kaiming_normal_, mode="fan_out")),
        (TorchUniform(), partial(nn.init.kaiming_uniform_, a=math.sqrt(5))),
    ):
        torch.manual_seed(3)
        wanted = theirs(torch.empty(SHAPE))
        torch.manual_seed(3)
        got = torch.empty(SHAPE)
        start(got)
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("wrong", [lambda: Uniform(0.0), lambda: Normal(-1.0), lambda: Uniform(math.inf)])
def test_sizes_that_are_no_sizes(wrong: partial[Start]) -> None:
    with pytest.raises(ValueError, match="must be positive and finite"):
        wrong()
    with pytest.raises(ValueError, match="fan must be 'in' or 'out'; got 'both'"):
        HeNormal("both")  # type: ignore[arg-type]


HE = (
    *(binary.XNORNet, binary.DoReFa, binary.ReCU, binary.IRNet),
    *(binary.ReSTE, binary.RBNN, binary.FracBNN, binary.SiMaN, binary.BiPer),
    *(binary.HORQ, binary.AdaBin, binary.BMXNet),
)
UNIFORM = (binary.BNN, binary.BNNPlus)


@pytest.mark.parametrize("method", binary.ALL)
def test_layers_start_as_their_method_says(method: type) -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(80, 96, 3, method=method)
    if method in UNIFORM:
        assert_deviation(layer.weight, 1 / math.sqrt(3), 9 / 5)
    elif method is binary.BNext:
        assert_deviation(layer.weight, 0.001, 3.0)
    elif method is binary.RealToBinary:
        assert_deviation(layer.weight, (2 / (FAN_IN + FAN_OUT)) ** 0.5, 3.0)
    elif method in HE:
        assert_deviation(layer.weight, (2 / FAN_IN) ** 0.5, 3.0)
    else:
        assert_deviation(layer.weight, (3 * FAN_IN) ** -0.5, 9 / 5)


def test_reset_parameters_draws_weight_and_bias_anew() -> None:
    torch.manual_seed(0)
    layer = BinaryLinear(100, 40, bias=True, method=binary.BNN)
    assert layer.bias is not None
    weight, before = layer.weight, [p.detach().clone() for p in (layer.weight, layer.bias)]
    layer.reset_parameters()
    assert layer.weight is weight
    assert not torch.equal(layer.weight, before[0])
    assert not torch.equal(layer.bias, before[1])
    assert layer.bias.abs().max() <= 0.1
    assert_deviation(layer.weight, 1 / math.sqrt(3), 9 / 5)


def test_real_weights_of_a_first_stage_start_alike() -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(80, 96, 3, method=real_weights(binary.ReCU))
    assert isinstance(layer.method, RealWeights)
    assert_deviation(layer.weight, (2 / FAN_IN) ** 0.5, 3.0)


def test_conversion_keeps_weights_until_they_are_started_anew() -> None:
    torch.manual_seed(0)
    float_ = nn.Sequential(nn.Linear(8, 64), nn.Linear(64, 64), nn.Linear(64, 3))
    model = convert(float_, binary.BNN)
    assert torch.equal(model[1].weight, float_[1].weight)
    first = model[0].weight.detach().clone()
    start_latent_weights(model)
    assert model[1].weight.abs().max() > 0.99
    assert torch.equal(model[0].weight, first)
    with pytest.raises(ValueError, match="no low-bit layer; convert it first"):
        start_latent_weights(float_)


@pytest.mark.parametrize("method", [None, *binary.COMPARED])
def test_resnets_start_as_he_says_and_their_head_as_torchs(method: type | None) -> None:
    torch.manual_seed(0)
    model = models.resnet18_cifar(method)
    for module in model.modules():
        if not isinstance(module, nn.Conv2d | LowBitLayer):
            continue
        fan_in = module.weight[0].numel()
        if method is binary.BNN and isinstance(module, LowBitLayer):
            assert_deviation(module.weight, 1 / math.sqrt(3), 9 / 5)
        else:
            assert_deviation(module.weight, (2 / fan_in) ** 0.5, 3.0)
    assert_deviation(model.head.weight, (3 * 512) ** -0.5, 9 / 5)


@pytest.mark.parametrize("method", [None, *binary.COMPARED])
def test_vgg_small_starts_by_fan_out(method: type | None) -> None:
    torch.manual_seed(0)
    model = models.vgg_small(method, width=64)
    for module in model.modules():
        if not isinstance(module, nn.Conv2d | LowBitLayer):
            continue
        if method is binary.BNN and isinstance(module, LowBitLayer):
            assert_deviation(module.weight, 1 / math.sqrt(3), 9 / 5)
        else:
            assert_deviation(module.weight, (2 / (9 * module.weight.shape[0])) ** 0.5, 3.0)
    assert_deviation(model.head.weight, 0.01, 3.0)
    assert model.head.bias.eq(0.0).all()


def test_first_glorot_step_of_bnn_flips_few_signs() -> None:
    """The rate of 128 -> 128 channels is 39 times the recipe's 1e-3, and Adam's first step is as long as its rate: it
    turns the sign of latents below 0.039, 3.9 % of U(-1, 1), half of the time."""
    torch.manual_seed(0)
    layer = BinaryConv2d(128, 128, 3, padding=1, method=binary.BNN)
    optimizer = torch.optim.Adam(parameter_groups(layer, 0.0, glorot_lr=1e-3))
    before = layer.weight.detach() >= 0
    layer(torch.randn(8, 128, 8, 8)).square().mean().backward()
    optimizer.step()
    assert float(((layer.weight.detach() >= 0) != before).float().mean()) < 0.039
