# SPDX-License-Identifier: Apache-2.0
"""Node kinds that add and multiply real values: with one number, or with each other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bittern.deploy.form import Form, Tensors, need, need_real
from bittern.deploy.kinds.kind import Kind, Step, choice, number, real
from bittern.deploy.kinds.shape_rules import broadcast, same
from bittern.deploy.program import Node


def _build_constant(node: Node, tensors: Tensors, device: torch.device) -> Step:
    if node.attrs["operation"] == "add":
        return lambda x: x + number(node, "value")
    return lambda x: x * number(node, "value")


CONSTANT = Kind(
    name="constant",
    attrs={"operation": choice("add", "multiply"), "value": real()},
    shape=same,
    build=_build_constant,
)


def _two_form(node: Node, tensors: Tensors, a: Form, b: Form) -> Form:
    need_real(node, a)
    need_real(node, b)
    need(node, len(a.shape) == len(b.shape), f"{list(a.shape)} and {list(b.shape)} cannot be combined")
    return Form(broadcast(node, a.shape, b.shape))


def _two(name: str, function: Callable[[Tensor, Tensor], Tensor], finite: bool = False) -> Kind:
    """An elementwise kind of two inputs."""
    return Kind(name=name, inputs=(2,), shape=_two_form, build=lambda node, tensors, device: function, finite=finite)


ADD = _two("add", torch.add, finite=True)
SUBTRACT = _two("subtract", torch.sub)
MULTIPLY = _two("multiply", torch.mul)

ARITHMETIC_KINDS: tuple[Kind, ...] = (CONSTANT, ADD, SUBTRACT, MULTIPLY)
