# SPDX-License-Identifier: Apache-2.0
"""What each kind of node computes, and which attributes and tensors it may carry.

`check_node` is called on everything read from a file before anything is allocated; `Kind.build` then makes a
callable for one device. The kinds themselves live beside this file, and `table` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.program import Attr, Node

IMAGE_DIMS = 4

Step = Callable[..., Any]
"""Values in, one value out."""


Build = Callable[[Node, Mapping[str, Tensor], torch.device], Step]
"""Makes a step from a node and its tensors by role."""


class AttrRule(NamedTuple):
    """One attribute: its type and range."""

    type: type
    least: float = float("-inf")
    most: float = float("inf")
    length: tuple[int, ...] = ()
    """For lists: the allowed lengths."""
    choices: tuple[str, ...] = ()
    default: Attr = None
    """What a file leaves out; None: it must be there, unless `optional`."""
    optional: bool = False
    tree: bool = False
    """For lists: entries of any JSON type, which the kind checks itself."""


class Kind(NamedTuple):
    """One kind of node."""

    name: str
    inputs: tuple[int, ...]
    """Allowed numbers of inputs; (-1,): any number from 1 on."""
    attrs: Mapping[str, AttrRule]
    tensors: Mapping[str, torch.dtype] | None
    """Roles that must be present; None: any, of any type that a file holds."""
    optional: Mapping[str, torch.dtype]
    """Roles that may be present."""
    shapes: Callable[[Node, Mapping[str, Tensor]], None]
    """Raises FormatError when tensors and attributes do not fit together."""
    build: Build
    build_last: Build | None = None
    """The same on images with channels last, for kinds whose sums might come out otherwise in that layout."""


def contiguous(x: Tensor) -> Tensor:
    """A tensor whose last dimension is innermost in memory, as the layers of the training graph write theirs."""
    return laid_out(x, range(x.ndim))


def channels_last(x: Tensor) -> Tensor:
    """An image [batch, channels, height, width] with channels last in memory; other tensors contiguous."""
    return laid_out(x, (0, 2, 3, 1) if x.ndim == IMAGE_DIMS else range(x.ndim))


def laid_out(x: Tensor, order: Sequence[int]) -> Tensor:
    """A tensor with its dimensions in this order in memory, the outermost first.

    Unlike those of `Tensor.contiguous`, the strides of dimensions of size 1 follow the order too: torch guesses a
    layout from them, and may sum otherwise.
    """
    strides, step = [0] * x.ndim, 1
    for dim in reversed(order):
        strides[dim] = step
        step *= max(x.shape[dim], 1)
    if x.stride() == tuple(strides):
        return x
    return x.permute(*order).contiguous().as_strided(x.shape, strides)


def count(least: int = 0, most: int = 2**31 - 1, *, default: int | None = None, optional: bool = False) -> AttrRule:
    """An integer attribute."""
    return AttrRule(int, least, most, default=default, optional=optional)


def sizes(*length: int, least: int = 0, most: int = 2**15, default: list[int] | None = None) -> AttrRule:
    """A list of integers of one of the given lengths."""
    return AttrRule(list, least, most, length, default=default)


def choice(*choices: str) -> AttrRule:
    """One of several texts, the first by default."""
    return AttrRule(str, choices=choices, default=choices[0])


def flag(*, default: bool) -> AttrRule:
    """True or False."""
    return AttrRule(bool, default=default)


def real(*, least: float = -3.5e38, default: float | None = None) -> AttrRule:
    """A finite float attribute."""
    return AttrRule(float, least, 3.5e38, default=default)


def check_node(kind: Kind, node: Node, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a node whose attributes, tensors or inputs are not what its kind allows. Raises: FormatError."""
    if kind.inputs != (-1,) and len(node.inputs) not in kind.inputs:
        raise FormatError(f"node {node.name!r} ({node.kind}): takes {kind.inputs} inputs; got {len(node.inputs)}")
    for key in node.attrs:
        if key not in kind.attrs:
            raise FormatError(f"node {node.name!r} ({node.kind}): has no attribute {key!r}")
    for key, rule in kind.attrs.items():
        if key not in node.attrs:
            if not rule.optional:
                raise FormatError(f"node {node.name!r} ({node.kind}): attribute {key!r} is missing")
            continue
        _check_attr(node, key, rule, node.attrs[key])
    _check_roles(kind, node, tensors)
    kind.shapes(node, {role: tensors[name] for role, name in node.tensors.items()})


def _check_roles(kind: Kind, node: Node, tensors: Mapping[str, Tensor]) -> None:
    roles = None if kind.tensors is None else {**kind.tensors, **kind.optional}
    for role, name in node.tensors.items():
        if roles is not None and role not in roles:
            raise FormatError(f"node {node.name!r} ({node.kind}): has no tensor {role!r}")
        if name not in tensors:
            raise FormatError(f"node {node.name!r} ({node.kind}): tensor {name!r} is not in the file")
        if roles is not None and tensors[name].dtype != roles[role]:
            raise FormatError(f"tensor {name!r}: must be {roles[role]}; got {tensors[name].dtype}")
    for role in kind.tensors or ():
        if role not in node.tensors:
            raise FormatError(f"node {node.name!r} ({node.kind}): tensor {role!r} is missing")


def _check_attr(node: Node, key: str, rule: AttrRule, value: Attr) -> None:
    problem = f"node {node.name!r} ({node.kind}): attribute {key!r} is {value!r}"
    if value is None:
        if not rule.optional:
            raise FormatError(f"{problem}; it must be given")
        return
    if rule.tree:
        if not isinstance(value, list):
            raise FormatError(f"{problem}; it must be a list")
        return
    if rule.type is list:
        if not isinstance(value, list) or (rule.length and len(value) not in rule.length) or len(value) > 16:
            raise FormatError(f"{problem}; it must be a list of {rule.length} integers")
        bad = [v for v in value if type(v) is not int or not rule.least <= v <= rule.most]
        if bad:
            raise FormatError(f"{problem}; its entries must be integers in [{rule.least}, {rule.most}]")
        return
    accepted = (int, float) if rule.type is float else (rule.type,)
    if type(value) not in accepted:
        raise FormatError(f"{problem}; it must be of type {rule.type.__name__}")
    if isinstance(value, (int, float)) and not rule.least <= value <= rule.most:
        raise FormatError(f"{problem}; it must lie in [{rule.least}, {rule.most}]")
    if rule.choices and value not in rule.choices:
        raise FormatError(f"{problem}; it must be one of {', '.join(rule.choices)}")


def need_shape(node: Node, role: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
    """Refuse a tensor of another shape. Raises: FormatError."""
    if tensor is not None and tuple(tensor.shape) != shape:
        raise FormatError(
            f"node {node.name!r} ({node.kind}): tensor {role!r} must be {list(shape)}; got {list(tensor.shape)}"
        )


def integer(node: Node, key: str) -> int:
    value = node.attrs[key]
    assert isinstance(value, int)
    return value


def integers(node: Node, key: str) -> list[int]:
    value = node.attrs[key]
    assert isinstance(value, list)
    return value


def pair(values: Sequence[int], fill: int) -> list[int]:
    """Geometry of a 1-d or 0-d layer as that of an image of height 1 (and width 1)."""
    return [fill] * (2 - len(values)) + list(values)


def number(node: Node, key: str) -> float:
    value = node.attrs[key]
    assert isinstance(value, (int, float))
    return float(value)


def any_shape(node: Node, tensors: Mapping[str, Tensor]) -> None:
    """For kinds without tensors, or whose shapes the rules of `shapes` check."""
