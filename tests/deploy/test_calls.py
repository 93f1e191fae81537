# SPDX-License-Identifier: Apache-2.0
"""What a call of a packed model checks each time, and what it does once: inputs of all kinds in turn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bittern.binary import BNN
from bittern.deploy import Packed, pack
from bittern.deploy.engine.engine import Engine
from bittern.deploy.engine.groups.group import Group
from bittern.deploy.engine.groups.rows import RowScale
from bittern.deploy.engine.groups.torch_node import TorchNode
from bittern.nn import BinaryConv2d


def networks() -> dict[str, nn.Module]:
    """Reading signs, levels and real numbers of their input."""
    torch.manual_seed(0)
    return {
        "signs": nn.Sequential(BinaryConv2d(5, 70, 3, method=BNN), nn.BatchNorm2d(70)),
        "a real convolution": nn.Sequential(nn.Conv2d(5, 8, 3, bias=False), BinaryConv2d(8, 6, 3, method=BNN)),
        "a pool": nn.Sequential(nn.MaxPool2d(2), BinaryConv2d(5, 6, 3, method=BNN)),
    }


def layouts(x: Tensor) -> list[Tensor]:
    """The same numbers, laid out in memory in all ways."""
    wide = torch.zeros(*x.shape[:3], 2 * x.shape[3])
    wide[..., ::2] = x
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    return [x, x.to(memory_format=torch.channels_last), wide[..., ::2], turned, x.clone()]


@pytest.mark.parametrize("name", networks())
def test_inputs_of_all_layouts_in_turn(name: str) -> None:
    model = networks()[name].eval()
    packed = pack(model, torch.randn(1, 5, 12, 9))
    for batch in (2, 3, 1, 2):
        x = torch.randn(batch, 5, 12, 9)
        with torch.no_grad():
            expected = model(x)
        for given in layouts(x) * 2:
            assert torch.equal(packed(given), expected)
            assert torch.equal(packed(given.requires_grad_()), expected)
            given.requires_grad_(False)


def test_what_was_refused_is_refused_again() -> None:
    packed = pack(networks()["signs"].eval(), torch.randn(1, 5, 12, 9))
    good = torch.randn(2, 5, 12, 9)
    for bad in (good.double(), good[:, :4], good[0], good.to_sparse(), good.to("meta")):
        for _ in range(2):
            packed(good)
            for _ in range(2):
                with pytest.raises((TypeError, ValueError), match="packed model: "):
                    packed(bad)
    with pytest.raises(TypeError, match=r"torch\.Tensor"):
        packed(good.numpy())  # type: ignore[arg-type]


def test_gradients_are_tracked_afterwards_as_before() -> None:
    packed = pack(networks()["signs"].eval(), torch.randn(1, 5, 12, 9))
    x = torch.randn(1, 5, 12, 9, requires_grad=True)
    assert not packed(x).requires_grad
    assert torch.is_grad_enabled()
    with torch.no_grad():
        packed(x)
        assert not torch.is_grad_enabled()
    with pytest.raises(ValueError, match="expected an input"):
        packed(x[:, 1:])
    assert torch.is_grad_enabled()


def groups_of(packed: Packed, batch: int) -> tuple[Group, ...]:
    with Engine(packed.program, packed.tensors).schedule(batch) as schedule:
        return schedule.groups


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)], ids=str)
def test_a_norm_of_rows_takes_in_the_flatten_before_it(pool: nn.Module) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        BinaryConv2d(3, 75, 3, method=BNN), pool, nn.Flatten(), nn.BatchNorm1d(75), nn.Linear(75, 4)
    ).eval()
    model[3].running_mean.normal_()  # type: ignore[union-attr, operator]
    model[3].weight.data.normal_()  # type: ignore[union-attr, operator]
    packed = pack(model, torch.randn(1, 3, 9, 9))
    for batch in (1, 5, 0):
        x = torch.randn(batch, 3, 9, 9)
        with torch.no_grad():
            assert torch.equal(packed(x), model(x))
    groups = groups_of(packed, 2)
    assert any(isinstance(group, RowScale) and group.flatten is not None for group in groups)
    assert not any(isinstance(group, TorchNode) and group.node.kind in ("flatten", "affine") for group in groups)


def test_a_norm_of_rows_hands_on_what_is_not_finite() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(70), nn.Hardtanh(-1e30, 1e30)).eval()
    packed = pack(model, torch.randn(1, 70))
    x = torch.randn(3, 70)
    x[0, :5] = torch.tensor([float("nan"), float("inf"), float("-inf"), 0.0, -0.0])
    with torch.no_grad():
        assert torch.equal(packed(x).nan_to_num(7.0), model(x).nan_to_num(7.0))
        assert torch.equal(packed(x).signbit(), model(x).signbit())
