# SPDX-License-Identifier: Apache-2.0
"""Packed images with a border, as fused convolutions read and write them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bittern.ops._check import words_for

WORD_BYTES = 8


@dataclass(frozen=True)
class BitImages:
    """Signs of images, packed along their channels, with a border of so many pixels around each.

    memory: int64, contiguous, plane after plane; the border holds the bits of the padding (0 for -1 and 0).
    """

    memory: Tensor
    batch: int
    height: int
    width: int
    channels: int
    border: int = 0
    planes: int = 1
    """Bit planes, one after another, the lowest first."""

    @property
    def pixel_words(self) -> int:
        return words_for(self.channels)

    @property
    def row_words(self) -> int:
        return (self.width + 2 * self.border) * self.pixel_words

    @property
    def image_words(self) -> int:
        return (self.height + 2 * self.border) * self.row_words

    @property
    def plane_words(self) -> int:
        return self.batch * self.image_words

    @property
    def bytes_before(self) -> int:
        """Bytes of the border in front of pixel (0, 0) of the first image."""
        return self.border * (self.row_words + self.pixel_words) * WORD_BYTES

    @property
    def bytes_behind(self) -> int:
        """Bytes of memory from that pixel on."""
        return max(0, self.memory.numel() * WORD_BYTES - self.bytes_before)

    @property
    def address(self) -> int:
        """Of pixel (0, 0) of the first image."""
        return self.memory.data_ptr() + self.bytes_before

    def view(self, plane: int = 0) -> Tensor:
        """int64 [batch, height, width, words] of one plane, without the border; shares the memory."""
        b = self.border
        memory = self.memory[plane * self.plane_words : (plane + 1) * self.plane_words]
        whole = memory.view(self.batch, self.height + 2 * b, self.width + 2 * b, self.pixel_words)
        return whole[:, b : b + self.height, b : b + self.width]

    @staticmethod
    def of(x: Tensor, channels: int) -> BitImages:
        """Of packed words [batch, height, width, words], without a border."""
        batch, height, width = x.shape[:3]
        return BitImages(x.contiguous().view(-1), batch, height, width, channels)

    @staticmethod
    def empty(batch: int, height: int, width: int, channels: int, border: int = 0, planes: int = 1) -> BitImages:
        """All bits 0, which a border and the surplus bits of the last word must be."""
        size = planes * batch * (height + 2 * border) * (width + 2 * border) * words_for(channels)
        return BitImages(torch.zeros(size, dtype=torch.int64), batch, height, width, channels, border, planes)
