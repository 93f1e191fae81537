# SPDX-License-Identifier: Apache-2.0
"""Where a value comes from while a model runs, to see which layers of one tap go past others.

Each tensor has the set of inputs and layers that it depends on (bits of an integer) and the 1-tap layer that it comes
from by functions of one value (a norm, a pool), if there is just one. A sum a + b shows that the layer of a goes past
others where

    b depends on everything that the layer's input depends on,      so both start at the same value
    b depends on more than that,                                    so b is not that value itself
    b does not depend on the layer,                                 so b stands beside it and not behind it

and where the same does not hold the other way round, as it does for two such layers side by side.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import Tensor, nn


class Flow(NamedTuple):
    """Origin of one tensor."""

    sources: int = 0
    """Bit i: it depends on input or layer i."""
    layer: int | None = None
    """The 1-tap layer that it comes from by functions of one value alone."""


class Flows:
    """Follows the tensors of one forward pass."""

    def __init__(self, args: Iterable[Tensor]) -> None:
        self.bypasses: set[int] = set()
        """ids of the layers whose output was added to a branch beside them."""
        self._flows: dict[int, tuple[weakref.ref[Tensor], Flow]] = {}
        self._layers: dict[int, tuple[int, int]] = {}
        """Index of a 1-tap layer -> its id, and what its input depends on."""
        self._count = 0
        for arg in args:
            self._put(arg, Flow(1 << self._next()))

    def layer(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Note that `module` made `output` of `inputs`."""
        before = 0
        for tensor in tensors_in(inputs):
            before |= self._of(tensor).sources
        index = self._next()
        if has_one_tap(module):
            self._layers[index] = (id(module), before)
        for tensor in tensors_in(output):
            self._put(tensor, Flow(before | 1 << index, index if index in self._layers else None))

    def function(self, func: Any, args: Any, result: Any) -> None:
        """Note that a torch function made `result` of `args`."""
        flows = [flow for flow in map(self._of, tensors_in(args)) if flow.sources]
        if len(flows) == 2 and getattr(func, "__name__", "") in _SUMS:
            self._sum(*flows)
        sources = 0
        for flow in flows:
            sources |= flow.sources
        layers = {flow.layer for flow in flows}
        made = Flow(sources, layers.pop() if len(layers) == 1 else None)
        for tensor in tensors_in(result):
            self._put(tensor, made)

    def _sum(self, a: Flow, b: Flow) -> None:
        found = [one.layer for one, other in ((a, b), (b, a)) if self._goes_past(one, other)]
        if len(found) == 1 and found[0] is not None:
            self.bypasses.add(self._layers[found[0]][0])

    def _goes_past(self, one: Flow, other: Flow) -> bool:
        if one.layer is None:
            return False
        before = self._layers[one.layer][1]
        behind = bool(other.sources >> one.layer & 1)
        return other.sources & before == before and other.sources != before and not behind

    def _next(self) -> int:
        self._count += 1
        return self._count - 1

    def _of(self, tensor: Tensor) -> Flow:
        ref, flow = self._flows.get(id(tensor), (None, Flow()))
        return flow if ref is not None and ref() is tensor else Flow()

    def _put(self, tensor: Tensor, flow: Flow) -> None:
        self._flows[id(tensor)] = (weakref.ref(tensor), flow)


_SUMS = frozenset({"add", "add_", "__add__", "__radd__", "__iadd__"})


def has_one_tap(module: nn.Module) -> bool:
    """Whether `module` is a convolution that looks at one pixel for each output."""
    return isinstance(module, (nn.Conv1d, nn.Conv2d)) and all(k == 1 for k in module.kernel_size)


def tensors_in(value: Any) -> list[Tensor]:
    """Tensors in a value, also inside tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return tensors_in(tuple(value.values()))
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in tensors_in(item)]
    return []
