# SPDX-License-Identifier: Apache-2.0
"""The Free Spoken Digit Dataset from an archive: digits spoken by six people, 8 kHz.

fsdd_8khz_int16.npz: audio, int16, all recordings one behind the other; offsets, int64, recording i is
audio[offsets[i]:offsets[i + 1]]; digit, uint8; speaker, text; take, uint8, counted for each digit of each speaker.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bittern.data.labelled_texts import file_in
from bittern.data.npz import TEXT, read_npz

FILE = "fsdd_8khz_int16.npz"
RATE_HZ = 8000
DIGITS = tuple(str(d) for d in range(10))
LOUDEST = 2**15
TEST_TAKES = 5
"""Takes 0 ... 4 are the official test part."""


@dataclass(frozen=True, eq=False, slots=True)
class SpokenDigits:
    """Recordings. audio: int16 [samples]; offsets: int64 [count + 1]; digits, takes: int64 [count]."""

    audio: Tensor
    offsets: Tensor
    digits: Tensor
    speakers: tuple[str, ...]
    takes: Tensor

    def __len__(self) -> int:
        return len(self.digits)

    def recording(self, index: int) -> Tensor:
        """int16 [its samples]."""
        start, end = self.offsets[index : index + 2].tolist()
        return self.audio[start:end]

    def waves(self, samples: int) -> Tensor:
        """float32 [count, samples] in [-1, 1]: the middle of each recording, with silence around a shorter one."""
        return torch.stack([middle(self.recording(index) / LOUDEST, samples) for index in range(len(self))])


def middle(sound: Tensor, samples: int) -> Tensor:
    """float32 [samples]: the middle of real sound [its samples], with silence around a shorter one."""
    start = max(0, (len(sound) - samples) // 2)
    sound = sound[start : start + samples]
    wave = torch.zeros(samples)
    before = (samples - len(sound)) // 2
    wave[before : before + len(sound)] = sound
    return wave


def spoken_digits(folder: str | Path) -> SpokenDigits:
    """Read all recordings. The official test part is that where `takes` < TEST_TAKES, of the same six speakers.

    Raises: FileNotFoundError; ValueError for a damaged file.
    Source: github.com/Jakobovski/free-spoken-digit-dataset; CC BY-SA 4.0.
    """
    path = file_in("spoken_digits", folder, FILE)
    arrays = read_npz(
        path,
        {
            "audio": np.dtype(np.int16),
            "offsets": np.dtype(np.int64),
            "digit": np.dtype(np.uint8),
            "speaker": TEXT,
            "take": np.dtype(np.uint8),
        },
    )
    audio, offsets, digits = arrays["audio"], arrays["offsets"], arrays["digit"]
    counts = {len(arrays[name]) for name in ("digit", "speaker", "take")} | {len(offsets) - 1}
    in_order = len(offsets) > 1 and offsets[0] == 0 and offsets[-1] == len(audio) and bool((np.diff(offsets) > 0).all())
    if len(counts) != 1 or not in_order or digits.max() >= len(DIGITS):
        raise ValueError(
            f"spoken_digits: {path} must hold a digit 0 ... 9, a speaker and a take for each recording, and offsets "
            f"that rise from 0 to its {len(audio)} samples; the archive is damaged: fetch it again"
        )
    return SpokenDigits(
        torch.from_numpy(audio),
        torch.from_numpy(offsets),
        torch.from_numpy(digits).long(),
        tuple(arrays["speaker"].tolist()),
        torch.from_numpy(arrays["take"]).long(),
    )
