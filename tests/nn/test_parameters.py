# SPDX-License-Identifier: Apache-2.0
"""parameter_groups is a partition, and latent weights are clipped as their method says."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from bittern import binary, models
from bittern.nn import BinaryConv2d, BinaryLinear, RPReLU, RSign, clip_latent_weights, parameter_groups
from bittern.nn.parameters import glorot_factor
from bittern.quantizer import LayerShape
from bittern.train.real_weights import use_real_weights


@pytest.mark.parametrize("method", [None, *binary.ALL], ids=lambda m: "float" if m is None else m.__name__)
@pytest.mark.parametrize("glorot_lr", [None, 0.1])
def test_every_parameter_is_in_exactly_one_group(method: type | None, glorot_lr: float | None) -> None:
    model = models.resnet20_cifar(method)
    groups = parameter_groups(model, 0.1, glorot_lr=glorot_lr)
    found = [id(p) for group in groups for p in group["params"]]
    assert len(found) == len(set(found))
    assert set(found) == {id(p) for p in model.parameters()}
    optimizer = torch.optim.SGD(groups, lr=0.5)
    assert {g["name"] for g in optimizer.param_groups} == {g["name"] for g in groups}


def test_only_float_matrices_decay() -> None:
    model = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 3),
            "rsign": RSign(4),
            "low": BinaryConv2d(4, 4, 3, bias=True, method=binary.FDA),
            "react": BinaryConv2d(4, 4, 3, method=binary.ReActNet),
            "rprelu": RPReLU(4),
            "prelu": nn.PReLU(4),
            "bn": nn.BatchNorm2d(4),
            "norm": nn.LayerNorm((4, 5)),
            "head": nn.Linear(4, 2),
        }
    )
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {
        g["name"]: ({names[id(p)] for p in g["params"]}, g["weight_decay"])
        for g in parameter_groups(model, 0.25, latent_weight_decay=0.5)
    }
    assert groups["decay"] == ({"conv.weight", "head.weight"}, 0.25)
    assert groups["latent"] == ({"low.weight", "react.weight"}, 0.5)
    assert groups["other"][1] == 0.0
    assert parameter_groups(model, 0.25)[0]["weight_decay"] == 0.0


def test_real_weights_of_a_first_stage_decay_like_real_weights() -> None:
    model = use_real_weights(models.resnet20_cifar(binary.ReActNet))
    decay = {id(p): g["weight_decay"] for g in parameter_groups(model, 1e-5) for p in g["params"]}
    assert {decay[id(p)] for p in model.parameters() if p.ndim == 4} == {1e-5}
    assert {decay[id(p)] for p in model.parameters() if p.ndim == 1} == {0.0}


def test_everything_decays_where_the_authors_decay_everything() -> None:
    model = nn.Sequential(nn.Linear(3, 3), BinaryLinear(3, 3, method=binary.ReCU), nn.BatchNorm1d(3))
    groups = parameter_groups(model, 0.25, latent_weight_decay=0.5, elementwise_weight_decay=0.125)
    assert {g["name"]: g["weight_decay"] for g in groups} == {"latent": 0.5, "decay": 0.25, "other": 0.125}


def test_a_step_with_decay_leaves_latent_weights_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 3), BinaryLinear(3, 3, method=binary.ReActNet))
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    torch.optim.SGD(parameter_groups(model, 0.5), lr=0.1).step()
    changed = {n for (n, p), b in zip(model.named_parameters(), before, strict=True) if not torch.equal(p, b)}
    assert changed == {"0.weight"}


def test_frozen_parameters_are_left_out_and_shared_ones_come_once() -> None:
    low, twin = BinaryLinear(3, 3, method=binary.BNN), nn.Linear(3, 3)
    twin.weight = low.weight
    model = nn.Sequential(twin, low)
    assert twin.bias is not None
    twin.bias.requires_grad_(False)
    (group,) = parameter_groups(model, 0.1)
    assert group["name"] == "latent"
    assert len(group["params"]) == 1
    low.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter"):
        parameter_groups(model, 0.1)


def test_glorot_rate_is_binarynets() -> None:
    model = nn.Sequential(nn.Linear(2, 4), BinaryConv2d(4, 6, 3, method=binary.BNN))
    groups = {g["name"]: g for g in parameter_groups(model, 0.0, glorot_lr=0.01)}
    # W_LR = 1 / sqrt(1.5 / (n_in + n_out)), n counting the kernel's taps
    assert groups["latent.1.weight"]["lr"] == pytest.approx(0.01 / (1.5 / (4 * 9 + 6 * 9)) ** 0.5)
    assert "lr" not in groups["decay"]
    assert glorot_factor(LayerShape((6, 2), groups=2)) == pytest.approx(((4 + 6) / 1.5) ** 0.5)


def test_parameters_without_size_and_negative_rates_are_refused() -> None:
    model = nn.Sequential(BinaryConv2d(1, 2, 3, method=binary.XNORNetPlusPlus))
    with pytest.raises(ValueError, match=r"'0\.method\.beta' has no size before the first forward"):
        parameter_groups(model, 0.0)
    model(torch.zeros(1, 1, 5, 5))
    parameter_groups(model, 0.0)
    for wrong in (
        partial(parameter_groups, model, -0.1),
        partial(parameter_groups, model, 0.1, elementwise_weight_decay=-1.0),
        partial(parameter_groups, model, 0.1, glorot_lr=-1.0),
    ):
        with pytest.raises(ValueError, match="must be at least 0"):
            wrong()


def test_latent_weights_are_clipped_where_the_method_says_so() -> None:
    bnn, react = BinaryLinear(3, 3, method=binary.BNN), BinaryLinear(3, 3, method=binary.ReActNet)
    model = nn.Sequential(bnn, react, nn.Linear(3, 3))
    for p in model.parameters():
        nn.init.constant_(p, -3.0)
    kept = bnn.weight
    clip_latent_weights(model)
    assert bnn.weight is kept
    assert bool((bnn.weight == -1.0).all())
    assert binary.ReActNet.clip_latent is None
    assert bool((react.weight == -3.0).all())
    assert bool((model[2].weight == -3.0).all())
