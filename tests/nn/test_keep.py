# SPDX-License-Identifier: Apache-2.0
"""What a conversion leaves real by default: shortcuts and depthwise layers, by what they are and not by their names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bittern import binary
from bittern.nn import (
    DEFAULT_KEEP,
    Action,
    Candidate,
    convert,
    depthwise,
    first_and_last,
    plan_conversion,
    shortcuts,
)

EXAMPLE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A main path and, beside it, a path whose output is added."""

    def __init__(self, main: nn.Module, beside: nn.Module) -> None:
        super().__init__()
        self.main, self.beside = main, beside

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x)
        y += self.beside(x)
        return y


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def _network(*blocks: nn.Module) -> nn.Sequential:
    """Blocks between a first and a last layer; block i is module i + 1."""
    torch.manual_seed(0)
    return nn.Sequential(_conv(4, 8, 3), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


def _kept(model: nn.Module, example: Tensor | None = EXAMPLE) -> dict[str, str]:
    """Names and reasons of what stays real between the first and the last layer."""
    rows = plan_conversion(model, example=example).rows[1:-1]
    return {row.name: row.reason for row in rows if row.action is Action.KEEP}


@pytest.mark.parametrize("example", [None, EXAMPLE], ids=["no example", "example"])
def test_a_shortcut_with_stride_stays_real(example: Tensor | None) -> None:
    model = _network(Block(_conv(8, 8, 3, stride=2), _conv(8, 8, 1, stride=2)))
    assert _kept(model, example) == {
        "1.beside.0": "keep: shortcuts (1x1 with stride 2 carries real values past a block)"
    }


BOTTLENECK = nn.Sequential(_conv(8, 4, 1), _conv(4, 4, 3), _conv(4, 8, 1))


@pytest.mark.parametrize(
    ("block", "kept"),
    [
        (Block(BOTTLENECK, _conv(8, 8, 1)), ["1.beside.0"]),
        (Block(_conv(8, 8, 1), BOTTLENECK), ["1.main.0"]),
        # one layer past a shortcut that pools
        (Block(_conv(8, 8, 3), nn.Sequential(nn.AvgPool2d(3, 1, 1), _conv(8, 8, 1))), ["1.beside.1.0"]),
        # pointwise layers of a MobileNet: behind a depthwise layer, and beside nothing but the value itself
        (nn.Sequential(_conv(8, 8, 3, groups=8), _conv(8, 8, 1)), ["1.0.0"]),
        (Block(_conv(8, 8, 1), nn.Identity()), []),
        # two of a kind side by side: neither is the other's shortcut
        (Block(_conv(8, 8, 1), _conv(8, 8, 1)), []),
    ],
    ids=["bottleneck", "swapped", "one layer", "depthwise separable", "residual", "twins"],
)
def test_an_example_shows_what_goes_past_other_layers(block: nn.Module, kept: list[str]) -> None:
    assert list(_kept(_network(block))) == kept


def test_a_projection_behind_the_value_that_is_added_is_no_shortcut() -> None:
    """An inverted residual adds the last block's projection, which its own layers stand behind."""
    inverted = nn.Sequential(_conv(8, 16, 1), _conv(16, 16, 3, groups=16), _conv(16, 8, 1))
    assert list(_kept(_network(_conv(8, 8, 1), Block(inverted, nn.Identity())))) == ["2.main.1.0"]


def test_a_layer_on_another_input_is_no_shortcut() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            z: Tensor = self.head(self.a(x) + self.b(y))
            return z

    plan = plan_conversion(Two(), keep=[shortcuts], example=(EXAMPLE, EXAMPLE))
    assert plan.names(Action.CONVERT) == ("a", "b", "head")


def test_depthwise_layers_stay_real_and_the_plan_says_why() -> None:
    model = _network(_conv(8, 8, 3, groups=8), _conv(8, 8, 1), _conv(8, 8, 3, groups=4))
    assert _kept(model) == {"1.0": "keep: depthwise (depthwise: an output of 9 signs has only 10 values)"}
    assert not depthwise(Candidate("", nn.Conv2d(1, 4, 3), 0, 1))
    assert not depthwise(Candidate("", nn.Linear(4, 4), 0, 1))


def test_naming_what_to_keep_takes_the_place_of_the_default() -> None:
    model = _network(Block(_conv(8, 8, 3, stride=2, groups=8), _conv(8, 8, 1, stride=2)))
    assert plan_conversion(model, keep=[first_and_last]).names(Action.CONVERT) == ("1.main.0", "1.beside.0")
    assert plan_conversion(model, keep=DEFAULT_KEEP).names(Action.CONVERT) == ()
    assert plan_conversion(model, keep=[first_and_last, depthwise]).names(Action.CONVERT) == ("1.beside.0",)
    with pytest.raises(ValueError, match=r"no layer is left to convert .*'1\.main\.0': keep: depthwise"):
        convert(model, binary.BNN)


class ReadsAWeight(nn.Module):
    """Multiplies by the weight of one layer without calling it, and by that of another beside calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.both, self.called = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.linear(x, self.read.weight, self.read.bias)
        y = self.called(self.both(y.to(self.called.weight)))
        z: Tensor = y @ self.both.weight.T
        return z


def test_a_weight_that_the_forward_reads_itself_stays_real() -> None:
    plan = plan_conversion(nn.Sequential(ReadsAWeight()), keep=(), example=torch.zeros(1, 4))
    assert [(row.name, row.action, row.reason) for row in plan.rows] == [
        ("0.read", Action.KEEP, "'0' multiplies by its weight without calling it"),
        ("0.both", Action.KEEP, "'0' reads its weight itself, which must stay real"),
        ("0.called", Action.CONVERT, ""),
    ]


def test_looking_at_a_model_leaves_it_as_it_was() -> None:
    model = _network(Block(_conv(8, 8, 3), _conv(8, 8, 1))).train()
    example = EXAMPLE.clone()
    rng = torch.get_rng_state()
    plan_conversion(model, example=example)
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(not module._forward_pre_hooks for module in model.modules())
    assert torch.equal(example, EXAMPLE)
    assert vars(example) == {}
    assert torch.equal(torch.get_rng_state(), rng)
