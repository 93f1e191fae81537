# SPDX-License-Identifier: Apache-2.0
"""The kinds of raw examples, one a file."""

from __future__ import annotations

from bittern.pretrained.preparations.image import ImagePreparation
from bittern.pretrained.preparations.preparation import Preparation, Prepared
from bittern.pretrained.preparations.sound import SoundPreparation
from bittern.pretrained.preparations.stroke import StrokePreparation
from bittern.pretrained.preparations.text import TextPreparation

ALL: tuple[type[Preparation], ...] = (ImagePreparation, TextPreparation, SoundPreparation, StrokePreparation)

__all__ = [
    "ALL",
    "ImagePreparation",
    "Preparation",
    "Prepared",
    "SoundPreparation",
    "StrokePreparation",
    "TextPreparation",
]
