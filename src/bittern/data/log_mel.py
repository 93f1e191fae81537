# SPDX-License-Identifier: Apache-2.0
"""Log-mel spectrograms of sound, by torch alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LogMel:
    """Sound [batch, samples] -> float32 [batch, bands, frames], frames = 1 + samples // hop.

    Frame t is the window around sample t * hop (beyond the ends there is silence), under a periodic Hann window
    h_n = (1 - cos(2 pi n / window)) / 2:

        P_k,t = |sum_n h_n x_(t * hop + n - window / 2) exp(-2 pi i k n / window)|^2,   k = 0 ... window / 2
        S_b,t = log(floor + sum_k W_b,k P_k,t)
        W_b,k = max(0, min((f_k - c_(b-1)) / (c_b - c_(b-1)), (c_(b+1) - f_k) / (c_(b+1) - c_b)))

    f_k = k * rate / window, and the corners c_-1 ... c_bands are evenly spaced from low_hz to high_hz in
    mel(f) = 2595 log10(1 + f / 700).

    rate_hz: of the samples. window: samples, even. hop: samples between frames. floor: what silence is.

    Raises: ValueError for sizes below 1, an odd window, or frequencies out of order or above half the rate, and for
    bands so narrow that one holds no frequency.
    Source: O'Shaughnessy 1987 (the mel formula); Davis and Mermelstein 1980 (triangles).
    """

    rate_hz: int = 8000
    window: int = 256
    hop: int = 128
    bands: int = 40
    low_hz: float = 20.0
    high_hz: float = 4000.0
    floor: float = 1e-6

    def __post_init__(self) -> None:
        if min(self.rate_hz, self.window, self.hop, self.bands) < 1 or self.window % 2:
            raise ValueError(
                f"LogMel: rate_hz, window, hop and bands must be at least 1, and window even; got {self.rate_hz}, "
                f"{self.window}, {self.hop}, {self.bands}"
            )
        if not 0 <= self.low_hz < self.high_hz <= self.rate_hz / 2 or not self.floor > 0:
            raise ValueError(
                f"LogMel: 0 <= low_hz < high_hz <= {self.rate_hz / 2} and floor > 0 must hold; got {self.low_hz}, "
                f"{self.high_hz}, {self.floor}"
            )
        empty = int((self.filters().sum(1) == 0).sum())
        if empty:
            raise ValueError(
                f"LogMel: {empty} of {self.bands} bands hold none of the {self.window // 2 + 1} frequencies; give a "
                "longer window, fewer bands or a higher low_hz"
            )

    def filters(self) -> Tensor:
        """W, float32 [bands, window / 2 + 1]."""
        ends = 2595 * torch.log10(1 + torch.tensor([self.low_hz, self.high_hz], dtype=torch.float64) / 700)
        mels = torch.linspace(float(ends[0]), float(ends[1]), self.bands + 2, dtype=torch.float64)
        corners = 700 * (10 ** (mels / 2595) - 1)
        frequencies = torch.arange(self.window // 2 + 1, dtype=torch.float64) * self.rate_hz / self.window
        below, centre, above = (corners[i : i + self.bands, None] for i in range(3))
        rising = (frequencies - below) / (centre - below)
        falling = (above - frequencies) / (above - centre)
        return torch.minimum(rising, falling).clamp(min=0).float()

    def __call__(self, sound: Tensor) -> Tensor:
        """Raises: ValueError for what is not [batch, samples]."""
        if sound.ndim != 2 or not sound.is_floating_point():
            raise ValueError(f"LogMel: needs real samples [batch, samples]; got {sound.dtype} {list(sound.shape)}")
        hann = torch.hann_window(self.window, periodic=True)
        spectrum = torch.stft(
            sound.float(), self.window, self.hop, window=hann, pad_mode="constant", return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log(self.filters() @ power + self.floor)
