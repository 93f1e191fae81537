# SPDX-License-Identifier: Apache-2.0
"""What a kind of node is: everything that is a fact about it stands in one object, `Kind`.

`check_node` is called on everything read from a file before anything is allocated; `Kind.build` then makes a callable
for one device. The kinds themselves live beside this file, and `table` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Rule, Tensors
from bittern.deploy.kinds.footprint import Loaded, Working, copies, inputs_and_result
from bittern.deploy.program import Attr, Node

IMAGE_DIMS = 4

Step = Callable[..., Any]
"""Values in, one value out."""

Build = Callable[[Node, Tensors, torch.device], Step]
"""Makes a step from a node and its tensors by role."""

Falls = Callable[[Tensors], Tensor | None]
"""From a node's tensors: bool [channels], where its result falls as its input rises; None: nowhere."""

Accumulators = Callable[[Node, Tensors, torch.device], Callable[[Any], dict[str, Tensor]]]
"""Makes, from a node and its tensors by role, a function from its first input to the integers it counts, by name."""

Clamp = Callable[[Node], tuple[float, float]]
"""The least and the most that a node lets through."""


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


def fits_anyhow(node: Node, tensors: Tensors) -> None:
    """For kinds whose tensors and attributes fit together whatever they are, or are compared by the shape rule."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of node: what it may carry, the shape of its result, how it computes, and what others may rely on."""

    name: str
    """What a file calls it."""
    inputs: tuple[int, ...] = (1,)
    """Allowed numbers of inputs; (-1,): any number from 1 on."""
    attrs: Mapping[str, AttrRule] = field(default_factory=dict)
    tensors: Mapping[str, torch.dtype] | None = field(default_factory=dict)
    """Roles that must be present; None: any, of any type that a file holds."""
    optional: Mapping[str, torch.dtype] = field(default_factory=dict)
    """Roles that may be present."""
    check: Callable[[Node, Tensors], None] = fits_anyhow
    """Raises FormatError when tensors and attributes do not fit together."""
    shape: Rule
    """The form of its result, from those of its inputs; raises FormatError where they do not fit."""
    build: Build
    build_last: Build | None = None
    """The same on images with channels last, for kinds whose sums might come out otherwise in that layout."""
    view: bool = False
    """Whether its result may lie in the memory of its input, which then lives as long as the result."""
    reshapes: bool = False
    """Whether its result is the numbers of a contiguous input, in their order, under another shape."""
    low_bit: bool = False
    """Whether it reads or writes bits or accumulators: exact on every device."""
    product: bool = False
    """Whether it multiplies its input with a weight, so that it may compute in bfloat16."""
    accumulators: Accumulators | None = None
    """For kinds that multiply bits: what they count, for `verify`."""
    monotone: Falls | None = None
    """For kinds that treat each channel by one function that never falls or never rises: where it falls.

    A sign may move past such a node, and the node may be split along its channels, as may all its tensors.
    """
    finite: bool = False
    """Whether it makes no NaN of numbers that are far from overflow."""
    clamp: Clamp | None = None
    """For kinds that are a minimum and a maximum with numbers: which."""
    infinite: bool = False
    """Whether its tensors may hold infinity, for a mask."""
    loaded: Loaded = copies
    """Bytes of what is made of its tensors at load."""
    working: Working = inputs_and_result
    """Bytes that it takes beside its values while it runs, or while it is tried with random numbers."""


def rises(tensors: Tensors) -> None:
    """`Falls` of a kind that falls nowhere."""


def falls_by_weight(tensors: Tensors) -> Tensor | None:
    """`Falls` of a kind that multiplies with `weight`, which a file may leave out."""
    return tensors["weight"] < 0 if "weight" in tensors else None


def contiguous(x: Tensor) -> Tensor:
    """A tensor whose last dimension is innermost in memory, as the layers of the training graph write theirs."""
    if x.ndim == 2 and x.stride() == (x.shape[1] or 1, 1):  # what most calls are, without a loop
        return x
    return laid_out(x, range(x.ndim))


def channels_last(x: Tensor) -> Tensor:
    """An image [batch, channels, height, width] with channels last in memory; other tensors contiguous."""
    return laid_out(x, (0, 2, 3, 1) if x.ndim == IMAGE_DIMS else range(x.ndim))


def laid_out(x: Tensor, order: Sequence[int]) -> Tensor:
    """A tensor with its dimensions in this order in memory, the outermost first.

    Unlike those of `Tensor.contiguous`, the strides of dimensions of size 1 follow the order too: torch guesses a
    layout from them, and may sum otherwise.
    """
    shape, step = x.shape, 1
    strides = [0] * len(shape)
    for dim in reversed(order):
        strides[dim] = step
        step *= max(shape[dim], 1)
    if x.stride() == tuple(strides):
        return x
    return x.permute(*order).contiguous().as_strided(shape, strides)


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


def check_node(kind: Kind, node: Node, tensors: Tensors) -> None:
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
    kind.check(node, node.named(tensors))


def _check_roles(kind: Kind, node: Node, tensors: Tensors) -> None:
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


def check_vectors(node: Node, tensors: Tensors) -> None:
    """Refuse tensors that are not vectors of one length. Raises: FormatError."""
    lengths = {tuple(t.shape) for t in tensors.values()}
    if len(lengths) != 1 or len(next(iter(lengths))) != 1:
        raise FormatError(f"node {node.name!r} ({node.kind}): its tensors must be vectors of one length")


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
