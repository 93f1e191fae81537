# SPDX-License-Identifier: Apache-2.0
"""Collects the layers of a network of float32 while the operators of a file are read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from bittern.compat.real_network import Call, Concatenate, Pad, Permute, RealNetwork, Repeat, Reshape, Slice
from bittern.compat.tflite.build import AnyBuilder, UnsupportedError
from bittern.compat.tflite.file import Network, Value
from bittern.compat.tflite.flatbuffer import DamagedError


class RealBuilder(AnyBuilder):
    """A network of layers in the making."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self._layers: dict[str, nn.Module] = {}
        self._calls: list[Call] = []

    def made(self) -> RealNetwork:
        try:
            results = [self.as_filed(place) for place in self.network.outputs]
        except KeyError as error:
            raise DamagedError("nothing writes its result") from error
        return RealNetwork(self._layers, self._calls, results)

    def add(self, layer: nn.Module, name: str, inputs: Sequence[int]) -> int:
        """Append a layer; returns the number of what it writes."""
        own = re.sub(r"\W+", "_", name.split(";")[0].rsplit("/", 1)[-1]) or "layer"
        key = f"{own}_{len(self._calls)}"
        self._layers[key] = layer
        self._calls.append(Call(key, tuple(inputs), len(self._calls) + 1))
        return len(self._calls)

    def movable(self, value: Value) -> Value:
        if value.type != "float32":
            raise UnsupportedError(f"tensor {value.name!r} must be float32; got {value.type}")
        return value

    def nothing(self, value: Value) -> float:
        return 0.0

    def permuted(self, name: str, value: int, order: list[int]) -> int:
        return self.add(Permute(order), name, (value,))

    def reshaped(self, name: str, value: int, dims: int, shape: Sequence[int]) -> int:
        return self.add(Reshape(shape), name, (value,))

    def padded(self, name: str, value: int, dims: int, amount: list[int], number: float) -> int:
        return self.add(Pad(amount, number), name, (value,))

    def joined(self, name: str, values: Sequence[int], dims: int, dim: int) -> int:
        return self.add(Concatenate(dim), name, values)

    def sliced(self, name: str, value: int, dims: int, dim: int, part: slice) -> int:
        return self.add(Slice(dim, part), name, (value,))

    def repeated(self, name: str, value: int, dims: int, dim: int, times: int) -> int:
        return self.add(Repeat(dim, times), name, (value,))
