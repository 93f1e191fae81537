# SPDX-License-Identifier: Apache-2.0
"""Layers that stand in a program as operators of torch, as the nodes that there are for them.

An operator of torch stays one where the layout in memory decides how its sums round, as behind images with channels
last; between integers no layout matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bittern.deploy.program import Attr, Node, Program

Recognise = Callable[[Node, list[Any]], Node | None]
"""(node, its arguments) -> the node that it is, or None."""


def with_layers(program: Program) -> Program:
    """The program with such nodes in the place of operators; the others stay."""
    return replace(program, nodes=tuple(map(_layer, program.nodes)))


def _layer(node: Node) -> Node:
    recognise = OPERATORS.get(str(node.attrs.get("operator"))) if node.kind == "aten" else None
    arguments = node.attrs.get("arguments")
    if recognise is None or not isinstance(arguments, list) or len(node.inputs) != 1:
        return node
    return recognise(node, arguments) or node


def _filled(arguments: list[Any], defaults: list[Any]) -> list[Any]:
    return [*arguments, *defaults[len(arguments) :]]


def _each(sizes: Any, dims: int) -> list[int]:
    """A number for each dimension of space."""
    given = [sizes] if isinstance(sizes, int) else list(sizes)
    return given * dims if len(given) == 1 else given


def _known(*lists: list[Any]) -> bool:
    """Whether all are whole numbers, not the size of a batch."""
    return all(type(number) is int for numbers in lists for number in numbers)


def _kind(node: Node, kind: str, attrs: Mapping[str, Attr], tensors: Mapping[str, str] | None = None) -> Node:
    return replace(node, kind=kind, attrs=dict(attrs), tensors=dict(tensors or {}))


def _conv(dims: int) -> Recognise:
    def recognise(node: Node, arguments: list[Any]) -> Node | None:
        _, weight, bias, *geometry, groups = _filled(arguments, [None, None, None, [1], [0], [1], 1])
        constant = isinstance(weight, dict) and "tensor" in weight and (bias is None or "tensor" in bias)
        if not constant or any(isinstance(part, str) for part in geometry):
            return None
        tensors = {"weight": node.tensors[weight["tensor"]]}
        if bias is not None:
            tensors["bias"] = node.tensors[bias["tensor"]]
        each = [_each(part, dims) for part in geometry]
        return _kind(
            node, "conv", dict(zip(("stride", "padding", "dilation"), each, strict=True)) | {"groups": groups}, tensors
        )

    return recognise


def _max_pool(node: Node, arguments: list[Any]) -> Node | None:
    _, kernel, stride, padding, dilation, ceil = _filled(arguments, [None, None, [], [0], [1], False])
    kernel = _each(kernel, 2)
    sizes = [kernel, _each(stride or kernel, 2), _each(padding, 2)]
    return _pool(node, "max", sizes, ceil, counted=True) if set(_each(dilation, 2)) == {1} else None


def _average_pool(node: Node, arguments: list[Any]) -> Node | None:
    _, kernel, stride, padding, ceil, counted, divisor = _filled(arguments, [None, None, [], [0], False, True, None])
    kernel = _each(kernel, 2)
    sizes = [kernel, _each(stride or kernel, 2), _each(padding, 2)]
    return None if divisor else _pool(node, "average", sizes, ceil, counted=bool(counted))


def _pool(node: Node, mode: str, sizes: list[list[Any]], ceil: Any, *, counted: bool) -> Node | None:
    if not _known(*sizes):
        return None
    attrs: dict[str, Attr] = {"mode": mode, "ceil": bool(ceil), "count_padding": counted}
    return _kind(node, "pool", attrs | dict(zip(("kernel", "stride", "padding"), sizes, strict=True)))


def _adaptive_pool(node: Node, arguments: list[Any]) -> Node | None:
    size = _each(arguments[1], 2)
    return _kind(node, "adaptive_pool", {"size": size}) if _known(size) else None


def _mean(node: Node, arguments: list[Any]) -> Node | None:
    _, dims, keep, dtype = _filled(arguments, [None, None, False, None])
    if not isinstance(dims, list) or not _known(dims) or dtype is not None or not 1 <= len(dims) <= 3:
        return None
    return _kind(node, "mean", {"dims": dims, "keep": bool(keep)})


def _softmax(node: Node, arguments: list[Any]) -> Node | None:
    _, dim, dtype = _filled(arguments, [None, None, None])
    return _kind(node, "softmax", {"dim": dim, "log": False}) if dtype is None and _known([dim]) else None


OPERATORS: dict[str, Recognise] = {
    "conv1d.default": _conv(1),
    "conv2d.default": _conv(2),
    "max_pool2d.default": _max_pool,
    "avg_pool2d.default": _average_pool,
    "adaptive_avg_pool2d.default": _adaptive_pool,
    "mean.dim": _mean,
    "softmax.int": _softmax,
}
