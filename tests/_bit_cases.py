# SPDX-License-Identifier: Apache-2.0
"""Cases of `pool_bits` and `concatenate_bits`: odd sizes, windows beyond the image, flips, unaligned parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from _conv_cases import words


@dataclass(frozen=True)
class Pool:
    """One pool of bits."""

    size: tuple[int, int] = (7, 9)
    channels: int = 70
    kernel: tuple[int, int] = (2, 2)
    stride: tuple[int, int] = (2, 2)
    padding: tuple[int, int] = (0, 0)
    ceil: bool = False
    flip: bool = False
    batch: int = 2

    def __str__(self) -> str:
        words = [self.batch, *self.size, self.channels, *self.kernel, *self.stride, *self.padding]
        return "x".join(map(str, words)) + "-ceil" * self.ceil + "-flip" * self.flip

    def make(self) -> tuple[Any, ...]:
        x = words(str(self), self.batch, *self.size, bits=self.channels)
        flip = words(str(self) + "flip", bits=self.channels) if self.flip else None
        return x, list(self.kernel), list(self.stride), list(self.padding), self.ceil, flip


def pools() -> Iterator[Pool]:
    for flip in (False, True):
        yield Pool(flip=flip)
        yield Pool(ceil=True, flip=flip)
        yield Pool(kernel=(3, 2), stride=(2, 1), padding=(1, 1), flip=flip)
        yield Pool(kernel=(3, 3), stride=(2, 2), padding=(1, 1), ceil=True, flip=flip)
        yield Pool(kernel=(3, 5), stride=(1, 4), padding=(0, 2), channels=64, flip=flip)
    yield Pool(kernel=(7, 9), stride=(1, 1))
    yield Pool(kernel=(2, 2), stride=(5, 5), ceil=True)  # pixels that no window sees, and a window of one pixel
    yield Pool(size=(1, 6), kernel=(1, 2), stride=(1, 2), channels=1)
    yield Pool(channels=200, batch=0)
    yield Pool(size=(90, 100), channels=300)  # worth several threads


PARTS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((5,), (64, 64)),
    ((5,), (1, 1, 1)),
    ((2, 3, 4), (63, 2, 64)),
    ((2, 3, 4), (65, 62)),
    ((2, 3, 4), (128, 70, 58, 3)),
    ((3,), (1, 128)),
    ((3,), (40, 24, 64, 130)),
    ((3,), (70,)),
    ((), (3, 130)),
    ((0,), (3, 64)),
    ((40000,), (33, 63)),  # worth several threads
)
"""(sizes in front of the words, channels of each part)."""


def parts(shape: tuple[int, ...], channels: tuple[int, ...]) -> tuple[Any, ...]:
    label = f"{shape}{channels}"
    return [words(f"{label}{i}", *shape, bits=bits) for i, bits in enumerate(channels)], list(channels)
