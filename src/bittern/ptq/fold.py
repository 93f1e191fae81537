# SPDX-License-Identifier: Apache-2.0
"""What is one multiplication and one addition a channel goes into the layer beside it, before anything is observed.

Batch norms, per-channel maps, biases and factors behind a convolution or linear layer change its weight and bias
(Jacob et al., arXiv:1712.05877, section 3.2); in front of a linear layer they do the same; anywhere else they become a
depthwise convolution of one tap, so that they have an integer kind. Folding is float64, and changes float answers by
rounding alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.form import Form
from bittern.deploy.kinds.kind import number
from bittern.deploy.program import Node, Program, tensor_name
from bittern.deploy.shapes import forms_of

TRANSPOSED = ("conv_transpose1d.default", "conv_transpose2d.input")
"""Operators of torch that are transposed convolutions, which are no kind of their own."""
MOST_SPACE = 4


class Affine(NamedTuple):
    """x * alpha + beta along channels, float64; one number of each where it is the same for all."""

    alpha: Tensor
    beta: Tensor


def is_transposed(node: Node) -> bool:
    return node.kind == "aten" and node.attrs["operator"] in TRANSPOSED


def transposed_arguments(node: Node) -> dict[str, Any] | None:
    """Arguments of a transposed convolution by name, numbers as lists; None: its weight is no number of the file."""
    names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    defaults = ({"input": 0}, None, None, [1], [0], [0], 1, [1])
    arguments = node.attrs["arguments"]
    assert isinstance(arguments, list)
    given: list[Any] = [*arguments, *defaults[len(arguments) :]]
    found = dict(zip(names, given, strict=True))
    constant = isinstance(found["weight"], dict) and "tensor" in found["weight"]
    if not constant or not (found["bias"] is None or "tensor" in found["bias"]) or len(node.inputs) != 1:
        return None
    return found


def folded(program: Program, tensors: Mapping[str, Tensor]) -> tuple[Program, dict[str, Tensor]]:
    """The program with maps along channels in its layers, and all tensors."""
    folder = _Folder(program, dict(tensors))
    folder.behind()
    folder.in_front()
    folder.alone()
    folder.biases()
    return folder.program, folder.tensors


class _Folder:
    def __init__(self, program: Program, tensors: dict[str, Tensor]) -> None:
        self.program, self.tensors = program, tensors
        self._forms = forms_of(program, tensors)
        self._next = max((node.output for node in program.nodes), default=0) + 1
        self._count = 0

    def behind(self) -> None:
        """Maps behind a product, one after another."""
        done = False
        while not done:
            done = True
            for node in self.program.nodes:
                product = self.program.producer(node.inputs[0])
                if product is None or self.program.single_consumer(product.output) is not node:
                    continue
                affine = self._affine(node, product)
                if affine is None or not self._is_product(product):
                    continue
                merged = self._merged(product, affine)
                self.program = self.program.rewritten(
                    {product.output: [merged], node.output: []}, {node.output: product.output}
                )
                done = False
                break

    def in_front(self) -> None:
        """Norms of features in front of the one linear layer that reads them."""
        for node in self.program.nodes:
            linear = self.program.single_consumer(node.output)
            affine = self._affine(node, None)
            if affine is None or linear is None or linear.kind != "linear" or len(self._forms[node.output].shape) != 2:
                continue
            weight = self.tensors[linear.tensors["weight"]].double()
            bias = self._bias(linear, len(weight)) + weight @ affine.beta.expand(weight.shape[1])
            merged = self._named(linear, (weight * affine.alpha).float(), bias.float())
            self.program = self.program.rewritten(
                {linear.output: [replace(merged, inputs=node.inputs)], node.output: []}, {}
            )

    def alone(self) -> None:
        """Maps along channels that no layer takes: depthwise convolutions of one tap."""
        new: dict[int, list[Node]] = {}
        for node in self.program.nodes:
            form = self._forms[node.output]
            affine = self._affine(node, None) if node.kind != "constant" else None
            if affine is not None and 2 <= len(form.shape) <= MOST_SPACE and not node.attrs.get("last"):
                new[node.output] = self._depthwise(node, affine, form)
        self.program = self.program.rewritten(new, {})

    def biases(self) -> None:
        """Zeros for products without a bias, so that one can be corrected and learned."""
        one, none = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        new = {
            node.output: [self._merged(node, Affine(one, none))]
            for node in self.program.nodes
            if self._is_product(node) and self._lacks_bias(node)
        }
        self.program = self.program.rewritten(new, {})

    def _lacks_bias(self, node: Node) -> bool:
        if is_transposed(node):
            given = transposed_arguments(node)
            return given is not None and given["bias"] is None
        return "bias" not in node.tensors

    def _depthwise(self, node: Node, affine: Affine, form: Form) -> list[Node]:
        channels, space = form.shape[1], form.shape[2:]
        image = [-1, channels, *space, *(1,) * (2 - len(space))]
        alpha, beta = (x.expand(channels).float() for x in affine)
        geometry: dict[str, Any] = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": channels}
        conv = self._named(Node("conv", node.name, node.inputs, node.output, geometry), alpha.view(-1, 1, 1, 1), beta)
        if len(space) == 2:
            return [conv]
        before = Node("reshape", f"{node.name}.image", node.inputs, self._value(), {"shape": image})
        conv = replace(conv, inputs=(before.output,), output=self._value())
        back = Node("reshape", f"{node.name}.flat", (conv.output,), node.output, {"shape": [-1, *form.shape[1:]]})
        return [before, conv, back]

    def _value(self) -> int:
        self._next += 1
        return self._next - 1

    def _is_product(self, node: Node) -> bool:
        if is_transposed(node):
            return transposed_arguments(node) is not None
        return node.kind in ("conv", "linear")

    def _affine(self, node: Node, product: Node | None) -> Affine | None:
        """What a node does to each channel of its input; None: something else, or along another dimension."""
        named = node.named(self.tensors)
        one, none = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        if node.kind == "constant":
            value = torch.tensor(number(node, "value"), dtype=torch.float64)
            return Affine(one, value) if node.attrs["operation"] == "add" else Affine(value, none)
        channels_last = product is not None and product.kind == "linear" and len(self._forms[product.output].shape) > 2
        if node.kind == "bias" and bool(node.attrs["last"]) == channels_last:
            return Affine(one, named["bias"].double())
        if channels_last:
            return None
        if node.kind == "affine":
            return Affine(*named["affine"].double())
        if node.kind == "batch_norm":
            alpha = (named["var"].double() + number(node, "eps")).rsqrt()
            if "weight" in named:
                alpha = alpha * named["weight"].double()
            return Affine(alpha, (named["bias"].double() if "bias" in named else none) - named["mean"].double() * alpha)
        return None

    def _bias(self, node: Node, channels: int) -> Tensor:
        name = node.tensors.get("bias")
        return self.tensors[name].double() if name else torch.zeros(channels, dtype=torch.float64)

    def _merged(self, node: Node, affine: Affine) -> Node:
        """A product with a map behind it in its weight and bias."""
        if is_transposed(node):
            return self._merged_transposed(node, affine)
        weight = self.tensors[node.tensors["weight"]].double()
        out = len(weight)
        alpha, beta = affine.alpha.expand(out), affine.beta.expand(out)
        scaled = weight * alpha.view(-1, *(1,) * (weight.ndim - 1))
        return self._named(node, scaled.float(), (self._bias(node, out) * alpha + beta).float())

    def _merged_transposed(self, node: Node, affine: Affine) -> Node:
        given = transposed_arguments(node)
        assert given is not None
        role = given["weight"]["tensor"]
        weight, groups = self.tensors[node.tensors[role]].double(), given["groups"]
        out = weight.shape[1] * groups
        alpha, beta = affine.alpha.expand(out), affine.beta.expand(out)
        grouped = weight.view(groups, -1, *weight.shape[1:]) * alpha.view(groups, 1, -1, *(1,) * (weight.ndim - 2))
        old = self.tensors[node.tensors[given["bias"]["tensor"]]].double() if given["bias"] else torch.zeros(out)
        arguments = [given["input"], {"tensor": "weight"}, {"tensor": "bias"}, given["stride"], given["padding"]]
        arguments += [given["output_padding"], groups, given["dilation"]]
        named = self._named(node, grouped.view_as(weight).float(), (old * alpha + beta).float())
        return named.with_attrs(arguments=arguments)

    def _named(self, node: Node, weight: Tensor, bias: Tensor) -> Node:
        """A node with a weight and bias of its own: others may read those that it had."""
        self._count += 1
        names = {role: tensor_name(f"{node.name}.folded{self._count}", role) for role in ("weight", "bias")}
        self.tensors |= {names["weight"]: weight.contiguous(), names["bias"]: bias.contiguous()}
        return replace(node, tensors=names)
