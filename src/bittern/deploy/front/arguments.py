# SPDX-License-Identifier: Apache-2.0
"""The arguments of a call as the plain data that a node of the kind `aten` holds (`kinds.aten_call` reads it)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.front.builder import Ref
from bittern.deploy.front.sizes import NoSize, Size, order_of
from bittern.deploy.kinds.aten_call import MEMORY_FORMATS
from bittern.deploy.program import VALUE_TYPES
from bittern.deploy.size_expression import BATCH, along_batch


class BatchSource(NamedTuple):
    """An input of the program of which one size is the batch."""

    value: Ref
    dim: int

    @staticmethod
    def of(dims: Sequence[int | None]) -> BatchSource:
        """The first of the inputs that has one; dims: where each has it."""
        return next(BatchSource(Ref(value), dim) for value, dim in enumerate(dims) if dim is not None)


class Arguments:
    """Collects what a node reads while its arguments become data.

    metas: what torch.export says of each value; by_torch: values that operators of torch write, which therefore lie in
    memory as in the training graph. All others are laid out as they lie there before the operator sees them. batch:
    where to find the batch.
    """

    def __init__(self, metas: Mapping[Ref, Any], by_torch: Collection[Ref], batch: BatchSource) -> None:
        self._metas, self._by_torch, self._batch = metas, by_torch, batch
        self._read: list[Ref] = []
        self._grows = False
        self.tensors: dict[str, Tensor | None] = {}
        self.data: list[Any] = []

    @property
    def inputs(self) -> tuple[Ref, ...]:
        """Values that the node reads, an input of the model last where a size grows with the batch."""
        return (*self._read, self._batch.value) if self._grows or not self._read else tuple(self._read)

    def add(self, value: Any) -> None:
        """Append one argument. Raises: NoSize for what no file holds."""
        self.data.append(self._of(value))

    def _of(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return self._input(value)
        if isinstance(value, Tensor):
            role = f"t{len(self.tensors)}"
            self.tensors[role] = value
            return {"tensor": role}
        if isinstance(value, Size):
            return self._size(value)
        if isinstance(value, (list, tuple)):
            return [self._of(entry) for entry in value]
        return _plain(value)

    def _size(self, size: Size) -> dict[str, Any]:
        if BATCH not in size.names:
            return {"size": size.expression}
        self._grows = True
        if size.names != {BATCH}:
            return {"size": size.expression, "dim": self._batch.dim}
        times, plus = along_batch(size.expression, {})
        said = {"batch": times, "plus": plus, "dim": self._batch.dim}
        return {key: number for key, number in said.items() if number or key == "batch"}

    def _input(self, value: Ref) -> dict[str, Any]:
        if value not in self._read:
            self._read.append(value)
        entry: dict[str, Any] = {"input": self._read.index(value)}
        if value not in self._by_torch:
            entry["order"] = order_of(self._metas[value])
        return entry


def _plain(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return {"dtype": _name(VALUE_TYPES, value, "a type")}
    if isinstance(value, torch.memory_format):
        return {"memory_format": _name(MEMORY_FORMATS, value, "a memory format")}
    if isinstance(value, torch.device):
        return {"device": "own"}
    if isinstance(value, torch.layout) and value == torch.strided:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            raise NoSize("an argument is NaN, which no file holds; repair that number of the model")
        return {"number": "inf" if value > 0 else "-inf"}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise NoSize(f"an argument is {value!r}, which no file holds")


def _name(names: Mapping[str, Any], value: Any, what: str) -> str:
    found = next((name for name, known in names.items() if known == value), None)
    if found is None:
        raise NoSize(f"{value} is {what} that no program holds")
    return found
