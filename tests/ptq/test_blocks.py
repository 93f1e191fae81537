# SPDX-License-Identifier: Apache-2.0
"""Which layers are rounded together, and what BRECQ and QDrop make of them."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bittern
from _ptq import check_integers
from _tolerance import assert_exact
from bittern import ptq
from bittern.ptq.blocks import blocks, layers, run
from bittern.ptq.products import Product, product_of


class Residual(nn.Module):
    """Two convolutions and a sum; where channels grow, a shortcut by a slice and zeros, or a convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, *, projected: bool = False) -> None:
        super().__init__()
        self.one, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.two, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.short = nn.Conv2d(inputs, outputs, 1, stride) if projected else None
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.two(F.relu(self.norm1(self.one(x)))))
        if self.short is not None:
            x = self.short(x)
        elif self.more:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(y + x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, 1, 1)
        self.a, self.b, self.c = Residual(6, 6), Residual(6, 8, 2), Residual(8, 8, projected=True)
        self.pool, self.last, self.head = nn.MaxPool2d(2), nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.c(self.b(self.a(F.relu(self.stem(x))))))
        return self.head(F.relu(self.last(x)).mean((2, 3)))


def network() -> tuple[nn.Module, Tensor]:
    """With norms that are not the identity, and images that differ by more than noise."""
    torch.manual_seed(1)
    model, images = Net(), F.interpolate(torch.randn(96, 2, 4, 4), (8, 8), mode="bilinear")
    images = images + 2 * torch.randn(96, 2, 1, 1)
    for _ in range(40):
        model(images)
    return model.eval(), images


def names(parts: object) -> list[tuple[str, ...]]:
    return [tuple(unit.node.name for unit in part.products) for part in parts]  # type: ignore[attr-defined]


def test_residual_blocks_end_in_their_sum() -> None:
    model, images = network()
    made = bittern.quantize(model, images)
    found = blocks(made.facts, made.units)
    assert names(found) == [
        ("stem",),
        ("a.one", "a.two"),
        ("b.one", "b.two"),
        ("c.one", "c.two", "c.short"),
        ("last",),
        ("head",),
    ]
    assert all(len(block.inputs) == 1 for block in found)
    assert names(layers(made.facts, made.units)) == [(layer.name,) for layer in made.own_layers()]


def test_a_block_computes_what_the_float_network_does() -> None:
    model, images = network()
    made = bittern.quantize(model, images)
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = [
        module.register_forward_hook(lambda _, given, y, name=name: seen.__setitem__(name, (given[0], y)))
        for name, module in model.named_children()
    ]
    with torch.no_grad():
        model(images[:5])
        found = {part.products[0].node.name: part for part in blocks(made.facts, made.units) if part.products}
        for name in "abc":
            block = found[f"{name}.one"]
            products: dict[str, Product] = {
                unit.node.name: product_of(unit.node, made.facts.tensors) for unit in block.products
            }
            given, wanted = seen[name]
            torch.testing.assert_close(run(made.facts, block, products, None, [given]), wanted, rtol=1e-5, atol=1e-5)
    for hook in hooks:
        hook.remove()


class Side(nn.Module):
    """The input is read until the end, so that the network can be cut nowhere."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 3, 1, 1) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.layers:
            y = F.relu(layer(y))
        return y + x


def test_a_block_of_too_many_layers_is_taken_layer_by_layer() -> None:
    x = torch.randn(8, 3, 5, 5)
    for count, parts in ((16, 1), (17, 17)):
        made = bittern.quantize(Side(count).eval(), x)
        assert len(blocks(made.facts, made.units)) == parts


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.stem(x))
        return self.left(x), self.right(x)


def test_several_answers_are_taken_layer_by_layer() -> None:
    made = bittern.quantize(TwoHeads().eval(), torch.randn(8, 2, 6, 6))
    assert names(blocks(made.facts, made.units)) == [("stem",), ("left",), ("right",)]


@pytest.mark.parametrize("kind", [ptq.BRECQ, ptq.QDrop])
def test_a_network_comes_nearer_to_its_float_twin(kind: type[ptq.BRECQ] | type[ptq.QDrop]) -> None:
    model, images = network()
    told: list[tuple[str, float, float]] = []
    rounding = kind(schedule=ptq.Schedule(iterations=80, rate=0.1), progress=lambda *row: told.append(row), seed=1)
    options = {"weights": 3, "inputs": 4, "weight_steps": ptq.least_squares_channel_steps}
    nearest = bittern.quantize(model, images[:64], **options)
    learned = bittern.quantize(model, images[:64], rounding=rounding, **options)
    with torch.no_grad():
        wanted = model(images[64:])
        before, after = (float((made(images[64:]) - wanted).square().mean()) for made in (nearest, learned))
    assert after < 0.8 * before
    assert [row[0] for row in told] == [
        "stem",
        "a.one + a.two",
        "b.one + b.two",
        "c.one + c.two + c.short",
        "last",
        "head",
    ]
    assert all(b.error <= b.nearest_error for b in learned.rounded)
    assert any(old.scale != learned.grids[value].scale for value, old in nearest.grids.items())
    assert {value: grid.zero for value, grid in nearest.grids.items()} == {v: g.zero for v, g in learned.grids.items()}
    assert learned.grids[0] == nearest.grids[0]
    for layer in learned.own_layers():
        unit = next(unit for unit in learned.units if unit.node.name == layer.name)
        assert layer.x == learned.grids[unit.node.inputs[0]]
    check_integers(learned, images[64:])
    assert_exact(learned.pack()(images), learned(images))
    again = bittern.quantize(model, images[:64], rounding=rounding, **options)
    assert again.pack().to_bytes() == learned.pack().to_bytes()


def test_the_report_says_what_was_rounded_together() -> None:
    model, images = network()
    made = bittern.quantize(model, images, weights=3, rounding=ptq.BRECQ(schedule=ptq.Schedule(iterations=4)))
    text, page = str(made.report), made.report.html()
    assert len(made.report.rounded) == 6
    assert re.search(r"c\.one \+ c\.two \+ c\.short +\S+ +\S+", text)
    assert "<td>a.one + a.two</td>" in page
    plain = bittern.quantize(model, images).report
    assert "rounded together" not in str(plain) + plain.html()


def test_weight_steps_may_be_those_of_the_least_squares() -> None:
    model, images = network()
    largest, least = (
        bittern.quantize(model, images, weights=2, weight_steps=steps)
        for steps in (ptq.channel_steps, ptq.least_squares_channel_steps)
    )
    for one, other in zip(largest.own_layers(), least.own_layers(), strict=True):
        wanted = ptq.least_squares_channel_steps(other.weight.detach(), bits=2).double()
        assert torch.equal(other.scales, wanted)
        assert bool((other.scales <= one.scales).all())


@pytest.mark.parametrize("drop", [0.0, 1.0, -0.5, float("nan")])
def test_qdrop_drops_some(drop: float) -> None:
    with pytest.raises(ValueError, match="drop must lie between 0 and 1"):
        ptq.QDrop(drop=drop)
