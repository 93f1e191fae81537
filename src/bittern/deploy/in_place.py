# SPDX-License-Identifier: Apache-2.0
"""Operations that write into their input, in a traced graph.

`x = conv(x); y = relu_(x); return y + x` adds y to itself: after the in-place step x is y. A program has no memory, so
there a later reader of x would get the old value. Here such readers are given the new one, where they read the very
tensor that was written; where they read a view of it, or what it is a view of, the graph is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from bittern.deploy.unseen import refuse

OPERATORS = ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor")
"""Operators that write into the tensor on their left, `x += y` and its like."""

WRITING_OPERATORS: tuple[Callable[..., Any], ...] = tuple(getattr(operator, name) for name in OPERATORS)

INPLACE_AT: dict[Callable[..., Any], int] = {F.relu: 1, F.relu6: 1, F.silu: 1, F.hardtanh: 3, F.dropout: 3}
"""Functions that may write into their input, and which positional argument says so."""

PASSED_ON = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
"""Layers whose result, in eval mode, is the very tensor that came in."""

VIEWS: tuple[Any, ...] = (
    *("contiguous", "flatten", "permute", "reshape", "view"),
    *(operator.getitem, torch.flatten, torch.permute, torch.reshape, nn.Flatten),
)
"""Calls whose result may lie in the memory of their input."""


class WritingProxy(fx.Proxy):
    """A traced value that records `x += y`, which Python would otherwise turn into `x = x + y`."""


def _recorded(function: Callable[..., Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    def write(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return write


for _name, _function in zip(OPERATORS, WRITING_OPERATORS, strict=True):
    setattr(WritingProxy, f"__{_name}__", _recorded(_function))


def resolve_writes(graph: fx.Graph, model: nn.Module) -> None:
    """Let later readers of a tensor that was written into read its new value.

    Raises: PackError naming each in-place call after which a view of what it wrote, or what that is a view of, is read.
    """
    place = {node: index for index, node in enumerate(graph.nodes)}
    memory: dict[fx.Node, fx.Node] = {}
    """The value whose memory a value may lie in."""
    tensor: dict[fx.Node, fx.Node] = {}
    """The first of all values that are one and the same tensor."""
    problems: list[str] = []
    for node in graph.nodes:
        source = _first_tensor(node)
        target = model.get_submodule(str(node.target)) if node.op == "call_module" else node.target
        writes = source is not None and _writes(node, target)
        same = source is not None and (writes or _is_passed_on(node, target))
        shares = source is not None and (same or _is_view(node, target))
        memory[node] = memory[source] if shares and source is not None else node
        tensor[node] = tensor[source] if same and source is not None else node
        if writes and source is not None:
            problems += _redirect(node, source, memory, tensor, place)
    refuse(problems, "would be computed from values that were overwritten")


def _redirect(
    write: fx.Node,
    source: fx.Node,
    memory: dict[fx.Node, fx.Node],
    tensor: dict[fx.Node, fx.Node],
    place: dict[fx.Node, int],
) -> list[str]:
    """Point the later readers of what `write` overwrote to its result; -> problems where that cannot be said."""
    problems = []
    for old in [value for value in memory if memory[value] is memory[source] and value is not write]:
        for reader in [user for user in old.users if place[user] > place[write]]:
            if tensor[old] is tensor[source]:
                reader.replace_input_with(old, write)
            else:
                problems.append(
                    f"{label(write)} works in place on memory that {label(reader)} reads again as {old.name!r}; "
                    "use inplace=False there, or x = x + y for x += y"
                )
    return problems


def label(node: fx.Node) -> str:
    """A call of the graph, in words."""
    if node.op == "output":
        return "the model's result"
    if node.op == "call_module":
        return f"layer {node.target!r}"
    return f"call {getattr(node.target, '__name__', node.target)!r} ({node.name})"


def _first_tensor(node: fx.Node) -> fx.Node | None:
    """The value that a call would write into or pass on: its first argument, or the one named input or x."""
    if node.op not in ("call_module", "call_function", "call_method"):
        return None
    first = node.args[0] if node.args else node.kwargs.get("input", node.kwargs.get("x"))
    return first if isinstance(first, fx.Node) else None


def _writes(node: fx.Node, target: Any) -> bool:
    if node.op == "call_module":
        return bool(getattr(target, "inplace", False)) and not isinstance(target, PASSED_ON)
    if node.op == "call_method":
        return str(target).endswith("_") and not str(target).endswith("__")
    at = INPLACE_AT.get(target, len(node.args))
    asked = node.kwargs.get("inplace", node.args[at] if at < len(node.args) else False)
    name = getattr(target, "__name__", "")
    named = name.endswith("_") and not name.endswith("__")
    return target in WRITING_OPERATORS or named or (bool(asked) and target is not F.dropout)


def _is_passed_on(node: fx.Node, target: Any) -> bool:
    return isinstance(target, PASSED_ON) or target is F.dropout


def _is_view(node: fx.Node, target: Any) -> bool:
    return target in VIEWS or isinstance(target, nn.Flatten)
