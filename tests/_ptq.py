# SPDX-License-Identifier: Apache-2.0
"""What the integers of a quantized network must be, worked out from real numbers alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern.deploy.kinds.table import KINDS
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
    integers = integers_of(network.written(), inputs)
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
        limit = 1.5 if node.kind == "softmax" else 0.5  # LiteRT's softmax is exp and a reciprocal in fixed point
        assert float(error) <= limit + NEAR, f"{node.name} ({node.kind}): {float(error)} steps"
        found[node.name] = integers[unit.output].numel()
    return found


def _transposed(node: Any, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    given = transposed_arguments(node)
    assert given is not None
    groups, out = given["groups"], weight.shape[0]
    parts = [part.transpose(0, 1) for part in weight.flip(2, 3).split(out // groups)]
    return {given["weight"]["tensor"]: torch.cat(parts), given["bias"]["tensor"]: bias}
