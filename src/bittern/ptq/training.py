# SPDX-License-Identifier: Apache-2.0
"""What a quantized network computes while it trains: the very numbers of its integers, with straight-through gradients.

The integer program runs beside the network of real nodes. Each real value takes the number of its integer, and passes
its gradient on as if nothing had been rounded; where a number lies beyond its grid there is no gradient (Bengio et al.,
arXiv:1308.3432; Jacob et al., arXiv:1712.05877, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.interpreter import step_of
from bittern.deploy.program import Node
from bittern.ptq.fold import is_transposed, transposed_arguments
from bittern.ptq.grid import Grid
from bittern.ptq.plan import Facts, Unit
from bittern.ptq.products import Product, turned_back
from bittern.ptq.rewrite import Written
from bittern.ptq.steps import weight_limits
from bittern.ptq.writer import Weights

CPU = torch.device("cpu")


def integers_of(written: Written, inputs: Sequence[Tensor]) -> dict[int, Tensor]:
    """The int8 twin of each value of the network that has one, by the number of the value."""
    wanted = {twin: value for value, twin in written.integers.items()}
    found: dict[int, Tensor] = {}
    values: dict[int, Any] = dict(enumerate(inputs))
    with torch.no_grad():
        for node in written.program.nodes:
            values[node.output] = step_of(node, written.tensors, CPU)(*(values[v] for v in node.inputs))
            if node.output in wanted:
                found[wanted[node.output]] = values[node.output]
    return found | {value: values[twin] for value, twin in written.integers.items() if value not in found}


def trained_forward(
    facts: Facts,
    units: Sequence[Unit],
    grids: Mapping[int, Grid],
    written: Written,
    products: Mapping[str, Product],
    inputs: Sequence[Tensor],
) -> Any:
    """The answer of the network, through which gradients reach the products' numbers, by the name of their node."""
    integers = integers_of(written, [x.detach() for x in inputs])
    by_node = {node.output: unit for unit in units for node in (unit.node, *unit.fused)}
    values: dict[int, Any] = dict(enumerate(inputs))
    snapped: dict[int, Tensor] = {}

    def read(value: int, as_integer: bool) -> Any:
        if not as_integer:
            return values[value]
        if value not in snapped:
            snapped[value] = on_grid(values[value], grids[value], integers[value])
        return snapped[value]

    for node in facts.program.nodes:
        unit = by_node.get(node.output)
        integer = unit is not None and unit.reason is None and unit.node is node
        given = [read(value, integer) for value in node.inputs]
        tensors = facts.tensors
        if node.name in products:
            node, tensors = with_numbers(node, tensors, products[node.name])
        y = step_of(node, tensors, CPU)(*given)
        if unit is not None and unit.reason is None and unit.output == node.output:
            y = snapped[node.output] = on_grid(y, grids[node.output], integers[node.output])
        values[node.output] = y
    return values[facts.program.output]


def on_grid(x: Tensor, grid: Grid, integers: Tensor) -> Tensor:
    """The real numbers of integers, with the gradient of x where it lies within the grid."""
    low, high = grid.range
    inside = x.clamp(low, high)
    return inside + (grid.reals(integers) - inside).detach()


def with_numbers(node: Node, tensors: Mapping[str, Tensor], product: Product) -> tuple[Node, Mapping[str, Tensor]]:
    """A node with other numbers."""
    named = {role: tensors[name] for role, name in node.tensors.items()}
    roles: tuple[str, ...] = ("weight", "bias")
    weight = product.weight
    if is_transposed(node):
        given = transposed_arguments(node)
        assert given is not None
        roles = tuple(given[role]["tensor"] for role in roles)
        weight = turned_back(weight, given["groups"])
    named |= {roles[0]: weight, roles[1]: product.bias}
    own = {f"{node.name}.{role}": tensor for role, tensor in named.items()}
    return node.with_tensors(**{role: f"{node.name}.{role}" for role in named}), own


def on_weight_grid(product: Product, weights: Weights, x: Grid, bits: int) -> Product:
    """The real numbers of integer weights and biases, with the gradients of the latent ones within their grid."""
    most = weight_limits(bits).most
    shape = (-1, *(1,) * (product.weight.ndim - 1))
    scales = weights.scales.view(shape)
    ends = (scales * most).float()
    inside = torch.minimum(torch.maximum(product.weight, -ends), ends)
    weight = inside + ((weights.integers.double() * scales).float() - inside).detach()
    real = (weights.bias.double() * weights.scales * x.scale).float()
    return Product(weight, product.bias + (real - product.bias).detach())
