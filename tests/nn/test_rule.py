# SPDX-License-Identifier: Apache-2.0
"""A rule decides on each layer by itself: what it may answer, what it is asked, and what the plan says of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern import binary
from bittern.deploy import pack, verify
from bittern.estimators import Clip, binarize
from bittern.nn import (
    DEFAULT_KEEP,
    Action,
    BinaryConv2d,
    BinaryLinear,
    Linear4bit,
    Linear8bit,
    convert,
    first_and_last,
    plan_conversion,
)
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, stride=2),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 6, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


IMAGES = torch.randn(8, 3, 10, 10, generator=torch.Generator().manual_seed(0))


def mixed(name: str, layer: nn.Module) -> Any:
    if isinstance(layer, nn.Linear):
        return partial(Linear8bit, threshold=0.0)
    return {"2": binary.XNORNet, "4": partial(binary.DoReFa, weight_bits=2)}.get(name)


def test_a_rule_decides_on_every_layer_alone() -> None:
    low = convert(network(), mixed, example=IMAGES)
    assert type(low[0]) is nn.Conv2d
    assert isinstance(low[2].method, binary.XNORNet)
    assert low[4].method.weight_bits == 2
    assert isinstance(low[7], Linear8bit)
    assert low[7].threshold == 0.0
    low(IMAGES).square().sum().backward()
    assert low[2].weight.grad is not None
    assert low[7].bias.grad is not None


def test_the_plan_says_what_the_rule_chose() -> None:
    rows = {row.name: (row.action, row.reason) for row in plan_conversion(network(), mixed).rows}
    assert rows == {
        "0": (Action.KEEP, "rule: None"),
        "2": (Action.CONVERT, "rule: XNORNet"),
        "4": (Action.CONVERT, "rule: DoReFa(weight_bits=2)"),
        "7": (Action.CONVERT, "rule: Linear8bit(threshold=0.0)"),
    }
    assert convert(network(), mixed, dry_run=True) == plan_conversion(network(), mixed)


def test_a_rule_is_asked_once_about_each_layer_under_its_name() -> None:
    asked: list[tuple[str, type]] = []

    def rule(name: str, layer: nn.Module) -> Any:
        asked.append((name, type(layer)))
        return binary.BNN

    convert(network(), rule, keep=["7"])
    assert asked == [("0", nn.Conv2d), ("2", nn.Conv2d), ("4", nn.Conv2d)]


def test_keep_filters_first_and_is_empty_for_a_rule() -> None:
    def rule(name: str, layer: nn.Module) -> Any:
        return binary.BNN

    assert plan_conversion(network(), rule).names(Action.CONVERT) == ("0", "2", "4", "7")
    assert plan_conversion(network(), rule, keep=DEFAULT_KEEP).names(Action.CONVERT) == ("2", "4")
    kept = plan_conversion(network(), rule, keep=[first_and_last, "4"]).rows
    assert [row.reason for row in kept] == ["keep: first_and_last", "rule: BNN", "keep: 4", "keep: first_and_last"]


def test_layer_classes_take_the_place_of_their_layers_with_their_options() -> None:
    def rule(name: str, layer: nn.Module) -> Any:
        if isinstance(layer, nn.Linear):
            return partial(Linear4bit, block_size=32)
        return partial(BinaryConv2d, method=binary.BNN, pad_value=1) if name == "2" else None

    model = network()
    model[7] = nn.Linear(6, 32)
    low = convert(model, rule)
    assert low[2].geometry.pad_value == 1
    assert low[7].block_size == 32
    assert torch.equal(low[2].weight, model[2].weight)


class Doubled(nn.Module):
    """A layer class of somebody else's."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    @classmethod
    def from_float(cls, linear: nn.Linear) -> Doubled:
        return cls(linear)

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.linear(x)


def test_any_class_with_from_float_is_an_answer() -> None:
    model, x = nn.Sequential(nn.Linear(3, 2)).eval(), torch.randn(4, 3)
    low = convert(model, lambda name, layer: Doubled)
    assert torch.equal(low(x), 2 * model(x))
    assert not low[0].training


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("BNN", r"convert: the rule's answer for layer '0' is 'BNN'; return a Quantizer class"),
        (7, "is 7; return"),
        (BinaryLinear(2, 2, method=binary.BNN).method, r"is BNN\(\); return"),
        (nn.ReLU, "convert: layer '0': .*made a ReLU"),
    ],
)
def test_other_answers_are_refused_by_name(answer: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        convert(network(), lambda name, layer: answer)


def test_a_frozen_layer_for_a_convolution_is_refused_with_the_others() -> None:
    with pytest.raises(ValueError, match=r"'0' \(Conv2d\): Linear4bit takes the place of linear layers alone.*; '2'"):
        convert(network(), lambda name, layer: Linear4bit)


def test_a_frozen_layer_whose_weight_is_shared_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    with pytest.raises(ValueError, match=r"'0' .*its weight is also that of '1'"):
        convert(model, lambda name, layer: Linear8bit if name == "0" else binary.BNN)


def test_a_layer_that_cannot_be_converted_may_stay_by_the_rule() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].register_forward_hook(lambda m, i, o: None)
    with pytest.raises(ValueError, match=r"'0' \(Linear\): its forward hooks would be lost"):
        convert(model, lambda name, layer: binary.BNN)
    low = convert(model, lambda name, layer: None if name == "0" else binary.BNN)
    assert isinstance(low[1], BinaryLinear)


def test_a_rule_that_converts_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no layer is left to convert \('0': rule: None.*let the rule answer"):
        convert(network(), lambda name, layer: None)


@pytest.mark.parametrize("chosen", [lambda: None, lambda name, layer, more: None])
def test_functions_of_no_or_three_arguments_are_neither_method_nor_rule(chosen: Any) -> None:
    with pytest.raises(TypeError, match=r"convert: a method takes a LayerShape, a rule takes \(name, layer\); got"):
        convert(network(), chosen)


def test_a_function_of_one_argument_goes_on_being_a_method() -> None:
    def method(shape: LayerShape, bits: int = 2) -> Quantizer:
        return binary.DoReFa(shape, weight_bits=bits)

    assert convert(network(), method)[2].method.weight_bits == 2


class Halves(Quantizer):
    """Somebody's own method: signs, with 1/2 as scale of the weights."""

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(binarize(w, Clip()), torch.tensor(0.5))

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, Clip()))

    def input_code(self) -> InputCode:
        return SignCode()


# a few images at random are nearly constant behind a few layers
@pytest.mark.filterwarnings("ignore::bittern.nn.ConstantInputWarning")
def test_an_own_method_by_rule_trains_packs_and_verifies() -> None:
    low = convert(network(), lambda name, layer: None if name in "07" else (Halves if name == "2" else binary.ReCU))
    optimizer = torch.optim.Adam(low.parameters(), 0.05)
    before = low[2].weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(low(IMAGES), torch.arange(8) % 4).backward()
        optimizer.step()
    assert not torch.equal(low[2].weight.sign(), before.sign())
    packed = pack(low.eval(), IMAGES)
    report = verify(packed, low, [IMAGES[:3], -IMAGES])
    assert report.exact
    assert {layer.name for layer in report.layers} == {"2", "4"}
