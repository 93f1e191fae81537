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
from bittern.ptq.grid import Grid
from bittern.ptq.numbers import has_products, with_products
from bittern.ptq.plan import Facts, Unit
from bittern.ptq.products import Product
from bittern.ptq.rewrite import Written
from bittern.ptq.steps import weight_limits
from bittern.ptq.writer import Weights

CPU = torch.device("cpu")


def integers_of(written: Written, inputs: Sequence[Tensor], units: Sequence[Unit] = ()) -> dict[int, Tensor]:
    """The int8 twin of each value of the network that has one, by the number of the value.

    units: those of them that give real numbers of integers have these.
    """
    twins = dict(written.integers)
    twins |= {u.output: written.reals[u.output] for u in units if u.reason is None and u.rule.real(u.node)}
    wanted = {twin: value for value, twin in twins.items()}
    found: dict[int, Tensor] = {}
    values: dict[int, Any] = dict(enumerate(inputs))
    with torch.no_grad():
        for node in written.program.nodes:
            values[node.output] = step_of(node, written.tensors, CPU)(*(values[v] for v in node.inputs))
            if node.output in wanted:
                found[wanted[node.output]] = values[node.output]
    return found | {value: values[twin] for value, twin in twins.items() if value not in found}


def trained_forward(
    facts: Facts,
    units: Sequence[Unit],
    grids: Mapping[int, Grid],
    written: Written,
    products: Mapping[str, Product],
    inputs: Sequence[Tensor],
) -> Any:
    """The answer of the network, through which gradients reach the products' numbers, by the name of their node."""
    integers = integers_of(written, [x.detach() for x in inputs], units)
    by_node = {node.output: unit for unit in units for node in (unit.node, *unit.fused)}
    values: dict[int, Any] = dict(enumerate(inputs))
    snapped: dict[int, Tensor] = {}

    def read(value: int, as_integer: bool) -> Any:
        if not as_integer or value not in integers:  # an initial state of int16 has no int8 twin
            return values[value]
        if value not in snapped:
            snapped[value] = on_grid(values[value], grids[value], integers[value])
        return snapped[value]

    for node in facts.program.nodes:
        unit = by_node.get(node.output)
        integer = unit is not None and unit.reason is None and unit.node is node
        given = [read(value, integer) for value in node.inputs]
        tensors = facts.tensors
        if has_products(node, products):
            node, tensors = with_products(node, tensors, products)
        y = step_of(node, tensors, CPU)(*given)
        if unit is not None and unit.reason is None and unit.output == node.output:
            if unit.rule.real(unit.node):
                y = y + (integers[node.output] - y).detach()
            else:
                y = snapped[node.output] = on_grid(y, grids[node.output], integers[node.output])
        values[node.output] = y
    return values[facts.program.output]


def on_grid(x: Tensor, grid: Grid, integers: Tensor) -> Tensor:
    """The real numbers of integers, with the gradient of x where it lies within the grid."""
    low, high = grid.range
    inside = x.clamp(low, high)
    return inside + (grid.reals(integers) - inside).detach()


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
