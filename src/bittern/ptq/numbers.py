# SPDX-License-Identifier: Apache-2.0
"""The numbers of layers that become integers, by name: one product of a convolution or linear layer, two of an LSTM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from bittern.deploy.program import Node
from bittern.ptq import recurrent
from bittern.ptq.fold import is_transposed, transposed_arguments
from bittern.ptq.products import Product, product_of, turned_back


def products_of(node: Node, tensors: Mapping[str, Tensor]) -> dict[str, Product]:
    """Of a node that leads (`Rule.leads`)."""
    if recurrent.is_recurrent(node):
        return recurrent.products_of(node, tensors)
    return {node.name: product_of(node, tensors)}


def has_products(node: Node, names: Mapping[str, Product]) -> bool:
    """Whether these products are of a node."""
    return node.name in names or (recurrent.is_recurrent(node) and f"{recurrent.layer_name(node)}.input" in names)


def owner(nodes: Iterable[Node], name: str) -> Node:
    """The node that a product belongs to, by its name."""
    return next(node for node in nodes if node.name == name or _owns(node, name))


def _owns(node: Node, name: str) -> bool:
    return recurrent.is_recurrent(node) and name in (f"{node.name}.{part}" for part in recurrent.PARTS)


def reads(node: Node, name: str) -> int:
    """The value that a product of a node reads."""
    return recurrent.reads(node, name) if recurrent.is_recurrent(node) else node.inputs[0]


def with_products(
    node: Node, tensors: Mapping[str, Tensor], products: Mapping[str, Product]
) -> tuple[Node, Mapping[str, Tensor]]:
    """A node with the numbers of these products."""
    if recurrent.is_recurrent(node):
        return recurrent.with_products(node, tensors, products)
    return with_numbers(node, tensors, products[node.name])


def with_numbers(node: Node, tensors: Mapping[str, Tensor], product: Product) -> tuple[Node, Mapping[str, Tensor]]:
    """A convolution or linear layer with other numbers."""
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
