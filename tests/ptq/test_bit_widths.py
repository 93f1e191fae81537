# SPDX-License-Identifier: Apache-2.0
"""Bit widths against every choice there is, Ristretto's search, and what sensitivity says of a layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import pytest
import torch

from bittern.ptq.bit_widths import Choice, choose_bits, ristretto_bits
from bittern.ptq.sensitivity import noise_to_signal, sensitivities, signal_to_noise_db

Tables = tuple[dict[str, dict[int, float]], dict[str, dict[int, float]]]


def _tables(layers: int, seed: int, whole: bool) -> Tables:
    random = torch.Generator().manual_seed(seed)
    costs: dict[str, dict[int, float]] = {}
    damages: dict[str, dict[int, float]] = {}
    for i in range(layers):
        size = int(torch.randint(1, 200, (), generator=random))
        noise = float(torch.rand((), generator=random)) ** 4
        widths = (2, 3, 4, 8) if i % 3 else (4, 8)
        costs[f"l{i}"] = {b: float(size * b) for b in widths}
        damages[f"l{i}"] = {b: round(noise * 4.0**-b, 4) if whole else noise * 4.0**-b for b in widths}
    return costs, damages


def _all_choices(costs: Mapping[str, Mapping[int, float]], damages: Mapping[str, Mapping[int, float]]) -> list[Choice]:
    found = []
    for widths in itertools.product(*(sorted(costs[name]) for name in costs)):
        bits = dict(zip(costs, widths, strict=True))
        found.append(
            Choice(
                bits, math.fsum(costs[n][b] for n, b in bits.items()), math.fsum(damages[n][b] for n, b in bits.items())
            )
        )
    return found


@pytest.mark.parametrize("whole", [False, True], ids=["any", "ties"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_choice_is_better(seed: int, whole: bool) -> None:
    costs, damages = _tables(6, seed, whole)
    every = _all_choices(costs, damages)
    for share in (0.0, 0.1, 0.37, 0.8, 1.0):
        low, high = min(c.cost for c in every), max(c.cost for c in every)
        budget = low + share * (high - low)
        found = choose_bits(costs, damages, budget=budget)
        assert found.cost <= budget
        assert found.damage <= min(c.damage for c in every if c.cost <= budget)
        low, high = min(c.damage for c in every), max(c.damage for c in every)
        limit = low + share * (high - low)
        cheap = choose_bits(costs, damages, most_damage=limit)
        assert cheap.damage <= limit
        assert cheap.cost <= min(c.cost for c in every if c.damage <= limit)


def test_many_layers_take_little_time_and_keep_the_budget() -> None:
    costs, damages = _tables(60, 5, whole=False)
    budget = 0.5 * sum(max(row.values()) for row in costs.values())
    found = choose_bits(costs, damages, budget=budget)
    assert found.cost <= budget
    again = choose_bits(costs, damages, most_damage=found.damage)
    assert again.cost <= found.cost
    assert again.damage <= found.damage


def test_limits_that_cannot_be_kept() -> None:
    costs = {"a": {4: 10.0, 8: 20.0}, "b": {4: 1.0, 8: 2.0}}
    damages = {"a": {4: 0.5, 8: 0.0}, "b": {4: 0.25, 8: 0.0}}
    assert choose_bits(costs, damages, budget=21) == Choice({"a": 8, "b": 4}, 21.0, 0.25)
    assert choose_bits(costs, damages, budget=21, most_damage=0.25).bits == {"a": 8, "b": 4}
    assert choose_bits(costs, damages, most_damage=0.6).bits == {"a": 4, "b": 8}
    assert choose_bits(costs, damages, most_damage=0.0).bits == {"a": 8, "b": 8}
    for options, match in (
        ({"budget": 10.0}, "above 10.0; the least is 11.0"),
        ({"budget": 21.0, "most_damage": 0.2}, "the least is 0.25"),
        ({"budget": math.nan}, "above nan"),
        ({}, "got neither"),
    ):
        with pytest.raises(ValueError, match=match):
            choose_bits(costs, damages, **options)
    for wrong, match in (
        ({"a": costs["a"]}, "same layers"),
        ({"a": {4: 10.0}, "b": costs["b"]}, "same bits"),
        ({"a": {4: -1.0, 8: 1.0}, "b": costs["b"]}, "at least 0; got -1.0 of layer 'a' at 4 bits"),
        ({"a": {4: 1.0, 8: math.inf}, "b": costs["b"]}, "finite"),
    ):
        with pytest.raises(ValueError, match=match):
            choose_bits(wrong, damages, budget=100)


def test_ristretto_takes_the_least_width_of_each_kind() -> None:
    lost = {
        "convolutions": {16: 0.0, 8: 0.4, 4: 5.0, 2: 0.5, 1: 50.0},
        "inputs": {16: 0.0, 8: 0.1, 4: 0.9, 2: 9.0, 1: 50.0},
    }
    asked = []

    def score(bits: Mapping[str, int]) -> float:
        asked.append(dict(bits))
        return 70.0 - sum(lost[kind][width] for kind, width in bits.items())

    assert ristretto_bits(("convolutions", "inputs"), score, margin=1.0) == {"convolutions": 8, "inputs": 4}
    assert asked == [{}, *({"convolutions": b} for b in (16, 8, 4)), *({"inputs": b} for b in (16, 8, 4, 2))]
    with pytest.raises(ValueError, match=r"convolutions of 4 bits lose more than 1\.0"):
        ristretto_bits(("convolutions",), score, margin=1.0, widths=(2, 4))
    with pytest.raises(ValueError, match="margin"):
        ristretto_bits(("inputs",), score, margin=-1.0)


def test_sensitivity() -> None:
    wanted = torch.tensor([3.0, 4.0])
    assert signal_to_noise_db(wanted, torch.tensor([3.0, 4.5])) == pytest.approx(20.0)
    assert noise_to_signal(wanted, torch.tensor([3.0, 4.5])) == pytest.approx(0.01)
    assert signal_to_noise_db(wanted, wanted) == math.inf
    assert noise_to_signal(wanted, wanted) == 0.0
    assert signal_to_noise_db(torch.zeros(2), wanted) == -math.inf
    for first, second, match in ((wanted, torch.ones(3), "one shape"), (wanted, wanted * math.nan, "finite")):
        with pytest.raises(ValueError, match=match):
            signal_to_noise_db(first, second)
    with pytest.raises(ValueError, match="zeros"):
        noise_to_signal(torch.zeros(2), wanted)
    seen: list[tuple[str, int, float]] = []
    table = sensitivities(
        ("a", "b"), (4, 8), lambda bits: bits.get("a", 6) - 7.0, progress=lambda *told: seen.append(told)
    )
    assert table == {"a": {4: 0.0, 8: 1.0}, "b": {4: 0.0, 8: 0.0}}
    assert seen[1] == ("a", 8, 1.0)
    with pytest.raises(ValueError, match="'a' at 4 bits"):
        sensitivities(("a",), (4,), lambda bits: math.nan)
