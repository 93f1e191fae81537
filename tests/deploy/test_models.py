# SPDX-License-Identifier: Apache-2.0
"""Every method on every model: packed equals the training graph in eval mode, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from bittern import binary, models
from bittern.deploy import pack, verify
from bittern.models.binary_densenet import DenseStages, Shape
from bittern.models.melius_net import blocks, grouped_stem
from bittern.nn import summary
from bittern.quantizer import Method, set_progress

SIZES: dict[Callable[..., nn.Module], tuple[int, ...]] = {
    models.mlp: (3, 8, 8),
    models.resnet20_cifar: (3, 16, 16),
    models.resnet18_cifar: (3, 16, 16),
    models.vgg_small: (3, 16, 16),
    models.bireal_net18: (3, 64, 64),
    models.bireal_net34: (3, 32, 32),
    models.reactnet_a: (3, 64, 64),
    models.react_resnet18: (3, 64, 64),
    **dict.fromkeys(models.ALL[8:], (3, 64, 64)),
}
"""Small inputs, large enough for every stride."""

METHODS: tuple[Method, ...] = (*binary.COMPARED, partial(binary.DoReFa, weight_bits=2, input_bits=2))


def name(method: Method) -> str:
    return getattr(method, "__name__", "DoReFa-2-2")


def test_no_model_is_left_out() -> None:
    assert set(SIZES) == set(models.ALL)


def trained_look(model: nn.Module) -> nn.Module:
    """Statistics, shifts and scales as training would leave them: nothing at its neutral start value."""
    set_progress(model, 0.7)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_(0, 0.5)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 20)  # type: ignore[union-attr]
                if module.affine:
                    module.weight.normal_(0.5, 0.5)
                    module.bias.normal_(0, 0.5)
        for parameter in model.parameters():
            if parameter.ndim <= 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


SMALL = (models.mlp,)
"""Models on which every method is tried in every run; the others take their turns, and all pairs are `slow`. (The tests
of the engine pack small convolutional networks with every method.)"""

LARGE = (
    models.bireal_net34,
    models.reactnet_a,
    models.binary_densenet28,
    models.binary_densenet37,
    models.binary_densenet37_dilated,
    models.binary_densenet45,
    models.meliusnet22,
    models.meliusnet29,
    models.meliusnet42,
    models.meliusnet59,
    models.meliusnet_a,
    models.meliusnet_b,
    models.meliusnet_c,
    models.quicknet,
    models.quicknet_large,
    *models.ALL[models.ALL.index(models.resnet_e18) :],
)
"""Those of whose blocks another network is packed, in fewer layers, or as an exported module."""

HEADER = 16 * 1024
"""Bytes of a file beside what `summary` counts: what the network is, in words."""


def pairs() -> list[object]:
    cases = []
    for i, build in enumerate(SIZES):
        for j, method in enumerate(METHODS):
            quick = build in SMALL or (build not in LARGE and j == (2 * i + 6) % len(METHODS))
            marks = () if quick else (pytest.mark.slow,)
            cases.append(pytest.param(build, method, id=f"{build.__name__}-{name(method)}", marks=marks))
    return cases


@pytest.mark.parametrize(("build", "method"), pairs())
def test_packed_equals_trained(build: Callable[..., nn.Module], method: Method) -> None:
    torch.manual_seed(0)
    size = SIZES[build]
    model = trained_look(build(method=method, num_classes=7, in_channels=size[0], input_size=size[1]))
    batch = torch.randn(2, *size)
    packed = pack(model, batch[:1])
    filters = sum(b.nbytes for name, b in model.named_buffers() if name.endswith(".kernel"))  # of blurred pools
    assert len(packed.to_bytes()) <= summary(model, batch[:1]).bytes + filters + HEADER
    report = verify(packed, model, batch)
    assert report.exact, str(report)
    assert report.logits_identical, str(report)
    assert sum(layer.accumulators for layer in report.layers) > 0


@pytest.mark.parametrize("method", [binary.BNN, binary.ReCU, METHODS[-1]], ids=name)
def test_dense_stages_pack(method: Method) -> None:
    """Appended channels, improved ones, a dilated stage and shuffled groups, in two short stages."""
    torch.manual_seed(0)
    shape = Shape((2, 1), (96,), (1, 2), groups=2)
    model = DenseStages(method, 5, 3, shape=shape, stem=grouped_stem(3), units=blocks)
    model = trained_look(model)
    batch = torch.randn(2, 3, 33, 35)
    report = verify(pack(model, batch[:1]), model, batch)
    assert report.exact, str(report)
    assert report.logits_identical, str(report)
    assert len(report.layers) == 6
