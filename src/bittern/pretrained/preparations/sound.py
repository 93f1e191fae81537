# SPDX-License-Identifier: Apache-2.0
"""Sound: the middle of a recording as a log-mel spectrogram, normalized by band."""

from __future__ import annotations

import dataclasses
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from bittern.data.log_mel import LogMel
from bittern.data.spoken_digits import LOUDEST, middle
from bittern.pretrained.fields import number, numbers, only, spreads, whole
from bittern.pretrained.preparations.preparation import Preparation, Prepared

SAMPLE_BYTES = 2
"""16 bits."""
LONGEST_S = 600
"""Of a file; only its middle counts, and a header may claim anything."""
MOST_SAMPLES = 2**20
"""Of an input."""


@dataclass(frozen=True)
class SoundPreparation(Preparation):
    """(spectrogram - mean) / std of each band, [1, bands, frames], of the middle `samples` samples of a recording.

    Around a shorter one there is silence. A tensor is real samples in [-1, 1] at the rate of the spectrogram; a file is
    WAV: one channel, 16 bits, that rate.

    Raises: ValueError for other numbers of mean or std than bands, and for samples out of range.
    """

    spectrogram: LogMel
    samples: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    kind: ClassVar[str] = "sound"
    takes: ClassVar[str] = "sound: the path of a WAV file (one channel, 16 bits), or a tensor [samples] in [-1, 1]"

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= MOST_SAMPLES or not len(self.mean) == len(self.std) == self.spectrogram.bands:
            raise ValueError(
                f"sound: needs 1 ... {MOST_SAMPLES} samples, and a mean and a std for each of {self.spectrogram.bands} "
                f"bands; got {self.samples}, {len(self.mean)} and {len(self.std)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (1, self.spectrogram.bands, 1 + self.samples // self.spectrogram.hop)

    def __call__(self, raw: Any) -> Prepared:
        if isinstance(raw, (str, Path)):
            raw = read_wav(Path(raw), self.spectrogram.rate_hz)
        if not isinstance(raw, Tensor):
            raise self.refuse(raw)
        if raw.ndim != 1 or not raw.is_floating_point() or not bool((raw.abs() <= 1).all()):
            raise ValueError(
                f"prepare: sound must be real samples [samples] in [-1, 1]; got {raw.dtype} {list(raw.shape)}; "
                f"divide 16-bit samples by {LOUDEST}"
            )
        image = self.spectrogram(middle(raw.float(), self.samples).unsqueeze(0))
        mean, std = (torch.tensor(values).view(1, -1, 1) for values in (self.mean, self.std))
        return Prepared(((image - mean) / std).unsqueeze(1))

    def settings(self) -> Mapping[str, Any]:
        own = {"samples": self.samples, "mean": list(self.mean), "std": list(self.std)}
        return own | dataclasses.asdict(self.spectrogram)

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        mels = [field.name for field in dataclasses.fields(LogMel)]
        only(settings, ("samples", "mean", "std", *mels), "sound")
        sizes = {name: whole(settings[name], f"sound: {name}", 1) for name in ("rate_hz", "window", "hop", "bands")}
        if max(sizes.values()) > MOST_SAMPLES:
            raise ValueError(f"sound: sizes must be at most {MOST_SAMPLES}; got {sizes}")
        reals = {name: number(settings[name], f"sound: {name}", 0.0) for name in ("low_hz", "high_hz", "floor")}
        mean, std = numbers(settings["mean"], "sound: mean"), spreads(settings["std"], "sound: std")
        return cls(LogMel(**sizes, **reals), whole(settings["samples"], "sound: samples", 1), mean, std)  # type: ignore[arg-type]


def read_wav(path: Path, rate_hz: int) -> Tensor:
    """float32 [samples] in [-1, 1]. Raises: FileNotFoundError; ValueError for another kind of file."""
    if not path.is_file():
        raise FileNotFoundError(f"prepare: no file {path}")
    try:
        with wave.open(str(path), "rb") as file:
            found = file.getnchannels(), file.getsampwidth(), file.getframerate()
            if found != (1, SAMPLE_BYTES, rate_hz):
                raise ValueError(
                    f"must have 1 channel of 16 bits at {rate_hz} Hz; got {found[0]} of {8 * found[1]} at {found[2]} "
                    "Hz; convert it"
                )
            # as many as the file holds, whatever its header claims
            data = file.readframes(min(file.getnframes(), LONGEST_S * rate_hz))
    except (wave.Error, EOFError, ValueError) as error:
        raise ValueError(f"prepare: {path} is not the WAV file expected: {error}") from error
    count = len(data) // SAMPLE_BYTES
    if not count:
        raise ValueError(f"prepare: {path} holds no sound")
    samples = torch.frombuffer(bytearray(data[: SAMPLE_BYTES * count]), dtype=torch.int16)
    return samples.float() / LOUDEST
