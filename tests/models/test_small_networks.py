# SPDX-License-Identifier: Apache-2.0
"""The networks for spectrograms, series and points."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from _tolerance import assert_exact
from bittern import binary, deploy, models
from bittern.nn import LowBitLayer, convert
from bittern.quantizer import Quantizer

NETWORKS: tuple[tuple[Callable[..., nn.Module], tuple[int, ...], int, dict[str, object]], ...] = (
    (models.ds_cnn, (1, 9, 7), 4, {"input_size": (9, 7), "width": 8}),
    (models.series_cnn, (3, 13), 4, {"input_size": 13, "width": 8}),
    (models.cell_detector, (3, 16, 24), 6, {"input_size": (16, 24), "width": 4}),
    (models.point_net, (2, 9), 3, {"input_size": 9, "widths": (8, 8, 16)}),
)
"""Network, shape of an input, low-bit layers, options."""
every_network = pytest.mark.parametrize(
    ("build", "shape", "layers", "options"), NETWORKS, ids=lambda v: getattr(v, "__name__", "")
)
PACKED = (None, binary.DoReFa, binary.XNORNetPlusPlus)
"""A grid that is no sign, parameters of the output's size."""


@every_network
def test_every_method_reaches_every_parameter(
    build: Callable[..., nn.Module], shape: tuple[int, ...], layers: int, options: dict[str, object]
) -> None:
    for method in (None, *binary.ALL):
        torch.manual_seed(0)
        model = build(method, 5, shape[0], **options)
        assert sum(isinstance(m, LowBitLayer) for m in model.modules()) == (layers if method else 0)
        model(torch.randn(6, *shape)).square().sum().backward()
        # a single scale in front of a norm has a gradient of 0 but for rounding
        dead = [n for n, p in model.named_parameters() if p.grad is None or (p.ndim and not (p.grad != 0).any())]
        assert dead == []
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


@every_network
@pytest.mark.parametrize("method", PACKED, ids=str)
def test_packs_exactly(
    build: Callable[..., nn.Module],
    shape: tuple[int, ...],
    layers: int,
    options: dict[str, object],
    method: type[Quantizer] | None,
) -> None:
    torch.manual_seed(0)
    model = build(method, 5, shape[0], **options)
    x = torch.randn(4, *shape)
    model(x)  # so that norms have seen something
    model.eval()
    packed = deploy.pack(model, x)
    assert deploy.verify(packed, model, x).exact


@every_network
def test_the_converted_float_twin_is_the_low_bit_network(
    build: Callable[..., nn.Module], shape: tuple[int, ...], layers: int, options: dict[str, object]
) -> None:
    torch.manual_seed(0)
    twin, low = (build(method, 5, shape[0], **options) for method in (None, binary.BNN))
    converted = convert(twin, binary.BNN)
    names = [[n for n, m in model.named_modules() if isinstance(m, LowBitLayer)] for model in (converted, low)]
    assert names[0] == names[1]
    low.load_state_dict(twin.state_dict())
    x = torch.randn(2, *shape)
    assert_exact(converted.eval()(x).detach(), low.eval()(x).detach())


@every_network
def test_sizes_and_methods_that_are_none_are_refused(
    build: Callable[..., nn.Module], shape: tuple[int, ...], layers: int, options: dict[str, object]
) -> None:
    with pytest.raises(TypeError, match=rf"{build.__name__}: method must be a Quantizer class; got 'BNN'"):
        build("BNN", **options)
    with pytest.raises(ValueError, match=rf"{build.__name__}: num_classes must be an integer of at least 1; got 0"):
        build(None, 0, **options)


def test_points_have_no_order() -> None:
    torch.manual_seed(0)
    model = models.point_net(binary.ReActNet, widths=(8, 8, 16), input_size=9).eval()
    x = torch.randn(2, 2, 9)
    shuffled: Tensor = x[:, :, torch.randperm(9)]
    assert_exact(model(shuffled).detach(), model(x).detach())
    with pytest.raises(ValueError, match="widths must be at least two"):
        models.point_net(widths=(8,))
