# SPDX-License-Identifier: Apache-2.0
"""Silero's voice activity detector (16 kHz), over all chunks of a clip at once.

A chunk is 512 samples with the 64 before them. The convolutions of a chunk run along the last dimension of an image
[chunk, sample], so that a sample of a batch stays a clip.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

CHUNK, BEFORE, BINS = 512, 64, 129
STEPS = 28
"""Chunks of a clip: silence, a spoken digit, silence."""
CLIPS = 3000
"""In the data."""


MAGNITUDES = ("stft_conv", "slice_*", "square*", "add", "sqrt")
"""Steps whose loud and quiet sounds are farther apart, once squared, than int8 reaches: to be left float."""


class Detector(nn.Module):
    """x [clips, 1, chunks, 640] -> the probability of speech in each chunk, [clips, chunks]."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv2d(1, 2 * BINS, (1, 256), (1, 128), bias=False)
        sizes = ((BINS, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, (1, 3), (1, s), (0, 1)) for i, o, s in sizes)
        self.cell = nn.LSTM(128, 128, batch_first=True)
        self.final = nn.Linear(128, 1)

    def forward(self, x: Tensor) -> Tensor:
        waves = self.stft_conv(x)
        x = (waves[:, :BINS].square() + waves[:, BINS:].square()).sqrt()
        for conv in self.convs:
            x = F.relu(conv(x))
        y, _ = self.cell(x.flatten(2).transpose(1, 2))
        return torch.sigmoid(self.final(F.relu(y))).flatten(1)


def silero(file: Path) -> Detector:
    """With the weights of its package's file. Raises: OSError, KeyError."""
    given, model = load_file(file), Detector()
    state = {"stft_conv.weight": given["stft_conv.weight"].unsqueeze(2)}
    for i in range(4):
        state[f"convs.{i}.weight"] = given[f"conv{i + 1}.weight"].unsqueeze(2)
        state[f"convs.{i}.bias"] = given[f"conv{i + 1}.bias"]
    state |= {f"cell.{n.partition('.')[2]}_l0": t for n, t in given.items() if n.startswith("lstm_cell.")}
    state |= {"final.weight": given["final_conv.weight"].flatten(1), "final.bias": given["final_conv.bias"]}
    model.load_state_dict(state)
    return model.eval()


def clips(file: Path, first: int, count: int) -> Tensor:
    """[count, 1, STEPS, 640]: spoken digits at 16 kHz between stretches of silence, every so many of the data."""
    with np.load(file, allow_pickle=False) as arrays:
        recorded, offsets = arrays["audio"], arrays["offsets"]
    audio = torch.zeros(count, CHUNK * STEPS)
    for i, row in enumerate(audio):
        clip = (first + i * (CLIPS // count)) % CLIPS
        samples = torch.from_numpy(recorded[offsets[clip] : offsets[clip + 1]].astype(np.float32)) / 32768.0
        spectrum = torch.fft.rfft(samples)
        twice = 2.0 * torch.fft.irfft(F.pad(spectrum, (0, len(samples) // 2)), 2 * len(samples))
        room = CHUNK * STEPS - 2 * 4096
        row[4096 : 4096 + min(len(twice), room)] = twice[:room]
    chunks = F.pad(audio, (BEFORE, 0)).unfold(1, CHUNK + BEFORE, CHUNK)
    padded = F.pad(chunks.reshape(-1, 1, CHUNK + BEFORE), (0, BEFORE), mode="reflect")
    return padded.view(count, 1, STEPS, -1)
