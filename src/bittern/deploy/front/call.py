# SPDX-License-Identifier: Apache-2.0
"""One call of an ATen operator, its arguments by the names of the operator's schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import fx, nn

from bittern.deploy.front.builder import Ref
from bittern.deploy.front.sizes import Size


@dataclass(frozen=True)
class Call:
    """A call with what it is given: values of the program as `Ref`, known tensors, numbers, unknown sizes."""

    operator: str
    """Name and overload, "conv2d.default"."""
    name: str
    """Path of the layer that it stands for, else its name in the graph."""
    node: fx.Node
    arguments: Mapping[str, Any]
    """All of the schema, those left out with their defaults."""

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @cached_property
    def refs(self) -> tuple[Ref, ...]:
        """Values of the program that it reads."""
        return tuple(v for v in _flat(self.arguments.values()) if isinstance(v, Ref))

    @cached_property
    def sized(self) -> bool:
        """Whether a size that is unknown is among its arguments."""
        return any(isinstance(v, Size) for v in _flat(self.arguments.values()))

    def like(self, operator: str, arguments: Mapping[str, Any], index: int) -> Call:
        """A call of another operator that makes result `index` of this one."""
        return Call(operator, f"{self.name}.{index}", self.node, arguments)


def meta_of(node: fx.Node) -> Any:
    """The fake tensor, or the number, that torch.export gave a node."""
    return node.meta.get("val")


def operator_name(target: Any) -> str:
    """Name and overload of an operator of torch, "conv2d.default"; of another library with it in front."""
    schema = target._schema
    return f"{schema.name.removeprefix('aten::')}.{schema.overload_name or 'default'}"


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        else:
            yield value


def bound(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], layers: nn.Module) -> Call:
    """A node of the graph as a call; args and kwargs: its arguments with their values."""
    schema = node.target._schema  # type: ignore[union-attr]
    arguments = {a.name: a.default_value for a in schema.arguments}
    arguments |= dict(zip((a.name for a in schema.arguments), args, strict=False)) | dict(kwargs)
    return Call(operator_name(node.target), layer_name(node, layers), node, arguments)


def layer_name(node: fx.Node, layers: nn.Module) -> str:
    """A layer of torch.nn that is one call has its path, anything else the name that torch gave it."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return node.name
    path, kind = stack[-1]
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    leaf = kind.startswith("torch.nn.modules.") and not any(layers.get_submodule(path).children())
    return path if leaf and path else node.name
