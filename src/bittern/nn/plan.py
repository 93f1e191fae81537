# SPDX-License-Identifier: Apache-2.0
"""A plan: what a conversion does with each layer of a model, and why, as a table that can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from torch import nn

from bittern.nn._table import text_table
from bittern.nn._watch import Watched
from bittern.nn.binarize import LowBitLayer

READ_THEIR_CHILDREN: tuple[type[nn.Module], ...] = (nn.MultiheadAttention,)
"""Modules that take the weights of their linear layers and multiply themselves, without calling those layers."""


class Action(Enum):
    """What a conversion does with a layer."""

    CONVERT = "convert"
    KEEP = "keep"
    REFUSE = "refuse"
    """The layer cannot be converted as it is: `convert` raises unless `keep` names it or a rule leaves it real."""
    SWAP = "swap"
    """Another activation takes its place."""


class PlanRow(NamedTuple):
    """One layer, or one activation, of a plan."""

    name: str
    kind: str
    """Class name."""
    shape: tuple[int, ...]
    """Shape of its weight; () where it has none of that name or no size yet."""
    action: Action
    reason: str
    """Why it is kept or refused, what takes its place, what a rule said of it; "" where it is simply converted."""


@dataclass(frozen=True, repr=False)
class Plan:
    """What a conversion does with every layer that has a weight matrix; `print(plan)` shows a table."""

    rows: tuple[PlanRow, ...]
    notes: tuple[str, ...] = ()
    """What the rows cannot show: activations that no swap reaches, and what is not known without an example."""

    def names(self, action: Action) -> tuple[str, ...]:
        """Names of the layers with this action."""
        return tuple(row.name for row in self.rows if row.action is action)

    def __str__(self) -> str:
        lines = [(r.name or "(model)", r.kind, str(list(r.shape)), r.action.value, r.reason) for r in self.rows]
        counts = {action: len(self.names(action)) for action in Action}
        shown = ", ".join(f"{a.value} {n}" for a, n in counts.items() if n or a is not Action.SWAP)
        return "\n".join([text_table(("layer", "kind", "weight", "action", "because"), lines), shown, *self.notes])

    __repr__ = __str__


def layers_of(model: nn.Module, wanted: Callable[[nn.Module], bool]) -> list[tuple[str, nn.Module]]:
    """The modules that are wanted, each under its first name; those inside a low-bit layer's method are its own."""
    found: list[tuple[str, nn.Module]] = []
    inside: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, LowBitLayer):
            inside.update(id(child) for child in module.modules() if child is not module)
        if id(module) not in inside and wanted(module):
            found.append((name, module))
    return found


def check_possible(owner: str, verb: str, plan: Plan) -> None:
    """Refuse a plan that cannot be carried out. Raises: ValueError listing all layers that stand against it."""
    refused = [row for row in plan.rows if row.action is Action.REFUSE]
    if refused:
        listed = "; ".join(f"{row.name!r} ({row.kind}): {row.reason}" for row in refused)
        raise ValueError(f"{owner}: cannot {verb} {listed}. Change them, or name them in keep")


def check_called(owner: str, model: nn.Module, watched: Watched, names: Iterable[str]) -> None:
    """Refuse a model whose forward, `watched`, goes on using an old layer; `names` are the new ones. ValueError."""
    for name in names:
        if id(model.get_submodule(name)) not in watched.called:
            raise ValueError(
                f"{owner}: the forward pass does not call the new layer {name!r}, because it holds the old one outside "
                "its modules, e.g. in a list; keep it in an nn.ModuleList, or name it in keep"
            )
