# SPDX-License-Identifier: Apache-2.0
"""Collects the nodes and tensors of a program while a graph is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from bittern.deploy.errors import PackError
from bittern.deploy.finite import all_finite, any_nan
from bittern.deploy.format import FILE_TYPES
from bittern.deploy.front.sizes import Size
from bittern.deploy.kinds.kind import contiguous
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.program import Attr, Node, tensor_name


class Ref(int):
    """Number of a program value, as it stands among the arguments of a call."""


class Builder:
    """Appends one node after another."""

    def __init__(self, inputs: int) -> None:
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self._next = inputs  # they are the first values
        self._calls: dict[str, int] = {}

    def add(
        self, kind: str, name: str, inputs: Sequence[int], tensors: dict[str, Tensor | None], **attrs: Attr | list[Any]
    ) -> Ref:
        """Append a node; tensors that are None are left out. Returns the number of its value."""
        name = self.unique(name)
        names = {}
        for role, tensor in tensors.items():
            if tensor is not None:
                names[role] = tensor_name(name, role)
                self.tensors[names[role]] = checked(name, role, tensor, infinite=KINDS[kind].infinite)
        value = Ref(self._next)
        self._next += 1
        self.nodes.append(Node(kind, name, tuple(inputs), value, {k: _data(v) for k, v in attrs.items()}, names))
        return value

    def unique(self, name: str) -> str:
        """A name that no node has: a layer may be called more than once."""
        calls = self._calls[name] = self._calls.get(name, 0) + 1
        return name if calls == 1 else self.unique(f"{name}#{calls}")


def _data(value: Any) -> Any:
    """An attribute with its sizes as data (`named_sizes`)."""
    if isinstance(value, Size):
        return {"size": value.expression}
    return [_data(entry) for entry in value] if isinstance(value, list) else value


def checked(name: str, role: str, tensor: Tensor, *, infinite: bool = False) -> Tensor:
    """A copy of a parameter for the file, on the CPU. Raises: PackError for NaN, infinity or a type no file holds."""
    tensor = contiguous(tensor.detach().cpu()).clone()  # with the strides that a file gives it
    if tensor.dtype not in (dtype for dtype, _ in FILE_TYPES.values()):
        advice = "call model.float()" if tensor.is_floating_point() else "use int64 or bool"
        raise PackError(
            f"pack: {role!r} of layer {name!r} must be float32 or of integers; got {tensor.dtype}; {advice}"
        )
    if tensor.is_floating_point() and (any_nan(tensor) if infinite else not all_finite(tensor)):
        what = "NaN" if infinite else "NaN or infinity"
        raise PackError(f"pack: {role!r} of layer {name!r} holds {what}; train it again or repair it")
    return tensor
