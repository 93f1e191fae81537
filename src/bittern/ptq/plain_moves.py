# SPDX-License-Identifier: Apache-2.0
"""Moves of numbers through values that do not have the batch first, or are several, as moves of samples.

Attention that takes queries, keys and values apart, and the shuffle of ShuffleNet's units, put the batch elsewhere for
a while. What such a chain does to the places of two samples shows what it does to each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.form import BATCHES, Form
from bittern.deploy.interpreter import step_of
from bittern.deploy.program import Node, Program
from bittern.deploy.rearrangement import Rearrangement, places_of, rearrangement
from bittern.deploy.shapes import forms_of

CPU = torch.device("cpu")
KINDS = ("flatten", "reshape", "permute", "slice", "part")
OPERATORS = (
    *("select.int", "slice.Tensor", "unsqueeze.default", "squeeze.default", "squeeze.dim", "squeeze.dims"),
    *("transpose.int", "permute.default", "reshape.default", "view.default", "_unsafe_view.default", "t.default"),
    *("flatten.using_ints", "unflatten.int", "narrow.default", "contiguous.default", "clone.default", "movedim.int"),
    *("unbind.int", "split.Tensor", "split.sizes", "split_with_sizes.default", "chunk.default", "swapaxes.default"),
)
"""Operators of torch whose results are numbers of their one input at an offset and with steps."""
MOST_DIMS = 4
"""Of a sample, as nodes of moves have them."""


class _Moved(NamedTuple):
    """A value, or several, as places of a source in two samples."""

    source: int
    places: Any
    rough: bool
    """Whether a value on the way had the batch elsewhere, or was several."""


def with_plain_moves(program: Program, tensors: Mapping[str, Tensor]) -> Program:
    """The program with chains of such moves as nodes `reshape`, `slice` and `permute`."""
    forms = forms_of(program, tensors)
    moved: dict[int, _Moved] = {}
    found: dict[int, list[Node]] = {}
    fresh = max((node.output for node in program.nodes), default=len(program.inputs)) + 1
    for node in program.nodes:
        if not _is_move(node):
            continue
        own = moved[node.output] = _after(node, forms, moved)
        form = forms[node.output]
        if not own.rough or not _is_plain(form):
            continue
        steps = _steps(own, forms)
        if steps is not None:
            found[node.output] = _nodes(node, own.source, steps, fresh)
            fresh += len(found[node.output])
    return without_unread(program.rewritten(found, {})) if found else program


def without_unread(program: Program) -> Program:
    """The program without nodes whose results nobody reads."""
    read, kept = {program.output}, []
    for node in reversed(program.nodes):
        if node.output in read:
            kept.append(node)
            read.update(node.inputs)
    return replace(program, nodes=tuple(reversed(kept)))


def _is_move(node: Node) -> bool:
    if node.kind != "aten":
        return node.kind in KINDS
    if node.attrs["operator"] not in OPERATORS or node.tensors:
        return False
    arguments = node.attrs["arguments"]
    assert isinstance(arguments, list)
    return all(argument["input"] == 0 for argument in arguments if isinstance(argument, dict) and "input" in argument)


def _is_plain(form: Form) -> bool:
    return form.type == "real" and form.samples_first and len(form.shape) > 1


def _after(node: Node, forms: Mapping[int, Form], moved: Mapping[int, _Moved]) -> _Moved:
    """What a move makes of what it reads."""
    first = node.inputs[0]
    before = moved.get(first)
    if before is None:
        places = places_of((BATCHES[0], *forms[first].shape[1:])) if _is_plain(forms[first]) else None
        before = _Moved(first, places, rough=False)
    if before.places is None:
        return before
    others = [forms[value].at(0) for value in node.inputs[1:]]
    places = step_of(node, {}, CPU)(before.places, *others)
    return _Moved(before.source, places, before.rough or not _is_plain(forms[node.output]))


def _steps(moved: _Moved, forms: Mapping[int, Form]) -> Rearrangement | None:
    """The same moves of each sample; None: they mix samples, or are none that there are nodes for."""
    count = forms[moved.source].elements
    if not isinstance(moved.places, Tensor) or len(moved.places) != BATCHES[0]:
        return None
    first, second = moved.places
    steps = rearrangement(first, count) if torch.equal(second, first + count) else None
    short = steps is not None and max(len(steps.split), len(steps.shape)) <= MOST_DIMS
    return steps if short else None


def _nodes(last: Node, source: int, steps: Rearrangement, fresh: int) -> list[Node]:
    """fresh: the first number that no value has."""
    nodes: list[Node] = []
    value = source

    def add(kind: str, **attrs: Any) -> None:
        nonlocal value
        name = f"{last.name}.{kind}{len(nodes)}"
        nodes.append(Node(kind, name, (value,), fresh + len(nodes), attrs))
        value = nodes[-1].output

    add("reshape", shape=[-1, *steps.split])
    for dim, (size, (start, stop)) in enumerate(zip(steps.split, steps.stretches, strict=True), 1):
        if (start, stop) != (0, size):
            add("slice", dim=dim, start=start, stop=stop, step=1)
    if list(steps.order) != sorted(steps.order):
        add("permute", order=[0, *(dim + 1 for dim in steps.order)])
    add("reshape", shape=[-1, *steps.shape])
    nodes[-1] = replace(nodes[-1], name=last.name, output=last.output)
    return nodes
