# SPDX-License-Identifier: Apache-2.0
"""The LSTM cell of a trained voice activity detector, Silero VAD's, quantized: what speech clips make of it.

The network around the cell stays real: magnitudes of a short-time Fourier transform (a convolution), four convolutions
with ReLU, the cell, and a sigmoid of one output, for every 512 samples of 16 kHz with the 64 before them.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from bittern.nn import LSTM, convert
from bittern.quant import Alternating

DATA = Path(os.environ.get("BITTERN_DATA", Path(__file__).parents[3] / "shared" / "data"))
CHUNK, BEFORE, BINS = 512, 64, 129
CLIPS, STEPS = 24, 28
"""Clips, and chunks of each: silence, the digit, silence."""
WEIGHTS = DATA / "silero_vad/silero_vad_16k.safetensors"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"{WEIGHTS} is missing; set BITTERN_DATA"),
]


def features(state: dict[str, Tensor], audio: Tensor) -> Tensor:
    """What the cell is given: [clips, samples] -> [clips, chunks, 128]."""
    chunks = F.pad(audio, (BEFORE, 0)).unfold(1, CHUNK + BEFORE, CHUNK)
    rows = F.pad(chunks.reshape(-1, 1, CHUNK + BEFORE), (0, BEFORE), mode="reflect")
    waves = F.conv1d(rows, state["stft_conv.weight"], stride=128)
    x = (waves[:, :BINS].square() + waves[:, BINS:].square()).sqrt()
    for i, stride in enumerate((1, 2, 2, 1), 1):
        x = F.conv1d(x, state[f"conv{i}.weight"], state[f"conv{i}.bias"], stride, padding=1).relu()
    return x.view(*chunks.shape[:2], -1)


class Detector(nn.Module):
    """The cell over all chunks, and the probability of speech in each."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        # a layer of one cell quantizes its weight once for all chunks
        self.cell = nn.LSTM(128, 128, batch_first=True)
        cell = {f"{n.partition('.')[2]}_l0": t for n, t in state.items() if n.startswith("lstm_cell.")}
        self.cell.load_state_dict(cell)
        self.weight, self.offset = state["final_conv.weight"].view(-1), state["final_conv.bias"]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cell(x)[0]
        return torch.sigmoid(y.relu() @ self.weight + self.offset)


def clips() -> Tensor:
    """[CLIPS, samples]: spoken digits of every speaker at 16 kHz, between stretches of silence."""
    file = np.load(DATA / "fsdd/fsdd_8khz_int16.npz")
    recorded, offsets = file["audio"], file["offsets"]
    audio = torch.zeros(CLIPS, CHUNK * STEPS)
    for i, row in enumerate(audio):
        clip = int(i * 3000 / CLIPS)
        samples = torch.from_numpy(recorded[offsets[clip] : offsets[clip + 1]].astype(np.float32))
        spectrum = torch.fft.rfft(samples / 32768.0)
        twice = torch.fft.irfft(F.pad(spectrum, (0, len(samples) // 2)), 2 * len(samples)) * 2.0
        row[4096 : 4096 + min(len(twice), CHUNK * STEPS - 8192)] = twice[: CHUNK * STEPS - 8192]
    return audio


@torch.no_grad()
def test_speech_is_found_by_a_cell_of_few_bits() -> None:
    state = load_file(WEIGHTS)
    real, audio = Detector(state).eval(), clips()
    x = features(state, audio)
    expected = real(x)
    spoken = expected > 0.5
    # the network is put together as its authors have it: silence is none, and speech is found in most clips
    assert float(expected[:, :6].max()) < 0.5
    assert float(spoken.any(1).float().mean()) >= 0.75
    least = {(2, None): 0.93, (3, None): 0.96, (4, None): 0.98, (2, 2): 0.87, (3, 3): 0.93, (4, 4): 0.96}
    """Shares of chunks with the same answer. bits of weights, of inputs; measured: 0.964, 0.987, 0.999, 0.927, 0.969,
    0.987."""
    distances = []
    for (bits, inputs), share in least.items():
        method = partial(Alternating, bits=bits, input_bits=inputs, cycles=15, input_cycles=2)
        made = convert(real, method, keep=())
        assert isinstance(made.cell, LSTM)
        found = made(x)
        assert float(((found > 0.5) == spoken).float().mean()) >= share
        distances.append(float((found - expected).abs().mean()))
    assert distances[:3] == sorted(distances[:3], reverse=True)
    assert distances[3:] == sorted(distances[3:], reverse=True)
