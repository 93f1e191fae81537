# SPDX-License-Identifier: Apache-2.0
"""The published cost of each network, to the digits printed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from bittern import models
from bittern.binary import BNN, BNext, ReActNet, RealToBinary
from bittern.nn import summary
from bittern.nn.summary import Report
from bittern.quantizer import Method, Quantizer

PUBLISHED = [
    (models.bireal_net18, BNN, 224, "1.676", "137.8", "1.640", "10.985", "4.00"),
    (models.bireal_net34, BNN, 224, "3.526", "137.8", "1.929", "21.086", "5.23"),
    (models.reactnet_a, ReActNet, 224, "4.817", "11.9", "0.871", "28.253", "7.53"),
    (models.real_to_binary_net, RealToBinary, 224, "1.676", "138.1", "1.643", "10.985", "5.13"),
    (models.resnet20_cifar, BNN, 32, "0.040", "0.4", "0.0107", "0.267", "0.04"),
    (models.vgg_small, BNN, 32, "0.604", "3.6", "0.131", "4.571", "0.88"),
    (models.resnet18_cifar, BNN, 32, "0.547", "1.8", "0.103", "10.985", "1.37"),
    (models.binary_densenet28, BNN, 224, "3.587", "202.5", "2.585", "4.202", "4.04"),
    (models.binary_densenet37, BNN, 224, "4.507", "199.7", "2.702", "7.594", "5.13"),
    (models.binary_densenet45, BNN, 224, "6.431", "244.1", "3.446", "12.349", "7.35"),
    (models.meliusnet22, BNN, 224, "4.624", "136.4", "2.086", "6.119", "3.88"),
    (models.meliusnet29, BNN, 224, "5.470", "129.5", "2.150", "10.322", "5.07"),
    (models.meliusnet42, BNN, 224, "9.693", "175.1", "3.265", "24.957", "10.10"),
    (models.meliusnet59, BNN, 224, "18.316", "247.1", "5.333", "52.642", "17.39"),
]
"""Network, method, input size; 1e9 BMAC, 1e6 FMAC, 1e8 OPs, 1e6 binary weights, MiB."""


def _digits(value: float, like: str) -> str:
    return f"{value:.{len(like.partition('.')[2])}f}"


SLOW = (models.meliusnet42, models.meliusnet59)
"""Those whose forward pass takes seconds."""


@pytest.mark.parametrize(
    ("build", "method", "size", "bmac", "fmac", "ops", "weights", "mib"),
    [pytest.param(*row, marks=pytest.mark.slow if row[0] in SLOW else ()) for row in PUBLISHED],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_counts_are_the_published_ones(
    build: Callable[..., nn.Module],
    method: type[Quantizer],
    size: int,
    bmac: str,
    fmac: str,
    ops: str,
    weights: str,
    mib: str,
) -> None:
    report = summary(build(method), torch.zeros(1, 3, size, size))
    assert _digits(report.bmac / 1e9, bmac) == bmac
    assert _digits(report.fmac / 1e6, fmac) == fmac
    assert _digits(report.ops / 1e8, ops) == ops
    assert _digits(report.binary_params / 1e6, weights) == weights
    assert _digits(report.bytes / 2**20, mib) == mib
    assert report.uncounted == ()


@pytest.mark.parametrize("build", [models.resnet20_cifar, models.vgg_small, models.mlp])
def test_the_float_twin_multiplies_as_often(build: Callable[..., nn.Module]) -> None:
    size, channels = (28, 1) if build is models.mlp else (32, 3)
    low = summary(build(BNN, in_channels=channels), torch.zeros(1, channels, size, size))
    twin = summary(build(None, in_channels=channels), torch.zeros(1, channels, size, size))
    assert twin.bmac == twin.binary_params == 0
    assert twin.fmac == low.fmac + low.bmac
    assert twin.float_params == low.float_params + low.binary_params


def test_both_shortcuts_cost_the_same() -> None:
    x = torch.zeros(1, 3, 32, 32)
    for build in (models.resnet20_cifar, models.resnet18_cifar):
        per_conv = summary(build(BNN, shortcut="per_conv"), x)
        per_block = summary(build(BNN, shortcut="per_block"), x)
        assert (per_conv.ops, per_conv.bytes) == (per_block.ops, per_block.bytes)


@pytest.mark.parametrize(
    ("build", "parameters", "statistics"),
    [
        (models.quicknet_small, 12_655_688, 16),
        (models.quicknet, 13_234_088, 32),
        (models.quicknet_large, 23_342_248, 32),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_parameters_of_quicknet_are_those_of_its_authors_tables(
    build: Callable[..., nn.Module], parameters: int, statistics: int
) -> None:
    """The authors count the filters of the blurred pools, and mean and variance of the norm that learns nothing."""
    model = build(BNN)
    filters = sum(b.numel() for name, b in model.named_buffers() if name.endswith(".kernel"))
    assert sum(p.numel() for p in model.parameters()) + filters + statistics == parameters


def _on_meta(build: Callable[..., nn.Module], method: Method | None, size: int = 224, **options: bool) -> Report:
    with torch.device("meta"):
        model = build(method, input_size=size, **options)
    return summary(model, torch.zeros(1, 3, size, size, device="meta"))


@pytest.mark.parametrize(
    ("build", "grouped", "ops", "mib"),
    [
        pytest.param(models.resnet_e18, False, 1.63e8, 4.0, marks=pytest.mark.slow),
        (models.resnet_e18, True, 1.14e8, 3.98),
        pytest.param(models.resnet_e34, False, 1.92e8, 5.23, marks=pytest.mark.slow),
        pytest.param(models.resnet_e34, True, 1.43e8, 5.21, marks=pytest.mark.slow),
    ],
)
def test_resnet_e_costs_what_its_authors_print(
    build: Callable[..., nn.Module], grouped: bool, ops: float, mib: float
) -> None:
    """hpi-xnor/BMXNet-v2-wiki CurrentBestResults.md; larq/zoo prints the products and weights of the 18, exactly."""
    report = _on_meta(build, BNN, grouped=grouped)
    assert report.ops == pytest.approx(ops, rel=0.01)
    assert report.bytes / 2**20 == pytest.approx(mib, abs=0.005)
    if (build, grouped) == (models.resnet_e18, False):
        assert (report.bmac, report.fmac) == (1_676_279_808, 137_793_536)
        assert (report.binary_params, report.float_params) == (10_985_472, 704_168)


def test_alexnet_multiplies_signs_as_often_as_larq_prints() -> None:
    """larq/zoo XNORNet. Real ones by hand: its first image has 56 x 56 pixels, ours 55 x 55."""
    report = _on_meta(models.alexnet, BNN)
    assert (report.bmac, report.binary_params) == (1_025_744_896, 58_236_928)
    assert report.fmac == 55 * 55 * 96 * 3 * 11 * 11 + 4096 * 1000
    assert report.fmac == 113_379_328 - (56 * 56 - 55 * 55) * 96 * 3 * 11 * 11


def test_nin_costs_what_its_layers_say() -> None:
    """By hand: nobody prints it."""
    report = _on_meta(models.nin, BNN, 32)
    first = 192 * 160 + 160 * 96
    second = 96 * 192 * 25 + 2 * 192 * 192
    third = 192 * 192 * 9 + 192 * 192
    assert report.bmac == 1024 * first + 256 * second + 64 * third
    assert report.binary_params == first + second + third
    assert report.fmac == 1024 * 3 * 192 * 25 + 64 * 192 * 10


@pytest.mark.parametrize(
    ("build", "billions"),
    [
        pytest.param(models.bnext_tiny, 0.077, marks=pytest.mark.slow),
        pytest.param(models.bnext_small, 0.172, marks=pytest.mark.slow),
        pytest.param(models.bnext_middle, 0.317, marks=pytest.mark.slow),
        pytest.param(models.bnext_large, 0.819, marks=pytest.mark.slow),
    ],
)
def test_bnext_costs_what_its_authors_print(build: Callable[..., nn.Module], billions: float) -> None:
    """hpi-xnor/BNext README.md, whose real layers have 8 bits: 8 of their products are one operation there."""
    report = _on_meta(build, BNext)
    assert (report.bmac / 64 + report.fmac / 8) / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(
    ("build", "signs"),
    [
        (models.pokebnn_1x, 3_609_460_736),
        pytest.param(models.pokebnn_half, None, marks=pytest.mark.slow),
        pytest.param(models.pokebnn_2x, None, marks=pytest.mark.slow),
    ],
)
def test_pokebnn_costs_what_its_authors_test(build: Callable[..., nn.Module], signs: int | None) -> None:
    """google/aqt pokebnn_test.py: the efforts of 1.0x, products times bits of both sides (1, 4 in gates, else 8).

    The others by hand from it: all products of signs but the very first layer's are of two widths that scale.
    """
    report = _on_meta(build, BNN)
    stem, head = 56 * 56 * (32 * 3 * 16 + 64 * 9), 1000 * {"1x": 2048, "half": 1024, "2x": 4096}[build.__name__[8:]]
    if signs is None:
        factor, first = {"half": 0.5, "2x": 2}[build.__name__[8:]], 56 * 56 * 64 * 64
        assert report.bmac == factor**2 * (3_609_460_736 - first) + factor * first
    else:
        gates = report.fmac - stem - head
        assert report.bmac == signs
        assert report.bmac + 16 * gates + 64 * stem == 4_091_469_824
        assert 64 * head == 131_072_000


def test_parameters_of_real_to_binary_net_are_those_of_larqs_table() -> None:
    """Which counts mean and variance of norms. Its 5.13 MB stand above."""
    model = models.real_to_binary_net(RealToBinary)
    statistics = sum(b.numel() for name, b in model.named_buffers() if "running" in name)
    assert sum(p.numel() for p in model.parameters()) + statistics == 11_995_624
