# SPDX-License-Identifier: Apache-2.0
"""What a node of an exported graph is."""

from __future__ import annotations

import operator

import torch
from torch import fx

from bittern.deploy.front.call import meta_of, operator_name
from bittern.deploy.front.conditions import ASSERTIONS
from bittern.deploy.front.recurrent import RECURRENT
from bittern.deploy.front.same import HARMLESS
from bittern.deploy.front.stand_in import OPERATOR
from bittern.deploy.front.where import place_of
from bittern.deploy.kinds.aten_operators import ALLOWED


def is_operator(node: fx.Node) -> bool:
    return node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)


def draws(node: fx.Node) -> bool:
    """Whether a call draws random numbers."""
    return torch.Tag.nondeterministic_seeded in node.target.tags  # type: ignore[union-attr]


def is_foreign(node: fx.Node) -> bool:
    """Whether a node is no operator of the list, and no arithmetic on sizes."""
    if node.target in (operator.getitem, OPERATOR, RECURRENT) or node.op != "call_function":
        return False
    if isinstance(meta_of(node), torch.SymInt | torch.SymFloat | torch.SymBool):
        return False
    if not is_operator(node):
        return True
    name = operator_name(node.target)
    return name not in ALLOWED and name not in ASSERTIONS and name not in HARMLESS


def in_words(node: fx.Node) -> str:
    name = operator_name(node.target) if is_operator(node) else getattr(node.target, "__name__", str(node.target))
    return f"operator {name!r}{place_of(node)}"
