# SPDX-License-Identifier: Apache-2.0
"""Going through a network layer by layer, the float one and the quantized one side by side, to better its biases.

Each layer sees what the network quantized so far gives it, and what the float network's layer answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.interpreter import step_of
from bittern.deploy.liveness import of_nodes, released_after
from bittern.deploy.program import Node
from bittern.ptq.bias_correction import empirical_correction
from bittern.ptq.network import QuantizedLayer, QuantizedNetwork
from bittern.ptq.numbers import has_products, with_numbers, with_products
from bittern.ptq.plan import Unit
from bittern.ptq.products import Product

CPU = torch.device("cpu")


class Place(NamedTuple):
    """One product of a network, while it is decided."""

    unit: Unit
    layer: QuantizedLayer
    apply: Callable[[Product, Tensor], Tensor]
    """(numbers, input) -> result before the limits."""
    inputs: Tensor
    """Of all samples, as the quantized network has them."""
    wanted: Tensor
    """The float layer's result for its own inputs, before the limits."""


Rule = Callable[[Place], None]
"""Sets the numbers of the layer anew."""


def layer_by_layer(network: QuantizedNetwork, batches: Sequence[Sequence[Tensor]], rule: Rule) -> None:
    """Show each product to a rule, in the order of the network, behind what the rule made of those before."""
    facts, layers = network.facts, {layer.name: layer for layer in network.own_layers()}
    units = {node.output: unit for unit in network.units for node in (unit.node, *unit.fused)}
    rounded = {layer.name: _rounded(layer) for layer in network.own_layers() if layer.node != layer.name}
    real: dict[int, list[Any]] = {value: [b[value] for b in batches] for value in range(len(facts.program.inputs))}
    own = dict(real)
    gone = released_after(of_nodes(facts.program.nodes), facts.program.output, len(facts.program.inputs))
    for node, released in zip(facts.program.nodes, gone, strict=True):
        unit = units.get(node.output)
        if unit is not None and unit.reason is not None:
            unit = None
        snapped = unit is not None and unit.node is node
        inputs = [_on_grid(network, v, own[v]) if snapped else own[v] for v in node.inputs]
        real[node.output] = _each(step_of(node, facts.tensors, CPU), [real[v] for v in node.inputs])
        layer = layers.get(node.name)
        if layer is None:
            numbers = node, facts.tensors
            if has_products(node, rounded):
                numbers = with_products(node, facts.tensors, rounded)
            own[node.output] = _each(step_of(*numbers, CPU), inputs)
        else:
            assert unit is not None
            apply = _applied(node, facts.tensors)
            rule(Place(unit, layer, apply, torch.cat(inputs[0]), torch.cat(real[node.output])))
            own[node.output] = [apply(_rounded(layer), x) for x in inputs[0]]
        if unit is not None and unit.output == node.output:
            own[node.output] = _on_grid(network, node.output, own[node.output])
        for value in released:
            del real[value], own[value]


def _each(step: Callable[..., Any], inputs: Sequence[Sequence[Any]]) -> list[Any]:
    return [step(*given) for given in zip(*inputs, strict=True)]


def _on_grid(network: QuantizedNetwork, value: int, batches: Sequence[Tensor]) -> list[Tensor]:
    grid = network.grids[value]
    return [grid.reals(grid.integers(x)) for x in batches]


def _applied(node: Node, tensors: Mapping[str, Tensor]) -> Callable[[Product, Tensor], Tensor]:
    def apply(product: Product, x: Tensor) -> Tensor:
        found: Tensor = step_of(*with_numbers(node, tensors, product), CPU)(x)
        return found

    return apply


def _rounded(layer: QuantizedLayer) -> Product:
    with torch.no_grad():
        return Product(*(part.detach() for part in layer.rounded()))


def correct_bias(place: Place) -> None:
    """A rule: the bias takes back by how much rounding shifted the mean of each channel (`bias_correction`)."""
    found = place.apply(_rounded(place.layer), place.inputs)
    axis = -1 if place.unit.node.kind == "linear" else 1
    with torch.no_grad():
        place.layer.bias.add_(empirical_correction(place.wanted, found, axis=axis))
