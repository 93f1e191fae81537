# SPDX-License-Identifier: Apache-2.0
"""ResNetE, AlexNet, NIN, BNext and PokeBNN, in small: what blocks compute, that they train, and that they pack."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from _tolerance import assert_exact
from bittern import binary, models
from bittern.deploy import pack, verify
from bittern.models._layers import ChannelGate, padded_conv
from bittern.models.alexnet import AlexNet
from bittern.models.binary_densenet import plain_stem
from bittern.models.bnext import BNext, BNextBlock, Processor
from bittern.models.nin import NIN
from bittern.models.poke_bnn import Bottleneck, Fit, PokeBNN, PokeConv
from bittern.models.resnet_e import ResNetE, ResNetEBlock
from bittern.nn import DPReLU, LowBitLayer
from bittern.quantizer import Method

Small = Callable[[Method | None], nn.Module]


def resnet_e(method: Method | None) -> nn.Module:
    stem = nn.Sequential(plain_stem(3), nn.BatchNorm2d(64))
    return ResNetE(method, 5, stem=stem, widths=(64, 24), blocks=(1, 1))


def alexnet(method: Method | None) -> nn.Module:
    return AlexNet(method, 5, 3, 31, widths=(8, 24, 40, 16, 33), hidden=72)


def nin(method: Method | None) -> nn.Module:
    return NIN(method, 5, 3, widths=(24, 17, 9))


def bnext(method: Method | None) -> nn.Module:
    return BNext(method, 5, 3, width=8, blocks=(1,), stride=2)


def poke_bnn(method: Method | None) -> nn.Module:
    return PokeBNN(method, 5, 3, widths=(8, 32), blocks=(1, 1), small=False)


NETS: tuple[tuple[Small, Method, tuple[int, int]], ...] = (
    (resnet_e, partial(binary.BNN, limit=1.25, clip_latent=1.25), (33, 35)),
    (alexnet, binary.XNORNet, (31, 31)),
    (nin, binary.XNORNet, (13, 15)),
    (bnext, binary.BNext, (17, 20)),
    (poke_bnn, partial(binary.BNN, limit=3.0), (36, 28)),
)
"""Networks, the methods of their authors, sizes of images."""
every_net = pytest.mark.parametrize(("build", "method", "size"), NETS, ids=lambda v: getattr(v, "__name__", ""))


def as_trained(model: nn.Module, batch: Tensor) -> nn.Module:
    """Statistics of the batch, and nothing else at its neutral start."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 1.0
                if module.affine:
                    module.weight.normal_(0.5, 0.5)
                    module.bias.normal_(0, 0.5)
            elif isinstance(module, ChannelGate):
                nn.init.ones_(module.squeeze.bias)  # few hidden units: none may be dead
        for parameter in model.parameters():
            if parameter.ndim <= 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
        model.train()(batch)
    return model.eval()


@every_net
def test_they_train_pack_and_trace(build: Small, method: Method, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = as_trained(build(method), torch.randn(8, 3, *size))
    batch = torch.randn(2, 3, *size)
    traced = fx.GraphModule(model, _Tracer().trace(model))
    assert_exact(traced(batch).detach(), model(batch).detach())
    report = verify(pack(model, batch[:1]), model, batch)
    assert report.exact, str(report)
    assert report.logits_identical, str(report)
    assert len(report.layers) == sum(isinstance(m, LowBitLayer) for m in model.modules())
    model.train()(torch.randn(8, 3, *size)).square().sum().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert dead == []


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m.__module__.startswith(("torch.nn", "bittern.nn"))


@every_net
def test_float_twins_are_float_and_not_linear(build: Small, method: Method, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    twin = as_trained(build(None), torch.randn(8, 3, *size))
    assert not any(isinstance(m, LowBitLayer) for m in twin.modules())
    a, b = 10 * torch.randn(2, 1, 3, *size)
    with torch.no_grad():
        error = (twin(a + b) - twin(a) - twin(b) + twin(torch.zeros_like(a))).abs().max()
        assert error > 0.01 * twin(a).abs().max()


def _plain(block: nn.Module) -> None:
    """Norms that change nothing but by their epsilon, which is put to 0."""
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
            nn.init.ones_(module.weight)
    block.eval()


def test_a_block_of_resnet_e_adds_what_is_around_minus_one() -> None:
    torch.manual_seed(0)
    block = ResNetEBlock(3, 3, 1, binary.BNN)
    _plain(block)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    block.double()
    signs = F.pad(torch.where(x >= 0, 1.0, -1.0).double(), (1, 1, 1, 1), value=-1.0)
    w = torch.where(block.conv.weight >= 0, 1.0, -1.0).double()
    assert_exact(block(x).detach(), F.conv2d(signs, w) + x)


def test_a_processor_gates_its_convolution_by_the_mixture() -> None:
    torch.manual_seed(0)
    block = Processor(8, 1, 1, None).double()
    _plain(block)
    with torch.no_grad():
        block.share.copy_(torch.tensor([-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 0.5]))
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    z = F.conv2d(x, block.conv.weight)
    z = torch.where(z > 0, z, 0.25 * z)
    s = torch.tensor([0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.5]).view(1, 8, 1, 1)
    mean = (s * x + (1 - s) * z).mean((2, 3))
    hidden = (mean @ block.gate.squeeze.weight.flatten(1).T + block.gate.squeeze.bias).clamp(min=0)
    gate = 1 / (1 + torch.exp(-(hidden @ block.gate.excite.weight.flatten(1).T + block.gate.excite.bias)))
    expected = gate[:, :, None, None] * z
    torch.testing.assert_close(block(x, x), expected, rtol=1e-12, atol=1e-12)
    block(x, x).sum().backward()
    assert block.share.grad is not None
    assert bool((block.share.grad[[0, 6]] != 0).all()), "a share beyond its range could never come back"


def test_blocks_of_bnext_double_by_two_side_by_side_and_halve_odd_sizes_upward() -> None:
    block = BNextBlock(8, 16, 2, binary.BNext, attention=True)
    assert block(torch.randn(2, 8, 5, 7)).shape == (2, 16, 3, 4)
    assert BNextBlock(8, 8, 1, binary.BNext, attention=False).third is None


def test_shortcuts_of_poke_bnn_fit_without_parameters() -> None:
    torch.manual_seed(0)
    x, r = torch.randn(2, 8, 4, 4), torch.randn(2, 2, 4, 4)
    down = PokeConv(8, 4, 3, 2, binary.BNN)
    up = PokeConv(8, 12, 1, 1, binary.BNN, Fit(2, 12, 1, repeat=True))
    for conv in (down, up):
        nn.init.zeros_(conv.bn1.weight)
        nn.init.ones_(conv.act.fall)
        for layer in (conv.gate.squeeze, conv.gate.excite):
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, 3.0)  # a gate of 1
        conv.bn2.eps = 0.0
        conv.eval()
    means = torch.stack([x[:, 2 * c : 2 * c + 2].mean(1) for c in range(4)], 1)
    halved = F.pad(means, (1, 1, 1, 1)).unfold(2, 3, 2).unfold(3, 3, 2).sum((4, 5)) / 9
    torch.testing.assert_close(down(x, r), halved, rtol=1e-5, atol=1e-6)
    expected = torch.cat((x, torch.zeros(2, 4, 4, 4)), 1) + r.repeat(1, 6, 1, 1)
    torch.testing.assert_close(up(x, r), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(
        ValueError, match="channels that are repeated must divide what they are added to; got 24 for 32"
    ):
        Bottleneck(24, 8, 1, binary.BNN)


def test_dprelu_has_two_slopes_and_two_shifts() -> None:
    act = DPReLU(2)
    assert_exact(act(torch.tensor([[[-2.0, 3.0], [0.0, -0.0]]])), torch.tensor([[[-0.5, 3.0], [0.0, -0.0]]]))
    with torch.no_grad():
        for parameter, values in zip(act.parameters(), ([1, -1], [2, 4], [0.5, 8], [10, 20]), strict=True):
            parameter.copy_(torch.tensor(values))
    x = torch.tensor([[[0.0, 1.0, 3.0], [-3.0, -1.0, 0.0]]], requires_grad=True)
    y = act(x)
    # channel 0: t = -1, 0, 2; channel 1: t = -2, 0, 1
    assert_exact(y.detach(), torch.tensor([[[-10.5, -10.0, -6.0], [-36.0, -20.0, -16.0]]]))
    y.sum().backward()
    assert x.grad is not None
    assert_exact(x.grad, torch.tensor([[[0.5, 2.0, 2.0], [8.0, 4.0, 4.0]]]))
    grads = [p.grad for p in act.parameters()]
    expected = [[-4.5, -16.0], [2.0, 1.0], [-1.0, -2.0], [-3.0, -3.0]]
    for grad, values in zip(grads, expected, strict=True):
        assert grad is not None
        assert_exact(grad, torch.tensor(values))
    with pytest.raises(ValueError, match=r"DPReLU: expected an input \[batch, 2, \*space\]"):
        act(torch.zeros(1, 3))


def test_sizes_and_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="alexnet: input_size must be at least 15, three pools follow; got 14"):
        models.alexnet(binary.BNN, input_size=14)
    with pytest.raises(ValueError, match="resnet_e18: images below 50 pixels have a single first layer; got input_s"):
        models.resnet_e18(binary.BNN, input_size=32, grouped=True)
    assert models.alexnet(None, 2, 1, input_size=15, hidden=3)(torch.zeros(2, 1, 15, 15)).shape == (2, 2)


def test_each_term_of_signs_is_padded_and_a_term_of_ones_leaves_zeros() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 6)
    for method, value in ((binary.HORQ, -1), (binary.ABCNet, 1), (binary.AdaBin, 0), (binary.DoReFa, 0)):
        layer = padded_conv(3, 4, method, value or -1).eval()
        assert isinstance(layer, LowBitLayer)
        assert layer.geometry.pad_value == value
        report = verify(pack(layer, x[:1]), layer, x)
        assert report.exact, str(report)
        assert report.logits_identical, str(report)
