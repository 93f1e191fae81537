# SPDX-License-Identifier: Apache-2.0
"""Collects the layers of a network of float32 while the operators of a file are read.

Files of one sample write its batch of 1 anywhere, and often move numbers through shapes that mix it with others. So a
chain of moves is kept as the places that it reads in a value, and becomes layers where an operator computes with its
result, which has the batch first again. Numbers of the file, and sizes that follow from shapes, are worked out at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bittern.compat.onnx.file import MOST_VALUES, Network, Operator, UnreadError
from bittern.compat.real_network import Call, Permute, RealNetwork, Reshape, Slice, Take
from bittern.deploy.rearrangement import places_of, rearrangement

META = torch.device("meta")
MOST_MOVED = 2**24
"""Numbers of a sample that moves are followed through."""


class Computed(NamedTuple):
    """What the network computes: numbers of a value at these places."""

    value: int
    places: Tensor
    """int64, of the shape that the file gives it for one sample."""
    size: int
    """Numbers of one sample of the value."""


class Reader:
    """A network of layers in the making, and what each name stands for."""

    def __init__(self, network: Network) -> None:
        self.opset = network.opset
        self._layers: dict[str, nn.Module] = {}
        self._calls: list[Call] = []
        self.known: dict[str, Tensor | Computed] = dict(network.constants)
        self.known[network.input] = _whole(0, (1, *network.shape))
        self._shapes: dict[int, tuple[int, ...]] = {0: (1, *network.shape)}

    def made(self, outputs: Sequence[str]) -> RealNetwork:
        results = []
        for name in outputs:
            found = self.known.get(name)
            if not isinstance(found, Computed):
                raise UnreadError(f"nothing computes its result {name!r}")
            results.append(self.placed(found, name))
        return RealNetwork(self._layers, self._calls, results)

    # -- what operators read --------------------------------------------------------------------------------------

    def at(self, operator: Operator, place: int) -> Tensor | Computed | None:
        """What an input stands for, as `Operator.read` says."""
        return operator.read(self.known, place)

    def constant(self, operator: Operator, place: int) -> Tensor | None:
        """Numbers of the file; None: they are left out."""
        found = self.at(operator, place)
        if isinstance(found, Computed):
            raise UnreadError(f"input {place} must be numbers of the file")
        return found

    def whole_numbers(self, operator: Operator, place: int, attribute: str) -> list[int] | None:
        """A list that later versions of an operator read, and earlier ones have as an attribute."""
        found = self.constant(operator, place)
        if found is not None:
            if found.is_floating_point():
                raise UnreadError(f"input {place} must be whole numbers")
            return [int(n) for n in found.flatten().tolist()]
        given = operator.attrs.get(attribute)
        return None if given is None else [int(n) for n in given]

    def shape(self, operator: Operator, place: int = 0) -> tuple[int, ...]:
        """For one sample, the batch of 1 among its sizes."""
        found = self.at(operator, place)
        if found is None:
            raise UnreadError(f"it needs input {place}")
        return tuple(found.places.shape if isinstance(found, Computed) else found.shape)

    def value(self, operator: Operator, place: int = 0) -> int:
        """The value of a computed input, [batch, ...]."""
        found = self.at(operator, place)
        if not isinstance(found, Computed):
            raise UnreadError(f"input {place} must be computed")
        return self.placed(found, operator.inputs[place])

    # -- what operators write -------------------------------------------------------------------------------------

    def add(self, layer: nn.Module, name: str, inputs: Sequence[int]) -> int:
        """Append a layer; returns the number of what it writes."""
        own = re.sub(r"\W+", "_", name.rsplit("/", 1)[-1]) or "layer"
        key = f"{own}_{len(self._calls)}"
        found = self._shape_behind(layer, inputs)
        if not found or found[0] != 1 or math.prod(found) > MOST_VALUES:
            raise UnreadError(f"it makes {list(found)} of one sample; the batch must come first, and stay")
        self._layers[key] = layer
        self._calls.append(Call(key, tuple(inputs), len(self._calls) + 1))
        self._shapes[len(self._calls)] = found
        return len(self._calls)

    def wrote(self, operator: Operator, value: int, result: int = 0) -> None:
        self.known[operator.outputs[result]] = _whole(value, self._shapes[value])

    def _shape_behind(self, layer: nn.Module, inputs: Sequence[int]) -> tuple[int, ...]:
        """What torch says of one sample, without computing it."""
        state = {name: t.to(META) for name, t in (*layer.named_parameters(), *layer.named_buffers())}
        given = tuple(torch.empty(self._shapes[value], device=META) for value in inputs)
        try:
            found = torch.func.functional_call(layer.eval(), state, given)
        except Exception as error:
            raise UnreadError(f"torch refuses its sizes: {(str(error).splitlines() or ['?'])[0]}") from error
        return tuple(found.shape)

    def placed(self, found: Computed, name: str) -> int:
        """The value that lies as its places say, by layers that move numbers."""
        places = found.places
        if not places.shape or places.shape[0] != 1:
            raise UnreadError(f"{name!r} is {list(places.shape)} for one sample; the batch must come first")
        sample, value = places[0], found.value
        if tuple(places.shape) == self._shapes[value] and torch.equal(places.flatten(), places_of((found.size,))):
            return value
        steps = rearrangement(sample, found.size)
        if steps is None:
            return self.add(Take(sample), name, (value,))
        if tuple(self._shapes[value][1:]) != steps.split:
            value = self.add(Reshape(steps.split), f"{name}_split", (value,))
        for dim, (size, stretch) in enumerate(zip(steps.split, steps.stretches, strict=True), 1):
            if stretch != (0, size):
                value = self.add(Slice(dim, slice(*stretch)), f"{name}_slice", (value,))
        if list(steps.order) != sorted(steps.order):
            value = self.add(Permute([0, *(dim + 1 for dim in steps.order)]), f"{name}_permuted", (value,))
        if self._shapes[value] != (1, *steps.shape):
            value = self.add(Reshape(steps.shape), name, (value,))
        return value


def _whole(value: int, shape: tuple[int, ...]) -> Computed:
    """A value as it lies. Raises: UnreadError for a larger one than is followed."""
    count = math.prod(shape)
    if count > MOST_MOVED:
        raise UnreadError(f"a value of {list(shape)} is larger than {MOST_MOVED} numbers")
    return Computed(value, places_of(shape), count)
