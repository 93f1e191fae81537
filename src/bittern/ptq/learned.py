# SPDX-License-Identifier: Apache-2.0
"""Learned rounding of a quantized network: layer after layer, from what the integers before it give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.interpreter import step_of
from bittern.deploy.program import Program
from bittern.ptq.adaround import NAME, adaround
from bittern.ptq.network import QuantizedLayer, QuantizedNetwork
from bittern.ptq.plan import Facts, Unit
from bittern.ptq.products import Product
from bittern.ptq.reconstruct import Schedule
from bittern.ptq.rewrite import Written
from bittern.ptq.soft_rounding import Weight
from bittern.ptq.training import with_numbers

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class AdaRound:
    """The rounding of `bittern.quantize` that learns for each weight whether it goes up or down (arXiv:2004.10568).

    A layer is to give what the float network's gives, limits behind it included, where it reads what the integers of
    the layers before give. Steps stay as they are, and so do biases.
    """

    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0
    progress: Callable[[str, float, float], None] | None = None
    """Called with each layer's name, and its mean squared error with weights rounded to the nearest and as learned."""


def learn_rounding(network: QuantizedNetwork, batches: Sequence[Sequence[Tensor]], rounding: AdaRound) -> None:
    """Give every layer of a network the latent numbers that round as AdaRound says; in place.

    batches: the inputs of the network's program, all of which each layer learns from.
    """
    units = {unit.node.name: unit for unit in network.units}
    for layer in network.layers:
        assert isinstance(layer, QuantizedLayer)
        _learn(network, layer, units[layer.name], batches, rounding)


def _learn(
    network: QuantizedNetwork,
    layer: QuantizedLayer,
    unit: Unit,
    batches: Sequence[Sequence[Tensor]],
    rounding: AdaRound,
) -> None:
    facts, written = network.facts, network.written()
    (source,) = unit.node.inputs
    read, wanted = [], []
    for inputs in batches:
        read.append(layer.x.reals(_integers(written, inputs, source)))
        wanted.append(_value(facts.program, facts.tensors, inputs, unit.output))
    weight = Weight(layer.weight.detach(), layer.scales.float(), layer.bits)

    def run(w: Tensor, x: Tensor) -> Tensor:
        return _run(facts, unit, Product(w, None if layer.bias is None else layer.bias.detach()), x)

    found = adaround(run, weight, torch.cat(read), torch.cat(wanted), schedule=rounding.schedule, seed=rounding.seed)
    with torch.no_grad():
        layer.weight.copy_(found.codes[NAME].double() * weight.along().double())
    if rounding.progress is not None:
        rounding.progress(layer.name, found.nearest_error, found.error)


def _run(facts: Facts, unit: Unit, product: Product, x: Tensor) -> Tensor:
    """A product with other numbers, and the limits behind it."""
    node, tensors = with_numbers(unit.node, facts.tensors, product)
    y: Tensor = step_of(node, tensors, CPU)(x)
    for limit in unit.fused:
        y = step_of(limit, facts.tensors, CPU)(y)
    return y


def _integers(written: Written, inputs: Sequence[Tensor], value: int) -> Tensor:
    """The int8 twin of a value of the network."""
    return _value(written.program, written.tensors, inputs, written.integers[value])


def _value(program: Program, tensors: Mapping[str, Tensor], inputs: Sequence[Tensor], value: int) -> Tensor:
    """One value of a program; what comes behind it is not computed."""
    values: dict[int, Any] = dict(enumerate(inputs))
    with torch.no_grad():
        for node in program.nodes:
            if value in values:
                break
            values[node.output] = step_of(node, tensors, CPU)(*(values[v] for v in node.inputs))
    found: Tensor = values[value]
    return found
