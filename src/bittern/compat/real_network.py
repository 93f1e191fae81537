# SPDX-License-Identifier: Apache-2.0
"""A network of float32 as it was read from a file: layers of torch in the order of the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Call(NamedTuple):
    """One layer of a network: its name, and the numbers of the values that it reads and writes."""

    layer: str
    inputs: tuple[int, ...]
    output: int


class RealNetwork(nn.Module):
    """Layers of torch. Call with what the file takes, a batch of any size; answers as the file does.

    A file with several results gives a tuple of them. An ordinary module: it trains, `bittern.pack` packs it,
    `bittern.quantize` quantizes it.
    """

    def __init__(self, layers: dict[str, nn.Module], calls: Sequence[Call], results: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self._calls = tuple(calls)
        self._results = tuple(results)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        values = {0: x}
        for layer, inputs, output in self._calls:
            values[output] = self.layers[layer](*(values[v] for v in inputs))
        found = tuple(values[value] for value in self._results)
        return found[0] if len(found) == 1 else found


class Permute(nn.Module):
    """Other dimensions first; those of the batch stay."""

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = tuple(order)

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


class Reshape(nn.Module):
    """The numbers of each sample in another shape."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.shape)


class Concatenate(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, self.dim)


class Pad(nn.Module):
    """amount: as F.pad has it."""

    def __init__(self, amount: Sequence[int], value: float = 0.0) -> None:
        super().__init__()
        self.amount, self.value = tuple(amount), value

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.amount, value=self.value)


class Slice(nn.Module):
    """One stretch along a dimension."""

    def __init__(self, dim: int, part: slice) -> None:
        super().__init__()
        self.dim, self.part = dim, part

    def forward(self, x: Tensor) -> Tensor:
        return x[(*(slice(None),) * self.dim, self.part)]


class Repeat(nn.Module):
    """Each entry along a dimension so many times."""

    def __init__(self, dim: int, times: int) -> None:
        super().__init__()
        self.dim, self.times = dim, times

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.times, self.dim)


class Take(nn.Module):
    """The numbers of each sample at these places, int64 of the shape of a sample of the result."""

    def __init__(self, places: Tensor) -> None:
        super().__init__()
        self.shape = tuple(places.shape)
        self.register_buffer("places", places.flatten())

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).index_select(1, self.get_buffer("places")).reshape(-1, *self.shape)


class Function(nn.Module):
    """A function for which torch has no layer."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Tensor) -> Tensor:
        return self.function(*given)


class Mean(nn.Module):
    def __init__(self, dims: Sequence[int], *, keep: bool) -> None:
        super().__init__()
        self.dims, self.keep = tuple(dims), keep

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.dims, self.keep)


class Two(nn.Module):
    """A function of two values, of which one may be numbers of the file."""

    constant: Tensor | None

    def __init__(
        self, function: Callable[[Tensor, Tensor], Tensor], constant: Tensor | None = None, *, first: bool = False
    ) -> None:
        super().__init__()
        self.function, self.first = function, first
        self.register_buffer("constant", constant)

    def forward(self, *given: Tensor) -> Tensor:
        if self.constant is None:
            return self.function(*given)
        (x,) = given
        return self.function(self.constant, x) if self.first else self.function(x, self.constant)


class MeanOfImage(nn.Module):
    """Means of what windows see of an image, where more padding lies on one side than on the other."""

    def __init__(self, kernel: Sequence[int], stride: Sequence[int], amount: Sequence[int], inverse: Tensor) -> None:
        super().__init__()
        self.kernel, self.stride, self.amount = tuple(kernel), tuple(stride), tuple(amount)
        self.register_buffer("inverse", inverse)

    def forward(self, x: Tensor) -> Tensor:
        sums = F.avg_pool2d(F.pad(x, self.amount), self.kernel, self.stride, divisor_override=1)
        return sums * self.get_buffer("inverse")


class Resize(nn.Module):
    """Bilinear to [height, width] of images [batch, channels, height, width].

    corners: "aligned"; "half", where a pixel is a square about its middle, as F.interpolate without aligned corners; or
    "first", where pixel i of the result lies at i * size / result. The last is that of aligned corners once the image
    and its result each have one more row and column, which repeat the last ones.
    """

    def __init__(self, size: Sequence[int], corners: str) -> None:
        super().__init__()
        self.size, self.corners = tuple(size), corners

    def forward(self, x: Tensor) -> Tensor:
        if self.corners != "first":
            return F.interpolate(x, self.size, mode="bilinear", align_corners=self.corners == "aligned")
        x = torch.cat([x, x[:, :, -1:]], 2)
        x = torch.cat([x, x[:, :, :, -1:]], 3)
        height, width = self.size
        y = F.interpolate(x, (height + 1, width + 1), mode="bilinear", align_corners=True)
        return y[:, :, :height, :width]
