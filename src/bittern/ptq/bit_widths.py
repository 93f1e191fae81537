# SPDX-License-Identifier: Apache-2.0
"""A bit width for each layer: the choice of least damage within a budget, found exactly.

    least sum_l damage[l, b_l]    so that sum_l cost[l, b_l] <= budget        one b_l for each layer l

and the same with both exchanged: the least cost whose damage is at most a limit. Layers are taken one after the other;
of all choices so far those are kept that no other beats in cost and damage (dynamic programming over that frontier),
and that can still be better than a choice known to be allowed. What the layers to come must at least add is bounded by
Lagrange's function, sum_l min_b (damage + lambda cost) - lambda (budget left), which holds for every lambda >= 0. All
sums are of whole numbers, so that none depends on the order of its terms.

Costs are whatever the caller counts: bytes, or MAC * bits. Damages of layers are taken to add up, as they about do
while they are small; `sensitivity` measures them one layer at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

Table = Mapping[str, Mapping[int, float]]
"""layer -> bits -> a number of at least 0."""
ROUNDS = 40
"""Bisections of lambda."""


class Choice(NamedTuple):
    """A bit width for each layer, and what the tables say of it."""

    bits: dict[str, int]
    cost: float
    damage: float


class _Option(NamedTuple):
    bits: int
    wanted: int
    """What is made small, in units that hold every number of the table exactly, as are those of `limited`."""
    limited: int
    """What has a limit."""


class _State(NamedTuple):
    wanted: int
    limited: int
    before: _State | None
    bits: int


def choose_bits(
    costs: Table, damages: Table, *, budget: float | None = None, most_damage: float | None = None
) -> Choice:
    """The choice of least damage within the budget; without a budget, that of least cost within `most_damage`.

    With both, the least damage within the budget, which must not be above `most_damage`: the floor of accuracy.
    Raises: ValueError for tables that name other layers or widths than each other, or hold numbers below 0, NaN or
    infinity; for neither limit; and where no choice keeps them, with the nearest that there is.
    """
    _check(costs, damages)
    if budget is None and most_damage is None:
        raise ValueError("choose_bits: must have a budget, a most_damage, or both; got neither")
    if budget is None:
        assert most_damage is not None
        bits = _solve(costs, damages, most_damage, "damage")
    else:
        bits = _solve(damages, costs, budget, "cost")
    found = Choice(bits, _total(costs, bits), _total(damages, bits))
    if most_damage is not None and found.damage > most_damage:
        raise ValueError(
            f"choose_bits: no choice within the budget {budget!r} has a damage of at most {most_damage!r}; "
            f"the least is {found.damage!r}, at cost {found.cost!r}"
        )
    return found


def _total(table: Table, bits: Mapping[str, int]) -> float:
    return math.fsum(table[layer][width] for layer, width in bits.items())


def _solve(wanted: Table, limited: Table, limit: float, what: str) -> dict[str, int]:
    least = math.fsum(min(row.values()) for row in limited.values())
    if not least <= limit:
        raise ValueError(f"choose_bits: every choice has a {what} above {limit!r}; the least is {least!r}")
    units = _unit(wanted), _unit(limited)
    layers = [_options(wanted[name], limited[name], units) for name in wanted]
    # whatever rounds to the limit as a float keeps it
    most = math.floor((Fraction(limit) + Fraction(math.ulp(limit)) / 2) * units[1])
    weight, best = _multiplier(layers, most)
    rest = [0]
    for options in reversed(layers):
        rest.append(rest[-1] + min(weight.denominator * o.wanted + weight.numerator * o.limited for o in options))
    rest.reverse()
    states = [_State(0, 0, None, 0)]
    for i, options in enumerate(layers):
        # the bound times the multiplier's denominator: wanted + rest - lambda (most - limited) <= best
        ceiling = weight.denominator * best + weight.numerator * most - rest[i + 1]
        grown = [_State(s.wanted + o.wanted, s.limited + o.limited, s, o.bits) for s in states for o in options]
        possible = [s for s in grown if weight.denominator * s.wanted + weight.numerator * s.limited <= ceiling]
        states = _frontier([s for s in possible if s.limited <= most])
    return dict(zip(wanted, _bits(states[-1]), strict=True))


def _options(wanted: Mapping[int, float], limited: Mapping[int, float], units: tuple[int, int]) -> list[_Option]:
    return [_Option(bits, _whole(wanted[bits], units[0]), _whole(limited[bits], units[1])) for bits in sorted(wanted)]


def _unit(table: Table) -> int:
    """The least power of two times which every number is whole."""
    return max(float(number).as_integer_ratio()[1] for row in table.values() for number in row.values())


def _whole(number: float, unit: int) -> int:
    top, bottom = float(number).as_integer_ratio()
    return top * (unit // bottom)


def _bits(state: _State) -> list[int]:
    found = []
    while state.before is not None:
        found.append(state.bits)
        state = state.before
    return found[::-1]


def _frontier(states: list[_State]) -> list[_State]:
    """Those that no other beats in both, from the least `limited` on; of equal ones the first."""
    kept: list[_State] = []
    for state in sorted(states, key=lambda s: (s.limited, s.wanted)):
        if not kept or state.wanted < kept[-1].wanted:
            kept.append(state)
    return kept


def _multiplier(layers: list[list[_Option]], most: int) -> tuple[Fraction, int]:
    """A lambda whose bound is sharp, and what a choice that keeps the limit adds up to."""

    def chosen(weight: Fraction) -> list[_Option]:
        n, d = weight.numerator, weight.denominator
        return [min(options, key=lambda o: (d * o.wanted + n * o.limited, o.limited)) for options in layers]

    def limited(options: list[_Option]) -> int:
        return sum(o.limited for o in options)

    low, high = Fraction(0), Fraction(1)
    while limited(chosen(high)) > most:
        low, high = high, high * 8
    for _ in range(ROUNDS):
        middle = (low + high) / 2 if low else high / 8
        low, high = (low, middle) if limited(chosen(middle)) <= most else (middle, high)
    return high, sum(o.wanted for o in _filled(layers, chosen(high), most))


def _filled(layers: list[list[_Option]], options: list[_Option], most: int) -> list[_Option]:
    """A choice that keeps the limit, bettered layer by layer as long as room is left."""
    room = most - sum(o.limited for o in options)
    found = list(options)
    for i, every in enumerate(layers):
        better = min((o for o in every if o.limited <= found[i].limited + room), key=lambda o: o.wanted)
        if better.wanted < found[i].wanted:
            room -= better.limited - found[i].limited
            found[i] = better
    return found


def _check(costs: Table, damages: Table) -> None:
    if not costs or costs.keys() != damages.keys():
        raise ValueError(f"choose_bits: both tables must have the same layers; got {list(costs)} and {list(damages)}")
    for name in costs:
        if not costs[name] or costs[name].keys() != damages[name].keys():
            widths = f"{sorted(costs[name])} and {sorted(damages[name])}"
            raise ValueError(f"choose_bits: layer {name!r} must have the same bits in both tables; got {widths}")
        for what, table in (("cost", costs[name]), ("damage", damages[name])):
            for bits, number in table.items():
                if not (math.isfinite(number) and number >= 0):
                    where = f"layer {name!r} at {bits} bits"
                    raise ValueError(f"choose_bits: a {what} must be finite and at least 0; got {number!r} of {where}")


def ristretto_bits(
    kinds: Sequence[str],
    score: Callable[[Mapping[str, int]], float],
    *,
    margin: float,
    widths: Sequence[int] = (16, 8, 4, 2, 1),
) -> dict[str, int]:
    """Ristretto's search: for each kind of number alone the least width whose score is within the margin.

    kinds: such as ("convolutions", "linear layers", "inputs"). score: of the network where the kinds given have these
    bits, and all others are real; higher is better, and score({}) is the real network's. Widths are tried from the
    largest on, until one falls below. What all of them do together is for the caller to see: Ristretto fine-tunes.
    Raises: ValueError where the largest width already falls below, for a negative margin and no widths.
    Source: Gysel et al., Ristretto, arXiv:1604.03168.
    """
    if not (margin >= 0 and widths):
        got = f"{margin!r}, {list(widths)}"
        raise ValueError(f"ristretto_bits: must have a margin of at least 0, and widths; got {got}")
    floor = score({}) - margin
    found: dict[str, int] = {}
    for kind in kinds:
        for width in sorted(widths, reverse=True):
            if not score({kind: width}) >= floor:
                break
            found[kind] = width
        if kind not in found:
            raise ValueError(f"ristretto_bits: {kind} of {max(widths)} bits lose more than {margin!r}; give wider ones")
    return found
