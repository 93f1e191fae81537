# SPDX-License-Identifier: Apache-2.0
"""Bits of weights within a budget of bytes or time: kept exactly, spent where it matters, with a floor under it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bittern
from _ptq import check_integers
from _tolerance import assert_exact
from bittern import ptq
from bittern.ptq import Budget, Floor

WIDTHS = (2, 4, 8)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Conv2d(16, 24, 3)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.three(F.relu(self.two(F.relu(self.one(x))))))
        return self.head(x.mean((2, 3)))


def network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    return Net().eval(), torch.randn(48, 3, 9, 9) + torch.randn(48, 3, 1, 1)


def size(made: ptq.QuantizedNetwork) -> int:
    return len(made.pack().to_bytes())


def test_the_file_keeps_the_budget_and_no_other_choice_harms_less() -> None:
    model, images = network()
    least, most = (size(bittern.quantize(model, images, weights=bits)) for bits in (2, 8))
    used = []
    for limit in (most, (most + least) // 2, least + 60):
        made = bittern.quantize(model, images, budget=Budget(bytes=limit, widths=WIDTHS))
        assert made.spent is not None
        used.append(size(made))
        assert used[-1] <= limit
        assert made.spent.used == f"{used[-1]:,} bytes"
        assert {layer.name: layer.bits for layer in made.own_layers()} == made.spent.bits
        assert made.spent.bits == best(made, limit, made.spent.damages)
        check_integers(made, images)
        assert_exact(made.pack()(images), made(images))
    assert used == sorted(used, reverse=True)


def best(made: ptq.QuantizedNetwork, limit: int, damages: Any) -> dict[str, int]:
    """Of all choices whose file, with the header of that choice with the longest table, keeps the limit."""
    twin = made.__deepcopy__({})
    names = [layer.name for layer in twin.own_layers()]
    numbers = {layer.name: layer.weight.numel() for layer in twin.own_layers()}
    twin.set_bits(dict.fromkeys(names, 2))
    rest = size(twin) - sum(2 * -(-numbers[name] // 8) for name in names)
    found = []
    for chosen in itertools.product(WIDTHS, repeat=len(names)):
        bits = dict(zip(names, chosen, strict=True))
        bytes_ = sum(b * -(-numbers[n] // 8) if b < 8 else numbers[n] for n, b in bits.items())
        if rest + bytes_ <= limit:
            found.append((sum(damages[n][b] for n, b in bits.items()), bits))
    return min(found, key=lambda row: row[0])[1]


def test_damages_are_those_of_one_layer_alone() -> None:
    model, images = network()
    made = bittern.quantize(model, images, budget=Budget(bytes=1e6, widths=WIDTHS, samples=48))
    assert made.spent is not None
    with torch.no_grad():
        wanted = model(images)

    def loss(**options: Any) -> float:
        return ptq.noise_to_signal(wanted, bittern.quantize(model, images, **options)(images))

    for name in ("two", "head"):
        damage = loss(layers={name: ptq.Bits(2, 8)}) - loss()
        assert made.spent.damages[name][2] == pytest.approx(damage, rel=1e-3)
        assert made.spent.damages[name][8] == 0.0


def test_layers_that_are_named_keep_their_bits_and_weights_are_the_most() -> None:
    model, images = network()
    fixed = {"one": ptq.Bits(8, 8), "head": ptq.Bits(3, 8)}
    made = bittern.quantize(model, images, weights=4, layers=fixed, budget=Budget(bytes=1e6))
    assert made.spent is not None
    assert made.spent.bits == {"two": 4, "three": 4}
    assert {layer.name: layer.bits for layer in made.own_layers()} == {"one": 8, "two": 4, "three": 4, "head": 3}


def test_a_budget_holds_behind_learned_rounding_too() -> None:
    model, images = network()
    limit = size(bittern.quantize(model, images, weights=4))
    rounding = ptq.QDrop(schedule=ptq.Schedule(iterations=5))
    made = bittern.quantize(
        model, images, inputs=4, budget=Budget(bytes=limit), rounding=rounding, bias_correction=True
    )
    assert size(made) <= limit
    check_integers(made, images)


def test_a_budget_of_time() -> None:
    model, images = network()
    made = bittern.quantize(model, images, budget=Budget(latency_s=1.0, widths=(4, 8)))
    assert made.spent is not None
    assert set(made.spent.bits.values()) == {8}  # all that fits is of no harm
    assert made.spent.limit == "1,000,000.0 us"
    with pytest.raises(ValueError, match=r"keep the budget of 0\.0 us; weights of 4 bits take [\d.,]+ us"):
        bittern.quantize(model, images, budget=Budget(latency_s=1e-9, widths=(4, 8)))


def test_what_cannot_be_kept_is_refused_with_the_least() -> None:
    model, images = network()
    least = size(bittern.quantize(model, images, weights=2))
    with pytest.raises(ValueError, match=rf"budget of 100 bytes; weights of 2 bits take {least:,} bytes"):
        bittern.quantize(model, images, budget=Budget(bytes=100))


def near(model: nn.Module, images: Tensor) -> Callable[[Callable[[Tensor], Tensor]], float]:
    """How near answers are to the float network's: 100 for its own."""
    with torch.no_grad():
        wanted = model(images)
    return lambda own: 100.0 - 100.0 * ptq.noise_to_signal(wanted, own(images) + 1e-9)


def test_a_floor_that_is_kept_stands_in_the_report() -> None:
    model, images = network()
    least = size(bittern.quantize(model, images, weights=2))
    model.train()
    floor = Floor(near(model, images), 5.0)
    made = bittern.quantize(model, images, budget=Budget(bytes=2 * least), floor=floor)
    assert model.training
    assert made.spent is not None
    assert made.spent.float_score == pytest.approx(100.0)
    assert made.spent.score is not None
    assert made.spent.score > 95.0
    text, page = str(made.report), made.report.html()
    assert f"budget: {size(made):,} bytes of {2 * least:,} bytes; metric {made.spent.score:g}, in float 100" in text
    assert "Bits within the budget" in page
    assert '<th scope="col" class="n">at 5</th>' in page


def test_a_floor_that_is_not_kept_is_refused_with_the_best() -> None:
    model, images = network()
    least = size(bittern.quantize(model, images, weights=2))
    with pytest.raises(
        ValueError, match=r"within [\d,]+ bytes keep the floor 99\.99\d* .*the best that fit have .*one 2,"
    ):
        bittern.quantize(model, images, budget=Budget(bytes=least + 8), floor=Floor(near(model, images), 0.001))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "must have bytes or latency_s"),
        ({"bytes": 1e3, "latency_s": 1.0}, "one of them"),
        ({"bytes": -1.0}, "above 0"),
        ({"latency_s": float("nan")}, "above 0"),
        ({"bytes": 1e3, "widths": ()}, "must have widths"),
        ({"bytes": 1e3, "widths": (1,)}, "Budget: widths: bits must be an integer from 2 to 8"),
        ({"bytes": 1e3, "samples": 0}, "at least 1 sample"),
        ({"latency_s": 1.0, "reserved_bytes": 5}, "reserved_bytes are of bytes"),
    ],
)
def test_budgets_that_are_none(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Budget(**options)


def test_what_leaves_nothing_to_choose() -> None:
    model, images = network()
    with pytest.raises(ValueError, match=r"its widths \(4,\) leave none of at most 3 bits"):
        bittern.quantize(model, images, weights=3, budget=Budget(bytes=1e6, widths=(4,)))
    with pytest.raises(ValueError, match="layers= says all bits"):
        bittern.quantize(model, images, layers={"*": ptq.Bits()}, budget=Budget(bytes=1e6))
    with pytest.raises(ValueError, match="a floor says what a budget must leave"):
        bittern.quantize(model, images, floor=Floor(lambda own: 1.0, 1.0))
    with pytest.raises(ValueError, match="points must be at least 0"):
        Floor(lambda own: 1.0, -1.0)
    with pytest.raises(ValueError, match="the metric must be finite"):
        bittern.quantize(model, images, budget=Budget(bytes=1e6), floor=Floor(lambda own: float("nan"), 1.0))
