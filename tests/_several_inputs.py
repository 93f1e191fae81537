# SPDX-License-Identifier: Apache-2.0
"""Small networks that take more than one tensor, one for each way in which people's networks do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.binary import BNN
from bittern.deploy.parameters import arguments_of
from bittern.deploy.structure import named
from bittern.nn import BinaryConv2d, BinaryLinear


class Siamese(nn.Module):
    """Two images through one trunk; a scale that is None or a number."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.trunk = nn.Sequential(
            nn.BatchNorm2d(16), BinaryConv2d(16, 24, 3, padding=1, method=BNN), nn.BatchNorm2d(24), nn.Hardtanh()
        )
        self.last = BinaryConv2d(24, 8, 3, method=BNN)

    def embed(self, x: Tensor) -> Tensor:
        return self.last(self.trunk(self.stem(x))).mean((2, 3))

    def forward(self, left: Tensor, right: Tensor, scale: float | None = None) -> Tensor:
        distance = self.embed(left) - self.embed(right)
        return distance if scale is None else distance * scale


class ImageAndTokens(nn.Module):
    """An image, token ids and a mask of them, which is a table for all samples or one for each."""

    def __init__(self) -> None:
        super().__init__()
        self.image = BinaryConv2d(3, 16, 3, method=BNN)
        self.words = nn.Embedding(11, 16)
        self.head = BinaryLinear(16, 5, method=BNN)

    def forward(self, image: Tensor, tokens: Tensor, *, mask: Tensor) -> dict[str, Tensor]:
        words = (self.words(tokens) * mask.unsqueeze(-1)).sum(-2)
        both = self.image(image).mean((2, 3)) + words
        return {"scores": self.head(both), "words": words}


class Cell(nn.Module):
    """One step of an LSTM: takes its state and returns it."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.step = nn.LSTM(12, 16, 2, batch_first=batch_first)
        self.head = BinaryLinear(16, 6, method=BNN)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, (h, c) = self.step(x, state)
        return self.head(y), (h, c)


class Denoiser(nn.Module):
    """A latent image and a time: of each sample, or one for all."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 16, 3, padding=1)
        self.time = nn.Linear(8, 16)
        self.middle = BinaryConv2d(16, 16, 3, padding=1, method=BNN)
        self.norm = nn.GroupNorm(4, 16)
        self.last = nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, latent: Tensor, timestep: Tensor, return_dict: bool = True) -> Any:
        times = timestep.expand(latent.shape[0]) if timestep.ndim == 0 else timestep
        angles = times.float().unsqueeze(1) * torch.arange(1, 5)
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        x = self.first(latent)
        x = x + self.middle(self.norm(x) + time[:, :, None, None])
        noise = self.last(F.silu(x))
        return {"sample": noise} if return_dict else (noise,)


class Boxes(nn.Module):
    """Images in a list, their sizes in a dict, of which one is not read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = BinaryConv2d(3, 8, 3, method=BNN)

    def forward(self, images: list[Tensor], sizes: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        joined = torch.cat(images, 1)
        return self.conv(joined[:, 1:4]).flatten(1)[:, :4] * sizes["size"], sizes["size"], images[0]


class Case(NamedTuple):
    """A network, and the arguments of a call with so many samples."""

    build: Callable[[], nn.Module]
    example: Callable[[int], Any]
    names: tuple[str, ...]
    """Of the inputs."""
    dims: tuple[int | None, ...]
    """Which dimension of each is the batch."""


def _mask(batch: int) -> Tensor:
    return torch.rand(batch, 7) < 0.6


CASES = {
    "two images": Case(
        Siamese, lambda n: (torch.randn(n, 3, 9, 8), torch.randn(n, 3, 9, 8)), ("left", "right"), (0, 0)
    ),
    "by name, one a constant": Case(
        Siamese,
        lambda n: {"left": torch.randn(n, 3, 9, 8), "right": torch.randn(n, 3, 9, 8), "scale": 0.5},
        ("left", "right"),
        (0, 0),
    ),
    "an image, tokens and their mask": Case(
        ImageAndTokens,
        lambda n: {"image": torch.randn(n, 3, 6, 6), "tokens": torch.randint(0, 11, (n, 7)), "mask": _mask(n)},
        ("image", "tokens", "mask"),
        (0, 0, 0),
    ),
    "one mask for all samples": Case(
        ImageAndTokens,
        lambda n: {"mask": _mask(1)[0], "tokens": torch.randint(0, 11, (n, 7)), "image": torch.randn(n, 3, 6, 6)},
        ("image", "tokens", "mask"),
        (0, 0, None),
    ),
    "a state": Case(
        Cell,
        lambda n: (torch.randn(n, 3, 12), (torch.randn(2, n, 16), torch.randn(2, n, 16))),
        ("x", "state.0", "state.1"),
        (0, 1, 1),
    ),
    "times": Case(
        Denoiser, lambda n: (torch.randn(n, 4, 8, 8), torch.randint(0, 9, (n,))), ("latent", "timestep"), (0, 0)
    ),
    "a time for all samples": Case(
        Denoiser,
        lambda n: (torch.randn(n, 4, 8, 8), torch.tensor(7), False),
        ("latent", "timestep"),
        (0, None),
    ),
    "a list and a dict": Case(
        Boxes,
        lambda n: (
            [torch.randn(n, 2, 5, 5), torch.randn(n, 3, 5, 5)],
            {"unread": torch.randn(n, 2).double(), "size": torch.randn(n, 1)},
        ),
        ("images.0", "images.1", "sizes.unread", "sizes.size"),
        (0, 0, 0, 0),
    ),
}


def answers(run: Callable[..., Any], example: Any) -> dict[str, Tensor]:
    """The tensors of a call, by name."""
    args, kwargs = arguments_of(example)
    found = named(run(*args, **kwargs))
    assert found is not None
    return found


def assert_same(run: Callable[..., Any], model: nn.Module, example: Any) -> None:
    got, expected = answers(run, example), answers(model, example)
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name].dtype == value.dtype
        assert torch.equal(got[name], value), name
