# SPDX-License-Identifier: Apache-2.0
"""How large a group of a program is, in words, and how many products it takes."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from bittern.deploy.engine.groups.group import Group
from bittern.deploy.form import Form
from bittern.deploy.kinds.kind import integer, integers
from bittern.deploy.kinds.node_codes import weight_factors
from bittern.deploy.program import Node

Forms = Mapping[int, Form]


def product_macs(forms: Forms, node: Node) -> int:
    """Products of signs for one sample; those of several bit planes count once per pair of planes."""
    fan_in = integer(node, "channels") // integer(node, "groups") * prod(integers(node, "kernel"))
    planes = forms[node.inputs[0]].planes * len(weight_factors(node))
    return prod(forms[node.output].shape[1:]) * fan_in * planes


def shape_words(forms: Forms, group: Group) -> str:
    """Such as "3x3/2 64 -> 128 at 28x28" of a product (the size is that of its output), else the output's shape."""
    node = group.product
    if node is None:
        return "x".join(map(str, forms[group.output].shape[1:]))
    form, kernel, groups = forms[node.output], integers(node, "kernel"), integer(node, "groups")
    space, stride = form.shape[1:-1] if form.last else form.shape[2:], max(integers(node, "stride"), default=1)
    words = ["x".join(map(str, kernel)) + (f"/{stride}" if stride > 1 else "")] if kernel else []
    words.append(f"{integer(node, 'channels')} -> {integer(node, 'out_channels')}")
    words += [f"in {groups} groups"] * (groups > 1) + [f"at {'x'.join(map(str, space))}"] * bool(space)
    return " ".join(words)
