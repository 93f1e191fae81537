# SPDX-License-Identifier: Apache-2.0
"""Collects the nodes of a program while the operators of a file are read: which value each tensor is, and how it lies.

Files have images as [batch, height, width, channels], programs as [batch, channels, height, width]; a value is turned
where an operator needs it otherwise, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from bittern.compat.tflite.file import Network, Operator, Value
from bittern.deploy.front import builder
from bittern.deploy.kinds.kind import IMAGE_DIMS

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


class UnsupportedError(ValueError):
    """An operator, or a way to use one, that bittern does not read."""


class Builder:
    """A program in the making."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.program = builder.Builder(len(network.inputs))
        self._as_filed: dict[int, int] = {place: value for value, place in enumerate(network.inputs)}
        """Tensor of the file -> value of the program that has its dimensions in the file's order."""
        self._channels_first: dict[int, int] = {}

    def value(self, place: int) -> Value:
        return self.network.values[place]

    def add(
        self,
        kind: str,
        name: str,
        inputs: Sequence[int],
        tensors: dict[str, Tensor | None] | None = None,
        /,
        **attrs: Any,
    ) -> int:
        """Append a node; returns the number of what it writes."""
        # TensorFlow joins the paths of all that it put into one operator; the first one's end tells which layer it is
        name = f"{len(self.program.nodes)}.{name.split(';')[0].rsplit('/', 1)[-1]}"
        return self.program.add(kind, name, inputs, tensors or {}, **attrs)

    def aten(self, operator: str, name: str, inputs: Sequence[int], dims: int, *arguments: Any) -> int:
        """Append an operator of torch that reads the inputs as one list, or the only one, then `arguments`."""
        given: list[Any] = [{"input": index, "order": list(range(dims))} for index in range(len(inputs))]
        first = given[0] if len(given) == 1 else given
        return self.add("aten", name, inputs, operator=operator, arguments=[first, *arguments])

    def image(self, place: int) -> int:
        """The value of a tensor [batch, height, width, channels], with channels first."""
        if place not in self._channels_first:
            self._need_dims(place, IMAGE_DIMS)
            filed = self._as_filed[place]
            turned = self.aten("permute.default", "channels first", (filed,), IMAGE_DIMS, TO_CHANNELS_FIRST)
            self._channels_first[place] = turned
        return self._channels_first[place]

    def as_filed(self, place: int) -> int:
        """The value of a tensor, with its dimensions in the file's order."""
        if place not in self._as_filed:
            turned = self._channels_first[place]
            self._as_filed[place] = self.aten(
                "permute.default", "channels last", (turned,), IMAGE_DIMS, TO_CHANNELS_LAST
            )
        return self._as_filed[place]

    def is_image(self, place: int) -> bool:
        """Whether a value lies with channels first already."""
        return place in self._channels_first

    def wrote(self, operator: Operator, value: int, *, image: bool) -> None:
        """Note what an operator wrote."""
        (self._channels_first if image else self._as_filed)[operator.outputs[0]] = value

    def same(self, operator: Operator, place: int) -> None:
        """An operator that changes nothing."""
        for known in (self._as_filed, self._channels_first):
            if place in known:
                known[operator.outputs[0]] = known[place]

    def _need_dims(self, place: int, dims: int) -> None:
        value = self.value(place)
        if len(value.shape) != dims:
            raise UnsupportedError(f"tensor {value.name!r} must have {dims} dimensions here; got {list(value.shape)}")
