# SPDX-License-Identifier: Apache-2.0
"""What is known of a kind of real node when it is to run in integers: everything stands in one object, `Rule`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from bittern.deploy.form import Form
from bittern.deploy.program import Node
from bittern.ptq.grid import Grid

if TYPE_CHECKING:
    from bittern.ptq.writer import Writer

Forms = Mapping[int, Form]
Problem = Callable[[Forms, Mapping[str, Tensor], Node], str | None]
"""Why a node has no integer kind, or None."""


def no_problem(forms: Forms, tensors: Mapping[str, Tensor], node: Node) -> str | None:
    """Of kinds all of whose nodes run in integers."""
    return None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How nodes of one kind become integer nodes."""

    write: Callable[[Writer, Node, int, Grid], int]
    """(writer, node, the value that its result goes by, the grid of that) -> value of the integer program."""
    problem: Problem = no_problem
    leads: bool = False
    """Whether it asks for integers though all that it reads is float: a product."""
    takes_limits: bool = False
    """Whether a minimum and a maximum behind it can be limits of its result."""
    keeps_scale: bool = False
    """Whether its result has the grid of its input."""
    joins: bool = False
    """Whether its inputs and its result have one grid."""
    fixed: Grid | None = None
    """The one grid that its result may have."""
    real: Callable[[Node], bool] = lambda node: False
    """Whether what `write` gives is a value of real numbers."""


def kind_of(node: Node) -> str:
    """Under which name a node has a rule."""
    return f"aten {node.attrs['operator']}" if node.kind == "aten" else node.kind
