# SPDX-License-Identifier: Apache-2.0
"""A shelf of untrained networks, one of each kind of use, and made-up trainings of one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bittern.binary import BNN
from bittern.data import LogMel
from bittern.data.words import Vocabulary
from bittern.deploy import Packed, pack
from bittern.nn import BinaryConv2d
from bittern.pretrained.answers import Boxes, Classes
from bittern.pretrained.card import Card
from bittern.pretrained.preparations import ImagePreparation, SoundPreparation, StrokePreparation, TextPreparation
from bittern.pretrained.use import Use

COLOURS = ImagePreparation((3, 8, 16), (0.5, 0.25, 0.125), (0.5, 0.25, 0.125))
GREY = ImagePreparation((1, 8, 8), (0.5,), (0.25,))
WORDS = TextPreparation(Vocabulary(("?", "a", "naïve")), 4)
MELS = LogMel(window=64, hop=32, bands=4)
SOUND = SoundPreparation(MELS, 128, (-3.0, -2.0, -1.0, 0.0), (1.0, 2.0, 4.0, 8.0))
STROKE = StrokePreparation(5, (1.0, -1.0), (2.0, 0.5))
PREPARATIONS = (COLOURS, GREY, WORDS, SOUND, STROKE)


def low_bit(channels: int, classes: int) -> nn.Module:
    """Pictures [batch, channels, height, width] -> logits [batch, classes]."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        BinaryConv2d(channels, classes, 3, padding=1, method=BNN),
        nn.BatchNorm2d(classes),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ).eval()


def classifier(use: Use | None = None) -> Packed:
    """Of grey pictures of 8 x 8, in three classes."""
    packed = pack(low_bit(1, 3), torch.randn(2, 1, 8, 8))
    return with_use(packed, use or Use(("dark", "grey", "bright"), GREY, Classes()))


def detector() -> Packed:
    """Of two cells of 8 x 8 pixels, side by side, and two classes."""
    torch.manual_seed(1)
    model = nn.Conv2d(3, 7, 8, 8).eval()
    return with_use(pack(model, torch.randn(2, 3, 8, 16)), Use(("cat", "dog"), COLOURS, Boxes(8, 0.1)))


def with_use(packed: Packed, use: Use) -> Packed:
    return Packed(packed.program, packed.tensors, packed.info | use.to_info(), packed.device)


def card_of(name: str, content: bytes, **changes: Any) -> Card:
    usual: dict[str, Any] = {
        "name": name,
        "title": "Toy",
        "takes": "a toy",
        "classes": 3,
        "task": "toy",
        "network": "small",
        "method": "BNN",
        "recipe": "common",
        "epochs": 2,
        "train_size": None,
        "training": "2 epochs",
        "examples": {"trained on": 90, "held out": 10, "tested on": 100},
        "metric": "accuracy",
        "score": 0.75,
        "seed": 1,
        "chosen": "by lot",
        "scores": {"0": 0.5, "1": 0.75, "2": 0.7},
        "held_out": {"0": 0.5, "1": 0.6, "2": 0.7},
        "twin": {"0": 0.75, "1": 0.875, "2": 0.8},
        "probe": (0, 2),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "binary_weights": 27,
        "other_numbers": 10,
        "latency_s": None,
        "speedup": None,
        "latency_machine": None,
        "published": None,
        "data": "made up",
        "data_licence": "none needed",
        "licence": "Apache-2.0",
        "commands": ("bittern bench run",),
        "machine": "this one",
        "finished": "2026-11-30T00:00:00Z",
        "curves": {"train_loss": (1.5, 1.25)},
        "notes": ("a note",),
    }
    return Card(**{**usual, **changes})


def put(folder: Path, name: str, packed: Packed, **changes: Any) -> Card:
    """Write a network and its card."""
    content = packed.to_bytes()
    card = card_of(name, content, **changes)
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.bittern").write_bytes(content)
    (folder / f"{name}.json").write_text(card.to_json(), encoding="utf-8")
    return card


def altered(settings: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Settings with other values; None takes one out."""
    return {name: value for name, value in {**settings, **changes}.items() if value is not None}


def wav(path: Path, samples: Sequence[int], rate_hz: int = 8000, channels: int = 1, width: int = 2) -> Path:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(b"".join(sample.to_bytes(width, "little", signed=True) for sample in samples))
    return path
