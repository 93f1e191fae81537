# SPDX-License-Identifier: Apache-2.0
"""Collects what a network becomes while the operators of a file are read: which value each tensor is, and how it lies.

Files have images as [batch, height, width, channels], layers as [batch, channels, height, width]; a value is turned
where an operator needs it otherwise, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from bittern.compat.tflite.file import Network, Operator, Value
from bittern.deploy.front import builder
from bittern.deploy.kinds.kind import IMAGE_DIMS

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


class UnsupportedError(ValueError):
    """An operator, or a way to use one, that bittern does not read."""


class AnyBuilder(ABC):
    """What networks of integers and of real numbers share: the places of values, and moves of numbers."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._as_filed: dict[int, int] = {place: value for value, place in enumerate(network.inputs)}
        """Tensor of the file -> value that has its dimensions in the file's order."""
        self._channels_first: dict[int, int] = {}

    def value(self, place: int) -> Value:
        """A tensor of the file. Raises: UnsupportedError for one that an operator leaves out."""
        if place < 0:
            raise UnsupportedError("it leaves out what it must read")
        return self.network.values[place]

    def image(self, place: int) -> int:
        """The value of a tensor [batch, height, width, channels], with channels first."""
        if place not in self._channels_first:
            need_dims(IMAGE_DIMS, self.value(place))
            filed = self._as_filed[place]
            self._channels_first[place] = self.permuted("channels first", filed, TO_CHANNELS_FIRST)
        return self._channels_first[place]

    def as_filed(self, place: int) -> int:
        """The value of a tensor, with its dimensions in the file's order."""
        if place not in self._as_filed:
            turned, shape = self._channels_first[place], self.value(place).shape
            if shape[1:3] == (1, 1):  # one pixel, whose numbers lie in the same order
                self._as_filed[place] = self.reshaped("channels last", turned, IMAGE_DIMS, shape[1:])
            else:
                self._as_filed[place] = self.permuted("channels last", turned, TO_CHANNELS_LAST)
        return self._as_filed[place]

    def is_image(self, place: int) -> bool:
        """Whether a value lies with channels first already."""
        return place in self._channels_first

    def all_images(self, places: Sequence[int]) -> bool:
        """Whether all of some values lie with channels first already."""
        return all(self.is_image(place) for place in places)

    def taken(self, place: int, *, image: bool) -> int:
        return self.image(place) if image else self.as_filed(place)

    def wrote(self, operator: Operator, value: int, *, image: bool, result: int = 0) -> None:
        """Note what an operator wrote."""
        (self._channels_first if image else self._as_filed)[operator.outputs[result]] = value

    @abstractmethod
    def movable(self, value: Value) -> Value:
        """A tensor of a type that this network has. Raises: UnsupportedError."""

    @abstractmethod
    def nothing(self, value: Value) -> float:
        """What stands for 0 in a tensor."""

    @abstractmethod
    def permuted(self, name: str, value: int, order: list[int]) -> int: ...

    @abstractmethod
    def reshaped(self, name: str, value: int, dims: int, shape: Sequence[int]) -> int:
        """dims: so many it has; shape: that of a sample."""

    @abstractmethod
    def padded(self, name: str, value: int, dims: int, amount: list[int], number: float) -> int:
        """amount: as F.pad has it."""

    @abstractmethod
    def joined(self, name: str, values: Sequence[int], dims: int, dim: int) -> int: ...

    @abstractmethod
    def sliced(self, name: str, value: int, dims: int, dim: int, part: slice) -> int: ...

    @abstractmethod
    def repeated(self, name: str, value: int, dims: int, dim: int, times: int) -> int:
        """Each entry along a dimension so many times."""


class Builder(AnyBuilder):
    """A program of integers in the making."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.program = builder.Builder(len(network.inputs))

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

    def movable(self, value: Value) -> Value:
        return value if value.type == "float32" else int8(value)

    def nothing(self, value: Value) -> float:
        return value.zero if value.scales else 0.0

    def permuted(self, name: str, value: int, order: list[int]) -> int:
        return self.aten("permute.default", name, (value,), len(order), order)

    def reshaped(self, name: str, value: int, dims: int, shape: Sequence[int]) -> int:
        return self.aten("reshape.default", name, (value,), dims, [-1, *shape])

    def padded(self, name: str, value: int, dims: int, amount: list[int], number: float) -> int:
        return self.aten("constant_pad_nd.default", name, (value,), dims, amount, number)

    def joined(self, name: str, values: Sequence[int], dims: int, dim: int) -> int:
        return self.aten("cat.default", name, values, dims, dim)

    def sliced(self, name: str, value: int, dims: int, dim: int, part: slice) -> int:
        return self.aten("slice.Tensor", name, (value,), dims, dim, part.start, part.stop, part.step)

    def repeated(self, name: str, value: int, dims: int, dim: int, times: int) -> int:
        return self.aten("repeat_interleave.self_int", name, (value,), dims, times, dim)


def int8(value: Value) -> Value:
    """A tensor of int8 with one scale. Raises: UnsupportedError."""
    if value.type != "int8" or len(value.scales) != 1 or not -128 <= value.zero <= 127:
        raise UnsupportedError(
            f"tensor {value.name!r} must be int8 with one scale; got {value.type}, {len(value.scales)} scales"
        )
    return value


def need_dims(dims: int, *values: Value) -> None:
    for value in values:
        if len(value.shape) != dims:
            raise UnsupportedError(f"tensor {value.name!r} must have {dims} dimensions; got {list(value.shape)}")
