# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits of 8 x 8 pixels, which come with bittern."""

from __future__ import annotations

from pathlib import Path

from bittern.bench.tracks.parts import Parts, image_parts
from bittern.bench.tracks.problem import Problem
from bittern.bench.tracks.problems._images import image_inputs, image_networks, image_recipe, image_use
from bittern.data.digits import CLASSES, SIDE, digits
from bittern.pretrained.use import Use


def _read(data: Path | None, train_size: int | None) -> Parts:
    return image_parts(digits(), train_size)


def _use(data: Path | None) -> Use:
    return image_use(digits())


DIGITS = Problem(
    name="digits",
    title="Digits, 8 x 8",
    source="1,797 handwritten digits (Alpaydin and Kaynak, UCI 1998, its test part), CC BY 4.0; they come with bittern",
    networks=image_networks(1, SIDE, CLASSES),
    recipe=image_recipe(),
    inputs=image_inputs(1, SIDE),
    read=_read,
    classes=tuple(str(digit) for digit in range(CLASSES)),
    pictures=True,
    use=_use,
    licence="CC BY 4.0: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
)
