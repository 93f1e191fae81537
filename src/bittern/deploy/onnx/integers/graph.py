# SPDX-License-Identifier: Apache-2.0
"""Collects the nodes and numbers of an ONNX model, with the quantization of values as nodes of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from bittern.deploy.form import Form, Tensors
from bittern.deploy.program import Node


class Graph:
    """Nodes in their order. Values of the program are called v0, v1, ..., what lies between them by their node."""

    def __init__(self, tensors: Tensors, forms: Mapping[int, Form]) -> None:
        self.tensors = tensors
        self.forms = forms
        self.nodes: list[Any] = []
        self.numbers: list[Any] = []
        self._made = 0

    def shape(self, value: int) -> tuple[int, ...]:
        """Of one sample, the batch of 1 first."""
        return tuple(self.forms[value].shape)

    def tensor(self, node: Node, role: str) -> Tensor:
        return self.tensors[node.tensors[role]]

    def constant(self, values: Any, dtype: Any) -> str:
        """Name of numbers of the file."""
        from onnx import numpy_helper

        name = f"c{len(self.numbers)}"
        self.numbers.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str = "", **attrs: Any) -> str:
        """Append a node; returns the name of what it writes."""
        from onnx import helper

        self._made += 1
        output = output or f"t{self._made}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], f"{operator}_{self._made}", **attrs))
        return output

    def real(self, x: str, scale: float, zero: int) -> str:
        """scale * (x - zero) of int8 numbers."""
        return self.add("DequantizeLinear", [x, self.constant(scale, np.float32), self.constant(zero, np.int8)])

    def reals(self, numbers: Tensor, scales: np.ndarray[Any, Any], kind: Any, axis: int = 0) -> str:
        """Numbers of the file, with a scale for each entry of a dimension."""
        return self.add(
            "DequantizeLinear", [self.constant(numbers.numpy(), kind), self.constant(scales, np.float32)], axis=axis
        )

    def integers(self, x: str, zero: int, output: str, low: int = -128, high: int = 127, scale: float = 1.0) -> str:
        """round(x / scale) + zero as int8, between limits."""
        if (low, high) != (-128, 127):
            limits = (self.constant((limit - zero) * scale, np.float32) for limit in (low, high))
            x = self.add("Clip", [x, *limits])
        return self.add("QuantizeLinear", [x, self.constant(scale, np.float32), self.constant(zero, np.int8)], output)
