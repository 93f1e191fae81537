# SPDX-License-Identifier: Apache-2.0
"""What torch.export finds about the sizes that the caller has named: symbols, limits, or that they are fixed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from bittern.deploy.errors import PackError
from bittern.deploy.front.batch import Dims
from bittern.deploy.front.dynamic import Dynamic, Limits
from bittern.deploy.front.example import Example
from bittern.deploy.program import NamedSize
from bittern.deploy.size_expression import BATCH
from bittern.deploy.unseen import describe_failure

VIOLATED = re.compile(r"Constraints violated \((?P<names>[^)]*)\)")
LIMITS = re.compile(r"^\s*(?P<name>\w+) = Dim\('\w+'(?:, min=(?P<least>\d+))?(?:, max=(?P<most>\d+))?\)$", re.MULTILINE)
"""How torch.export says which sizes a model takes."""


class OtherLimits(Exception):
    """torch.export takes some named sizes within limits of its own alone."""

    def __init__(self, limits: Mapping[str, Limits]) -> None:
        super().__init__()
        self.limits = limits


def violated(error: BaseException) -> list[str]:
    """Sizes that are asked to be free, and are not; none where an error is about something else."""
    found = VIOLATED.search(str(error))
    return found["names"].split(", ") if found else []


def symbols_of(graph: fx.Graph, inputs: Mapping[str, int], batch: Dims, dynamic: Dynamic) -> Mapping[Any, str]:
    """What each symbol of torch.export stands for: it is the size of an input whose name is known."""
    found: dict[Any, str] = {}
    for node in graph.nodes:
        place = inputs.get(node.name) if node.op == "placeholder" else None
        if place is not None:
            named = dict(dynamic.dims[place])
            if (dim := batch[place]) is not None:
                named[dim] = BATCH
            found |= {node.meta["val"].shape[dim].node.expr: name for dim, name in named.items()}
    return found


def named_sizes(
    program: torch.export.ExportedProgram, symbols: Mapping[Any, str], example: Example, dynamic: Dynamic
) -> tuple[NamedSize, ...]:
    """The named sizes, within the limits that were asked for and those that torch.export found."""
    limits = dict(dynamic.limits)
    for symbol, name in symbols.items():
        if name != BATCH and symbol in program.range_constraints:
            limits[name] = limits[name].within(program.range_constraints[symbol])
    pairs = zip(dynamic.dims, example.tensors, strict=True)
    shown = {name: x.shape[dim] for dims, x in pairs for dim, name in dims.items()}
    return tuple(NamedSize(name, shown[name], own.least, own.most) for name, own in limits.items())


def check_limits(name: str, place: str, error: Exception, dynamic: Dynamic, last: bool) -> None:
    """Where named sizes do not fit the model: what torch.export says of them. place: in the user's code.

    Raises: OtherLimits where it names limits, and the caller has left them to the model; PackError for all else.
    """
    text = str(error)
    if not dynamic.limits or not violated(error):
        return
    found = {
        m["name"]: _narrowed(dynamic.limits[m["name"]], m) for m in LIMITS.finditer(text) if m["name"] in dynamic.limits
    }
    suggested = [line.strip() for line in text.partition("Suggested fixes:")[2].splitlines() if " = " in line]
    free = all(not dynamic.limits[own].given for own in found)
    if found and not last and free and len(found) == len(suggested):
        raise OtherLimits(found)
    said = "; ".join(suggested) or describe_failure(error)
    raise PackError(
        f"pack: {name} does not take the sizes that dynamic asks for{place}; torch.export finds: {said}; give "
        "such limits, as in dynamic={1: torch.export.Dim('length', max=512)}, or leave a size out that is fixed"
    ) from error


def _narrowed(limits: Limits, found: re.Match[str]) -> Limits:
    least, most = found["least"], found["most"]
    return limits._replace(least=int(least or limits.least), most=limits.most if most is None else int(most))
