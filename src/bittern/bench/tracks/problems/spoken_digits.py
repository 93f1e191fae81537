# SPDX-License-Identifier: Apache-2.0
"""Spoken digits: a second of sound as a log-mel spectrogram."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from bittern import models
from bittern.bench.tracks.parts import SHOWN, Parts, png, tensor_parts
from bittern.bench.tracks.problem import Network, Problem
from bittern.bench.tracks.problems._series import listed, normalized, real_inputs, recipe, statistics
from bittern.data.log_mel import LogMel
from bittern.data.spoken_digits import DIGITS, RATE_HZ, TEST_TAKES, spoken_digits
from bittern.pretrained.answers import Classes
from bittern.pretrained.preparations import SoundPreparation
from bittern.pretrained.use import Use
from bittern.quantizer import Method

FOLDER = "fsdd"
SECONDS = 1
SAMPLES = SECONDS * RATE_HZ
"""99 % of the recordings are shorter; of the others the middle is taken."""
SPECTROGRAM = LogMel(rate_hz=RATE_HZ)
SIZE = (SPECTROGRAM.bands, 1 + SAMPLES // SPECTROGRAM.hop)
BATCH_SIZE = 16
LEARNING_RATE = 1e-2
"""Of 0.003 and 0.01, with ReCU on held-out recordings after three epochs: 0.74 for 0.45."""
SHOWN_RANGE = 3.0
"""Standard deviations that a picture spans to both sides."""


def _build(method: Method | None) -> nn.Module:
    return models.ds_cnn(method, len(DIGITS), 1, input_size=SIZE)


def _read(data: Path | None, train_size: int | None) -> Parts:
    assert data is not None  # Problem.load has looked
    sound = spoken_digits(data / FOLDER)
    images = SPECTROGRAM(sound.waves(SAMPLES))
    is_test = sound.takes < TEST_TAKES
    # bands are the channels of the normalization, and rows of the image that the network sees
    train, test = (part.unsqueeze(1) for part in normalized(images[~is_test], images[is_test]))
    labels = sound.digits[~is_test], sound.digits[is_test]
    shown = [_picture(image) for image in test[:SHOWN]]
    return tensor_parts((train, labels[0]), (test, labels[1]), train_size, shown)


def _use(data: Path | None) -> Use:
    assert data is not None  # Problem.load has looked
    sound = spoken_digits(data / FOLDER)
    mean, std = statistics(SPECTROGRAM(sound.waves(SAMPLES))[sound.takes >= TEST_TAKES])
    return Use(DIGITS, SoundPreparation(SPECTROGRAM, SAMPLES, listed(mean), listed(std)), Classes())


def _picture(image: Tensor) -> str:
    """Low bands below."""
    return png((image.flip(1) / (2 * SHOWN_RANGE) + 0.5).clamp(0, 1))


SPOKEN_DIGITS = Problem(
    name="spoken_digits",
    title="Spoken digits",
    source="3,000 recordings of six speakers (Free Spoken Digit Dataset), CC BY-SA 4.0; takes 0 to 4 of each digit and "
    "speaker are the official test part, so no speaker is new in it",
    networks={"ds_cnn": Network(_build, "CNN")},
    recipe=recipe(BATCH_SIZE, LEARNING_RATE),
    inputs=real_inputs(1, *SIZE),
    read=_read,
    folder=FOLDER,
    classes=DIGITS,
    use=_use,
    licence="CC BY-SA 4.0: Free Spoken Digit Dataset, github.com/Jakobovski/free-spoken-digit-dataset",
)
