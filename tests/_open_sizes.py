# SPDX-License-Identifier: Apache-2.0
"""Small networks whose inputs have sizes that a call chooses, one for each way in which people's networks use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.binary import BNN
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear


class Tokens(nn.Module):
    """Token ids and a mask; positions are a slice of a buffer, and counted; a sum is divided by the length."""

    positions: Tensor

    def __init__(self, most: int = 12) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(11, 16), nn.Embedding(most, 16)
        self.register_buffer("positions", torch.arange(most)[None])
        self.inner, self.head = BinaryLinear(16, 24, method=BNN), BinaryLinear(24, 5, method=BNN)

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        length = ids.shape[1]
        x = self.words(ids) + self.places(self.positions[:, :length])
        x = x + torch.arange(length).float()[:, None] / length
        x = F.hardtanh(self.inner(x)) * mask.unsqueeze(-1)
        return {"each": self.head(x), "mean": x.sum(1) / length}


class Causal(nn.Module):
    """Attention over what came before, its mask made of the length; heads are made by views."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.both = nn.LayerNorm(8), nn.Linear(8, 24)
        self.last = BinaryLinear(8, 6, method=BNN)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = (t.reshape(batch, length, 2, 4).transpose(1, 2) for t in self.both(self.norm(x)).chunk(3, -1))
        mask = torch.ones(length, length).tril().bool()
        y = F.scaled_dot_product_attention(*parts, attn_mask=mask)
        return self.last(y.transpose(1, 2).reshape(batch * length, width)).view(batch, length, 6)


class Recurrent(nn.Module):
    """A recurrent layer over a sequence; its state is returned if the steps come first."""

    def __init__(self, kind: type[nn.Module], **options: Any) -> None:
        super().__init__()
        self.steps = kind(5, 8, **options)
        self.head = BinaryLinear(16 if options.get("bidirectional") else 8, 3, method=BNN)

    def forward(self, x: Tensor) -> Any:
        y, state = self.steps(x)
        return self.head(y) if self.steps.batch_first else (self.head(y), state)


class Images(nn.Module):
    """Fully convolutional, with shortcuts, strides and an answer as large as the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardtanh())
        self.one = nn.Sequential(BinaryConv2d(8, 8, 3, padding=1, method=BNN), nn.BatchNorm2d(8))
        self.two = nn.Sequential(BinaryConv2d(8, 16, 3, 2, 1, method=BNN), nn.BatchNorm2d(16))
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = F.hardtanh(self.one(y) + y)
        y = self.two(F.max_pool2d(y, 3, 2, 1)) + 0.25
        return F.interpolate(self.last(y), size=x.shape[2:], mode="nearest")


class Halves(nn.Module):
    """A signal cut in the middle, swapped and turned round; a pooled part of it; a size in Python's arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = BinaryConv1d(4, 6, 3, padding=1, method=BNN)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[2]
        swapped = torch.cat([x[:, :, length // 2 :], x[:, :, : length // 2]], 2)
        y = self.conv(swapped.flip(2)) * (length**2 - 3 * length + min(length, 7))
        return F.pad(y, (1, length % 3)) + y.mean((1, 2), keepdim=True)


class Case(NamedTuple):
    """A network, what is open, and the arguments of a call."""

    build: Callable[[], nn.Module]
    dynamic: Any
    example: Callable[..., Any]
    """(batch, *sizes) -> what the network is called with."""
    packed_with: tuple[int, ...]
    """Sizes of the example that is packed."""
    tried: tuple[tuple[int, ...], ...]


def tokens(batch: int, length: int) -> Any:
    return {"ids": torch.randint(0, 11, (batch, length)), "mask": (torch.rand(batch, length) < 0.7).float()}


def rows(batch: int, length: int) -> Tensor:
    return torch.randn(batch, length, 5)


CASES = {
    "tokens": Case(Tokens, {"ids": {1: "length"}, "mask": {1: "length"}}, tokens, (5,), ((1,), (8,), (12,))),
    "attention": Case(Causal, {1: "length"}, lambda n, l: torch.randn(n, l, 8), (6,), ((2,), (7,), (20,))),
    "a recurrent layer": Case(
        lambda: Recurrent(nn.GRU, batch_first=True, bidirectional=True), {1: "length"}, rows, (4,), ((1,), (2,), (9,))
    ),
    "steps first": Case(
        lambda: Recurrent(nn.LSTM),
        {0: "length"},
        lambda n, l: torch.randn(l, n, 5),
        (4,),
        ((1,), (3,), (9,)),
    ),
    "images": Case(
        Images,
        {2: "height", 3: "width"},
        lambda n, h, w: torch.randn(n, 3, h, w),
        (12, 10),
        ((9, 16), (16, 9), (33, 33)),
    ),
    "halves": Case(Halves, {-1: "length"}, lambda n, l: torch.randn(n, 4, l), (6,), ((3,), (10,), (31,))),
}
