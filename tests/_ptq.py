# SPDX-License-Identifier: Apache-2.0
"""What the integers of a quantized network must be, worked out from real numbers alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern.deploy.kinds.kind import integer
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.program import Node
from bittern.ptq import QuantizedNetwork
from bittern.ptq.fold import is_transposed, transposed_arguments
from bittern.ptq.training import integers_of

NEAR = 2.0**-16
"""Of a step: factors are right to 2^-31 and sums of two values to 2^-20 of their scale, of numbers up to 255 steps."""


def check_integers(network: QuantizedNetwork, *inputs: Tensor) -> dict[str, int]:
    """Every integer is the nearest to the real number that its layer computes of the integers it reads, in float64.

    Weights and biases are those numbers that the integers of the packed program stand for. A number half way between
    two integers may be either. Returns how many integers each layer was compared in.
    """
    found: dict[str, int] = {}
    written = network.written()
    integers = integers_of(written, inputs)
    weights = {layer.name: layer.integers() for layer in network.own_layers()}
    for unit in network.units:
        if unit.reason is not None:
            continue
        node, grid = unit.node, network.grids[unit.output]
        tensors = {role: network.facts.tensors[name].double() for role, name in node.tensors.items()}
        if node.name in weights:
            own = weights[node.name]
            shape = (-1, *(1,) * (own.integers.ndim - 1))
            weight = own.integers.double() * own.scales.view(shape)
            bias = own.bias.double() * own.scales * network.grids[node.inputs[0]].scale
            tensors = _transposed(node, weight, bias) if is_transposed(node) else {"weight": weight, "bias": bias}
        step = KINDS[node.kind].build(node, tensors, torch.device("cpu"))
        reals = []
        for value in node.inputs:
            own_grid = network.grids[value]
            reals.append((integers[value].double() - own_grid.zero) * own_grid.scale)
        y = step(*reals).clamp(unit.least, unit.most)
        steps = (y / grid.scale + grid.zero).clamp(grid.low, grid.high)
        error = (steps - integers[unit.output].double()).abs().max()
        limit = max(map(_rounding, written.parts[unit.output]), default=0.5)
        assert float(error) <= limit + NEAR, f"{node.name} ({node.kind}): {float(error)} steps"
        found[node.name] = integers[unit.output].numel()
    return found


def _rounding(node: Node) -> float:
    """By how many steps the result of an integer node may lie beside the real number."""
    if node.kind == "integer_softmax":
        return 1.5  # exp and a reciprocal in fixed point
    if node.kind in ("integer_mean", "integer_multiply"):  # which round before their last shift, too
        return 0.5 + 2.0 ** (min(integer(node, "shift"), 0) - 1) * (integer(node, "shift") < 0)
    return 0.5


def _transposed(node: Any, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    given = transposed_arguments(node)
    assert given is not None
    groups, out = given["groups"], weight.shape[0]
    parts = [part.transpose(0, 1) for part in weight.flip(2, 3).split(out // groups)]
    return {given["weight"]["tensor"]: torch.cat(parts), given["bias"]["tensor"]: bias}
