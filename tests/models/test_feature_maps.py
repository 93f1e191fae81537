# SPDX-License-Identifier: Apache-2.0
"""The maps that every network offers, and backbones made of them."""

from __future__ import annotations

import typing

import pytest
import torch
from torch import Tensor, nn

from _tolerance import assert_exact
from bittern import models
from bittern.binary import BNN
from bittern.deploy import pack
from bittern.models import Backbone
from bittern.models.binary_densenet import DenseStages, Shape
from bittern.models.bireal_net import BiRealNet
from bittern.models.language import GPT, GPTShape, LSTMLanguageModel
from bittern.models.melius_net import blocks
from bittern.models.quick_net import QuickNet
from bittern.models.resnet_cifar import ResNetCifar


def resnet(method: type[BNN] | None = BNN) -> ResNetCifar:
    return ResNetCifar(method, 5, 3, widths=(8, 12, 16), blocks=(1, 2, 1), shortcut="per_conv", stem_activation=True)


def _dense() -> nn.Module:
    stem = nn.Conv2d(3, 64, 3, 1, 1)
    return DenseStages(None, 5, 3, shape=Shape((1, 1), (32,), (1, 1)), stem=stem, units=blocks)


IMAGE, TOKENS = torch.zeros(2, 3, 17, 20), torch.zeros(2, 6, dtype=torch.int64)
CASES: tuple[tuple[nn.Module, Tensor, list[tuple[int, ...]]], ...] = (
    (resnet(), IMAGE, [(8, 17, 20), (12, 9, 10), (16, 5, 5)]),
    (BiRealNet(None, 5, 3, blocks=(1, 1, 1, 1)), IMAGE, [(64, 5, 5), (128, 3, 3), (256, 2, 2), (512, 1, 1)]),
    (_dense(), IMAGE, [(128, 17, 20), (96, 8, 10)]),
    (
        QuickNet(None, 5, 3, widths=(8, 12), blocks=(1, 2), stride=1),
        IMAGE,
        [(8, 17, 20), (12, 8, 10)],
    ),
    (models.mlp(None, 3, 2, input_size=4, widths=(5, 6, 7)), torch.zeros(2, 2, 4, 4), [(5,), (6,), (7,)]),
    (
        models.vgg_small(None, 3, 1, input_size=19, width=4),
        torch.zeros(2, 1, 19, 19),
        [(4, 19, 19), (8, 9, 9), (16, 4, 4), (16, 2, 2)],
    ),
    (models.cell_detector(None, width=4), torch.zeros(2, 3, 16, 24), [(4, 4, 6), (8, 2, 3)]),
    (models.ds_cnn(None, width=4, blocks=1), torch.zeros(2, 1, 9, 11), [(4, 5, 6), (4, 3, 3)]),
    (models.series_cnn(None, width=4, blocks=3), torch.zeros(2, 3, 21), [(4, 11), (4, 6)]),
    (models.point_net(None, widths=(4, 5, 6)), torch.zeros(2, 2, 9), [(4, 9), (5, 9), (6, 9)]),
    (models.vit_small(None, input_size=8, width=8, depth=2, patch=2), torch.zeros(2, 3, 8, 8), [(16, 8)] * 2),
    (models.mixer_small(None, input_size=8, width=8, depth=2, patch=4), torch.zeros(2, 3, 8, 8), [(4, 8)] * 2),
    (models.text_encoder(None, words=9, context=6, width=8, blocks=2), TOKENS, [(6, 8)] * 2),
    (GPT(9, GPTShape(2, 8, 2, 6)), TOKENS, [(6, 8)] * 2),
    (LSTMLanguageModel(9, 8, 2), TOKENS, [(6, 8)]),
)


@pytest.mark.parametrize(("model", "x", "shapes"), CASES, ids=lambda v: type(v).__name__)
def test_maps_are_what_lies_before_each_change_of_size(
    model: nn.Module, x: Tensor, shapes: list[tuple[int, ...]]
) -> None:
    backbone = Backbone(model, x)
    assert backbone.shapes == tuple(shapes)
    assert all(module.training for module in model.modules())
    model.eval()
    maps = backbone(x)
    assert [tuple(m.shape) for m in maps] == [(2, *shape) for shape in shapes]


@pytest.mark.parametrize("build", models.ALL, ids=lambda b: b.__name__)
def test_every_network_has_them(build: typing.Any) -> None:
    assert hasattr(typing.get_type_hints(build)["return"], "feature_maps")


def test_a_backbone_takes_chosen_maps_trains_and_packs() -> None:
    torch.manual_seed(0)
    model = resnet()
    x = torch.randn(2, 3, 17, 20)
    backbone = Backbone(model, x[:1], maps=(-1, 0)).eval()
    assert backbone.maps == (2, 0)
    coarse, fine = backbone(x)
    every = model.feature_maps(x)
    assert_exact(coarse.detach(), every[2].detach())
    assert_exact(fine.detach(), every[0].detach())
    for packed, own in zip(pack(backbone, x[:1])(x), (coarse, fine), strict=True):
        assert_exact(packed, own.detach())
    backbone.train()(x)[1].square().sum().backward()
    reached = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"stem", "blocks"}
    assert model.blocks[1].conv1.weight.grad is None


def test_places_without_a_map_and_models_without_maps_are_refused() -> None:
    x = torch.zeros(1, 3, 8, 8)
    for maps in ((), (3,), (-4,)):
        with pytest.raises(ValueError, match=r"Backbone: maps must be places of the 3 maps; got \["):
            Backbone(resnet(None), x, maps=maps)
    with pytest.raises(TypeError, match=r"must have a method feature_maps\(x\); got Conv2d"):
        Backbone(nn.Conv2d(3, 3, 1), x)
