# SPDX-License-Identifier: Apache-2.0
"""Networks whose max pools and concatenations end in signs, for the tests of several targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bittern.binary import BNN
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear


def randomize_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    """Statistics and a map as no network starts with them, slopes of both signs."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_(0, 2)
    norm.running_var.uniform_(0.3, 9)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)


class Windows(nn.Module):
    """Pools whose windows overlap, are padded, and reach beyond the image; relu, several norms, one dimension."""

    def __init__(self, method: Any = BNN) -> None:
        super().__init__()
        self.a = BinaryConv2d(5, 70, 3, padding=1, method=method)
        self.first = nn.Sequential(nn.Hardtanh(), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.BatchNorm2d(70))
        self.b = BinaryConv2d(70, 33, 3, padding=1, bias=True, method=method)
        self.second = nn.Sequential(
            nn.MaxPool2d((2, 3), (1, 2), (1, 0)), nn.BatchNorm2d(33), nn.ReLU(), nn.BatchNorm2d(33)
        )
        self.c = BinaryConv2d(33, 20, 1, method=method)
        self.d = BinaryConv1d(20, 16, 3, padding=1, method=method)
        self.third = nn.Sequential(nn.MaxPool1d(3, 2, 1), nn.BatchNorm1d(16))
        self.e = BinaryConv1d(16, 7, 3, method=method)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(self.second(self.b(self.first(self.a(x)))))
        return self.e(self.third(self.d(x.flatten(2)))).mean(2)


class Inception(nn.Module):
    """Branches side by side, of widths that fill no word, with norms behind the concatenation, pools and planes."""

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.a = BinaryConv2d(24, 33, 3, padding=1, method=method)
        self.b = BinaryConv2d(24, 64, 1, method=method)
        self.norm = nn.BatchNorm2d(33 + 24 + 64)
        self.c = BinaryConv2d(121, 40, 3, padding=1, method=method)
        self.d = BinaryConv2d(121, 25, 3, padding=1, method=method)
        self.late = nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(65), nn.Hardtanh())
        self.e = BinaryConv2d(65, 30, 3, method=method)
        self.f = BinaryLinear(30, 9, method=method)
        self.g = BinaryLinear(30, 5, method=method)
        self.head = BinaryLinear(44, 4, method=method)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norm(torch.cat([self.a(x), x, self.b(x)], 1))
        x = self.late(torch.cat([self.c(x), self.d(x)], 1))
        x = self.e(x).mean((2, 3))
        return self.head(torch.cat([self.f(x), self.g(x), x], -1))
