# SPDX-License-Identifier: Apache-2.0
"""Bits of the weights of each layer within a budget of the whole network, and a floor under its quality.

    damage(l, b)   of layer l with weights of b bits: sum (y - q)^2 / sum y^2 over all answers, y the float network's
                   and q those of the network in which that layer alone has b bits and all others the most; less what
                   it is where all have the most
    cost(l, b)     bytes of its weight in the file, exactly, or the measured time of its native step
    choice         the one of least damage whose costs keep what the rest of the network leaves (`bit_widths`)

Damages are taken to add up; the report says what the choice does as a whole, and the floor asks that.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bittern.deploy.bit_stream import stream_bytes
from bittern.deploy.export_arguments import samples_for
from bittern.deploy.kinds.integer.products import BYTE_BITS
from bittern.deploy.packed import Packed
from bittern.ptq.bit_widths import choose_bits
from bittern.ptq.network import QuantizedNetwork
from bittern.ptq.report import Spent
from bittern.ptq.sensitivity import sensitivities
from bittern.ptq.steps import check_bits
from bittern.ptq.values import answers_of, values_of

REPEATS = 25
"""Runs of one sample, whose median counts."""
ROUNDS = 8
"""Choices until the file, whose table grows with the number of layers of few bits, keeps its budget."""
MOST_DIGITS = 24
"""Characters of a float in JSON."""
US = 1e6


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a network of integers may take.

    bytes: of the packed file, as `pack` without notes on classes and images writes it. latency_s: of a call with one
    sample on the CPU, with the threads that torch has now. One of both. widths: bits that weights may have. samples: of
    the calibration data, on which layers are tried. reserved_bytes: of the file, for notes that are added to it later.
    Raises: ValueError for both or neither, a limit that is not above 0, and widths outside 2 ... 8.
    """

    bytes: float | None = None
    latency_s: float | None = None
    widths: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    samples: int = 64
    reserved_bytes: int = 0

    def __post_init__(self) -> None:
        limits = [limit for limit in (self.bytes, self.latency_s) if limit is not None]
        if len(limits) != 1 or not (math.isfinite(limits[0]) and limits[0] > 0):
            got = f"bytes={self.bytes!r}, latency_s={self.latency_s!r}"
            raise ValueError(f"Budget: must have bytes or latency_s, one of them, above 0; got {got}")
        if not self.widths or self.samples < 1:
            raise ValueError(f"Budget: must have widths and at least 1 sample; got {self.widths}, {self.samples}")
        if self.reserved_bytes < 0 or (self.reserved_bytes and self.bytes is None):
            raise ValueError(f"Budget: reserved_bytes are of bytes, and at least 0; got {self.reserved_bytes!r}")
        for bits in self.widths:
            check_bits("Budget: widths", bits)


@dataclass(frozen=True)
class Floor:
    """The least that a network of integers must be worth.

    metric: called with the float model, and with the network of integers, each called as the model is -> how good it
    is, higher being better, on data of its own. points: how far the network of integers may lie below.
    Raises: ValueError for points below 0, NaN or infinity.
    """

    metric: Callable[[Callable[..., Any]], float]
    points: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.points) and self.points >= 0):
            raise ValueError(f"Floor: points must be at least 0; got {self.points!r}")


def spend(
    network: QuantizedNetwork,
    batches: Sequence[Sequence[Tensor]],
    budget: Budget,
    free: Iterable[str],
    most: int,
    learns: bool,
) -> Spent:
    """Give the layers `free` those bits, at most `most`, that keep the budget; in place.

    learns: whether scales, which the program of a file holds as text, are learned behind it.
    Raises: ValueError where the budget has no widths of at most `most` bits, or cannot be kept, with the least.
    """
    names = tuple(free)
    widths = sorted({bits for bits in budget.widths if bits <= most})
    if not widths or not names:
        what = f"its widths {budget.widths} leave none of at most {most} bits" if names else "layers= says all bits"
        raise ValueError(f"quantize: budget: {what}, so there is nothing to choose")
    reserved = budget.reserved_bytes + (_text_bytes(network) if learns else 0)
    if budget.bytes is not None:
        costs, limit = _bytes(network, names, widths), budget.bytes
        network.set_bits(dict.fromkeys(names, widths[0]))
        rest = _file_bytes(network) + reserved - math.fsum(row[widths[0]] for row in costs.values())
    else:
        assert budget.latency_s is not None
        limit = budget.latency_s * US
        costs, rest = _times_us(network, names, widths)
    damages = _damages(network, _first(batches, network, budget.samples), names, widths)
    for _ in range(ROUNDS):
        least = rest + math.fsum(min(row.values()) for row in costs.values())
        if least > limit:
            raise ValueError(
                f"quantize: no bit widths keep the budget of {_said(budget, limit)}; weights of {widths[0]} bits take "
                f"{_said(budget, least)}, of which {_said(budget, rest)} are no weights that may be chosen"
            )
        choice = choose_bits(costs, damages, budget=limit - rest)
        network.set_bits(choice.bits)
        used = float(_file_bytes(network) + reserved if budget.bytes is not None else _latency_us(network.pack()))
        if budget.bytes is None or used <= limit:
            break
        rest += used - limit
    return Spent(_said(budget, limit), _said(budget, used), choice.bits, damages)


def check_floor(
    network: QuantizedNetwork, model: nn.Module | Packed, floor: Floor, spent: Spent
) -> tuple[float, float]:
    """What the metric gives for the network, and for the float model.

    Raises: ValueError where the network lies below the floor, with the bits that the budget allows.
    """
    wanted, found = _float_metric(model, floor), float(floor.metric(network))
    if not (math.isfinite(wanted) and math.isfinite(found)):
        raise ValueError(f"quantize: floor: the metric must be finite; got {wanted!r} in float, {found!r} in integers")
    if found < wanted - floor.points:
        bits = ", ".join(f"{name} {count}" for name, count in spent.bits.items())
        raise ValueError(
            f"quantize: no bit widths within {spent.limit} keep the floor {wanted - floor.points:g} (float {wanted:g}, "
            f"less {floor.points:g}); the best that fit have {found:g}, with {spent.used}: {bits}; give a larger "
            "budget, a lower floor, or learn the rounding"
        )
    return found, wanted


def _float_metric(model: nn.Module | Packed, floor: Floor) -> float:
    """Of the model as it is quantized: in eval mode, and left as it was."""
    if isinstance(model, Packed):
        return float(floor.metric(model))
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            return float(floor.metric(model))
    finally:
        for module, training in modes:
            module.training = training


def _said(budget: Budget, number: float) -> str:
    return f"{number:,.0f} bytes" if budget.bytes is not None else f"{number:,.1f} us"


def _bytes(network: QuantizedNetwork, names: Sequence[str], widths: Sequence[int]) -> dict[str, dict[int, float]]:
    """Of each weight in the file."""
    numbers = {layer.name: layer.weight.numel() for layer in network.own_layers()}
    return {
        name: {b: float(b * stream_bytes(numbers[name]) if b < BYTE_BITS else numbers[name]) for b in widths}
        for name in names
    }


def _text_bytes(network: QuantizedNetwork) -> int:
    """By how much the text of scales may grow."""
    return MOST_DIGITS * sum("scale" in node.attrs for node in network.written().program.nodes)


def _file_bytes(network: QuantizedNetwork) -> int:
    return len(network.pack().to_bytes())


def _times_us(
    network: QuantizedNetwork, names: Sequence[str], widths: Sequence[int]
) -> tuple[dict[str, dict[int, float]], float]:
    """The native step of each layer at each width, and all else of a call."""
    found: dict[str, dict[int, float]] = {name: {} for name in names}
    rest = 0.0
    for bits in widths:
        network.set_bits(dict.fromkeys(names, bits))
        packed = network.pack()
        outputs = {node.output: node.name for node in packed.program.nodes if "multiplier" in node.tensors}
        for group, time_us in packed.engine.profile(*_sample(packed), repeats=REPEATS):
            for name in {outputs.get(value) for value in group.nodes}:
                if name in found:
                    found[name][bits] = found[name].get(bits, 0.0) + time_us
        rest = _latency_us(packed) - math.fsum(row[bits] for row in found.values())
    return found, max(rest, 0.0)


def _sample(packed: Packed) -> list[Tensor]:
    return [torch.randn_like(x) if x.is_floating_point() else x for x in samples_for(packed.program, 1)]


def _latency_us(packed: Packed) -> float:
    """The median of a call with one sample."""
    inputs, times = _sample(packed), []
    for _ in range(REPEATS):
        began = time.perf_counter()
        packed.engine(*inputs)
        times.append((time.perf_counter() - began) * US)
    return statistics.median(times)


def _first(batches: Sequence[Sequence[Tensor]], network: QuantizedNetwork, samples: int) -> list[Sequence[Tensor]]:
    """The first batches that together have so many samples."""
    found: list[Sequence[Tensor]] = []
    for inputs in batches:
        if samples > 0:
            found.append(inputs)
        samples -= network.facts.program.batch_of(inputs)
    return found


def _damages(
    network: QuantizedNetwork, batches: Sequence[Sequence[Tensor]], names: Sequence[str], widths: Sequence[int]
) -> dict[str, dict[int, float]]:
    """Of each layer at each width."""
    facts, most = network.facts, widths[-1]
    wanted = _real(values_of(facts.program, facts.tensors, batches, answers_of(facts.program)))
    signal = math.fsum(float(y.double().square().sum()) for y in wanted)
    if not signal > 0:
        raise ValueError("quantize: budget: the float network answers zeros alone on the calibration data; give others")
    network.set_bits(dict.fromkeys(names, most))

    def noise() -> float:
        written = network.written()
        found = _real(values_of(written.program, written.tensors, batches, answers_of(written.program)))
        differences = (float((y.double() - q.double()).square().sum()) for y, q in zip(wanted, found, strict=True))
        return math.fsum(differences) / signal

    least = noise()

    def damage(bits: Mapping[str, int]) -> float:
        network.set_bits(bits)
        found = noise() - least
        network.set_bits(dict.fromkeys(bits, most))
        return found

    found = sensitivities(names, widths[:-1], damage)
    return {name: {**row, most: 0.0} for name, row in found.items()}


def _real(values: Sequence[Sequence[Any]]) -> list[Tensor]:
    """All batches of all answers that are real numbers."""
    return [y for batches in values for y in batches if y.is_floating_point()]
