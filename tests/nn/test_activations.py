# SPDX-License-Identifier: Apache-2.0
"""Swapping the activations of a converted model, and the warning where a sign has nothing to tell apart."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern import binary
from bittern.nn import Action, ConstantInputWarning, convert, plan_conversion

IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Residual(nn.Module):
    """The block of a ReLU network: one ReLU module, called within and behind the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        z: Tensor = self.relu(self.norm2(self.conv2(y)) + x)
        return z


def network() -> nn.Sequential:
    torch.manual_seed(0)
    stem = (nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
    return nn.Sequential(*stem, Residual(), Residual(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


def spread(model: nn.Module) -> float:
    """How much the answers differ from image to image."""
    with torch.no_grad():
        return float(model(IMAGES).std(0).max())


@pytest.mark.parametrize("method", [binary.BNN, binary.ReActNet, binary.BiRealNet, binary.IRNet])
@pytest.mark.parametrize("example", [IMAGES[:1], torch.zeros(1, 3, 8, 8)], ids=["noise", "zeros"])
def test_a_relu_network_is_constant_and_the_warning_names_its_layers(method: type, example: Tensor) -> None:
    message = r"convert: the input of 4 of 4 .*'3\.conv1' .*activation=nn\.Hardtanh"
    with pytest.warns(ConstantInputWarning, match=message):
        low = convert(network(), method, example=example)
    assert spread(low[:3].append(low[3].conv1)) == 0
    low = convert(network(), method, example=example, activation=nn.Hardtanh)
    assert spread(low[:3].append(low[3].conv1)) > 0


@pytest.mark.parametrize("activation", [nn.Hardtanh, nn.PReLU, nn.Identity, partial(nn.Hardtanh, -2.0, 2.0)])
def test_swapped_the_same_network_varies(activation: Any) -> None:
    low = convert(network(), binary.BNN, example=IMAGES[:1], activation=activation)
    made = type(activation())
    assert [type(low[i]) for i in (2,)] == [made]
    assert type(low[3].relu) is made
    assert not any(isinstance(m, nn.ReLU) for m in low.modules())
    assert spread(low) > 0
    assert not low[3].relu.training


def test_the_plan_lists_what_is_swapped() -> None:
    plan = plan_conversion(network(), activation=nn.Hardtanh)
    assert plan.names(Action.SWAP) == ("2", "3.relu", "4.relu")
    assert plan.rows[-1][1:] == ("ReLU", (), Action.SWAP, "becomes Hardtanh")
    assert "refuse 0, swap 3" in str(plan)
    assert plan_conversion(network()).names(Action.SWAP) == ()


def test_a_function_is_asked_about_every_activation_and_may_leave_it() -> None:
    asked = []

    def choose(name: str, module: nn.Module) -> nn.Module:
        asked.append((name, type(module)))
        return nn.PReLU(8) if name.endswith("relu") else module

    model = network()
    model.append(nn.GELU())
    low = convert(model, binary.BNN, activation=choose)
    assert asked == [("2", nn.ReLU), ("3.relu", nn.ReLU), ("4.relu", nn.ReLU), ("8", nn.GELU)]
    assert [type(low[2]), type(low[8])] == [nn.ReLU, nn.GELU]
    assert low[3].relu is not low[4].relu
    assert low[3].relu.weight.shape == (8,)


def test_a_shared_activation_is_swapped_for_one_and_takes_over_type_and_mode() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 4)).double().train()
    low = convert(model, binary.BNN, activation=nn.PReLU)
    assert low[1] is low[3]
    assert low[1].weight.dtype == torch.float64
    assert low[1].training
    assert model[1] is relu


def test_gates_stay() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 4), nn.ReLU6(), nn.Linear(4, 4), nn.Hardsigmoid())
    low = convert(model, binary.BNN, activation=nn.Hardtanh)
    assert [type(low[i]) for i in (1, 3, 5)] == [nn.Sigmoid, nn.Hardtanh, nn.Hardsigmoid]


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.act = nn.Linear(4, 64), nn.Linear(64, 64), nn.Linear(64, 4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.c(self.b(F.relu(self.a(x)))))
        return y


def test_a_relu_that_is_called_as_a_function_is_named() -> None:
    model, example = nn.Sequential(Functional()), torch.randn(8, 4)
    sentence = r"'0' calls relu\(\) as a function, which cannot be swapped; write it as an nn\.ReLU"
    plan = plan_conversion(model, example=example, activation=nn.Hardtanh)
    assert plan.names(Action.SWAP) == ("0.act",)
    assert plan.notes == (sentence.replace("\\", ""),)
    for activation in (None, nn.Hardtanh):
        with pytest.warns(UserWarning, match=sentence), pytest.warns(ConstantInputWarning, match=r"'0\.b' \(all \+1\)"):
            convert(model, binary.BNN, example=example, activation=activation)


def test_a_model_that_noise_cannot_run_is_measured_on_its_example() -> None:
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 4))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layers(x.view(2, 4))
            return y

    with (
        pytest.warns(UserWarning, match="does not run on noise"),
        pytest.warns(ConstantInputWarning, match=r"layers\.2"),
    ):
        convert(Once(), binary.BNN, example=torch.randn(2, 4))


class OwnReLU(nn.ReLU):
    pass


def _hooked() -> nn.Module:
    relu = nn.ReLU()
    relu.register_forward_hook(lambda m, i, o: None)
    return relu


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.GELU(), r"has none that it would swap; write F\.relu\(x\)"),
        (OwnReLU(), "'1': class OwnReLU may compute something else"),
        (_hooked(), "'1': its forward hooks would be lost"),
        (
            nn.TransformerEncoderLayer(4, 2, 4, activation=nn.ReLU(), batch_first=True),
            r"'1\.activation': TransformerEncoderLayer computes its activation itself",
        ),
    ],
)
def test_an_activation_that_swaps_nothing_is_refused(layer: nn.Module, message: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 4))
    with pytest.raises(ValueError, match=rf"convert: activation swaps modules such as nn\.ReLU.*{message}"):
        convert(model, binary.BNN, keep=["1.*", "0"] if "1." in message else ["0"], activation=nn.Hardtanh)


def test_what_cannot_be_swapped_stays_beside_what_can_and_the_plan_says_why() -> None:
    plan = plan_conversion(nn.Sequential(OwnReLU(), nn.ReLU()), activation=nn.Hardtanh)
    assert [(row.action, row.reason) for row in plan.rows] == [
        (Action.KEEP, "class OwnReLU may compute something else than its base"),
        (Action.SWAP, "becomes Hardtanh"),
    ]


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("Hardtanh", r"activation must be a class of modules or a function .*got 'Hardtanh'"),
        (nn.Linear, r"activation '2': .*missing 2 required positional arguments.*a partial of one"),
        (lambda module: module, r"activation '2': .*takes 1 positional argument but 2 were given"),
        (lambda name, module: None, r"activation '2': .*must make a module; it made a NoneType"),
    ],
)
def test_an_activation_that_makes_no_module_is_refused(activation: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"convert: {message}"):
        convert(network(), binary.BNN, activation=activation)


def test_nothing_is_said_of_a_network_whose_signs_vary() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(network(), binary.BNN, example=IMAGES[:1], activation=nn.Hardtanh)
