# SPDX-License-Identifier: Apache-2.0
"""Scores of networks of others against numbers worked out by hand, and the networks themselves where the data are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from bittern.bench.integers.others import detectors, photographs, scores
from bittern.bench.integers.others.networks import Other, others
from bittern.bench.integers.others.run import Judged, judged_table, kept_in_float, noise_db
from bittern.bench.integers.others.silero import BINS, MAGNITUDES, Detector, clips, silero
from bittern.bench.integers.others.super_resolution import esrgan_slim
from bittern.ptq import quantize

DATA = Path(os.environ.get("BITTERN_DATA", Path(__file__).parents[3] / "shared" / "data"))


def boxes(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows)


def test_overlaps_and_the_best_of_each_class() -> None:
    a = boxes((0.0, 0.0, 0.4, 0.4, 0.9, 0), (0.1, 0.0, 0.5, 0.4, 0.8, 0), (0.1, 0.0, 0.5, 0.4, 0.7, 1))
    torch.testing.assert_close(detectors.overlaps(a[:1], a)[0], torch.tensor([1.0, 0.6, 0.6]))
    assert detectors.best(a)[:, 4].tolist() == pytest.approx([0.9, 0.7])
    assert detectors.best(a[:0]).shape == (0, 6)


def test_boxes_that_are_found_again() -> None:
    wanted = [boxes((0, 0, 0.4, 0.4, 0.9, 0), (0.5, 0.5, 1, 1, 0.9, 1)), boxes((0, 0, 1, 1, 0.9, 0))[:0]]
    found = [boxes((0, 0, 0.4, 0.3, 0.9, 0), (0.5, 0.5, 1, 1, 0.9, 2)), boxes((0, 0, 1, 1, 0.9, 0))]
    answers = iter((wanted, found))
    # one of two is found again, beside two that are none: 2 * 1 / (2 + 3)
    assert scores.boxes_again(lambda _: next(answers))((), (), None) == pytest.approx(0.4)


def test_boxes_of_a_cell_as_the_detector_writes_them() -> None:
    planes = torch.zeros(1, 85, 22, 22)
    planes[0, 0, 12, 8], planes[0, 5 + 7, 12, 8] = 0.9, 0.8
    (found,) = detectors.fastest_det([planes])
    score = 0.9**0.6 * 0.8**0.4
    wanted = (8 / 22 - 0.25, 12 / 22 - 0.25, 8 / 22 + 0.25, 12 / 22 + 0.25, score, 7)
    assert found[0].tolist() == pytest.approx(wanted, abs=1e-6)


def test_boxes_of_faces_begin_at_those_that_are_given() -> None:
    given = detectors.face_boxes()
    assert given.shape == (4420, 4)
    assert given[0].tolist() == pytest.approx([4 / 320, 4 / 240, 10 / 320, 10 / 240])
    probabilities, changes = torch.zeros(1, 4420, 2), torch.zeros(1, 4420, 4)
    probabilities[0, 4417, 1] = 0.95
    middle, size = given[4417, :2], given[4417, 2:]
    (found,) = detectors.faces([probabilities, changes])
    torch.testing.assert_close(found[0, :4], torch.cat([middle - size / 2, middle + size / 2]))


def test_peaks_and_masks() -> None:
    floats, found = torch.zeros(1, 20, 20, 2), torch.zeros(1, 20, 20, 2)
    floats[0, 3, 4, 0], floats[0, 9, 9, 1] = 0.8, 0.2  # the second joint is not seen
    found[0, 3, 5, 0] = 0.7
    assert scores.peaks([floats], [found], None) == 1.0
    found[0, 3, 7, 0] = 0.9
    assert scores.peaks([floats], [found], None) == 0.0
    a, b = torch.tensor([[0.9, 0.9, 0.1, 0.6]]), torch.tensor([[0.8, 0.4, 0.7, 0.6]])
    assert scores.masks([a], [b], None) == 0.5
    assert scores.speech([a], [b], None) == 0.5


def test_decibels_of_luma() -> None:
    truth = torch.zeros(1, 3, 8, 8)
    found = truth + 25.5 / 255
    # 10 % of 219 steps of luma, rounded to 26 of 255 a channel
    error = 26 / 255 * 219 / 255
    assert scores.psnr([], [found], truth) == pytest.approx(-20 * torch.tensor(error).log10().item(), abs=1e-3)
    assert noise_db([torch.ones(4)], [torch.full((4,), 0.9)]) == pytest.approx(20.0, abs=1e-4)


def test_the_table_marks_the_observer_that_calibration_chooses() -> None:
    rows = [
        Judged("Net", name, "IoU", 1.0, 0.9, 20.0, db, 1.0, True, ("norm: why",))
        for name, db in (("A", 9.0), ("B", 8.0))
    ]
    text = judged_table(rows)
    assert "A *" in text
    assert "B *" not in text
    assert list(kept_in_float(rows)) == ["Net, in float: norm: why"]


def test_names_are_told_apart_and_what_is_missing_is_said(tmp_path: Path) -> None:
    found = others()
    assert len({one.name for one in found}) == len(found)
    assert all("in the folder of --data" in str(one.missing(tmp_path)) for one in found)


NETWORKS = {one.name: one for one in others()}
LEAST = {"silero": 0.95, "selfie": 0.7}
"""Scores against the float network's answers, far below what was measured (docs/quantize.md): a few inputs only."""


@pytest.mark.data
@pytest.mark.parametrize("name", LEAST)
def test_networks_of_others_keep_their_answers(name: str) -> None:
    one: Other = NETWORKS[name]
    if one.missing(DATA):
        pytest.skip("needs the real data sets")
    model, given = one.load(DATA), one.given(DATA)
    network = quantize(model, given.calibration[:4], keep=one.keep)
    with torch.no_grad():
        wanted, found = model(given.calibration[:4]), network(given.calibration[:4])
    assert one.score((wanted,), (found,), None) >= LEAST[name]
    assert name == "silero" or not network.report.kept_float


@pytest.mark.data
def test_super_resolution_loses_little_and_is_better_than_bicubic() -> None:
    one = NETWORKS["esrgan"]
    if one.missing(DATA):
        pytest.skip("needs the real data sets")
    model, given = esrgan_slim(DATA / "esrgan_slim_sr", 2), one.given(DATA)
    network = quantize(model, given.calibration[:4])
    assert not network.report.kept_float
    small, truth = given.test[:4], given.truth
    assert truth is not None
    with torch.no_grad():
        floats = scores.psnr([], [model(small)], truth[:4])
    assert scores.psnr([], [network(small)], truth[:4]) >= 0.98 * floats
    larger = torch.nn.functional.interpolate(small, scale_factor=2, mode="bicubic")
    assert floats > scores.psnr([], [larger], truth[:4]) - 1.0
    assert photographs.COLOUR[0] == "astronaut.png"


class Chunk(torch.nn.Module):
    """Silero's detector as it is published: a chunk, and the state before it, to the chance of speech and the next."""

    def __init__(self, whole: Detector) -> None:
        super().__init__()
        self.whole, self.cell = whole, torch.nn.LSTMCell(128, 128)
        self.cell.load_state_dict({name.removesuffix("_l0"): t for name, t in whole.cell.state_dict().items()})

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        whole = self.whole
        waves = whole.stft_conv(x)
        x = (waves[:, :BINS].square() + waves[:, BINS:].square()).sqrt()
        for conv in whole.convs:
            x = conv(x).relu()
        h, c = self.cell(x.flatten(1), (h, c))
        return torch.sigmoid(whole.final(h.relu())), h, c


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "silero_vad").is_dir(), reason="the trained detector is missing; set BITTERN_DATA")
def test_a_published_cell_runs_in_integers_chunk_by_chunk() -> None:
    model = Chunk(silero(DATA / "silero_vad" / "silero_vad_16k.safetensors")).eval()
    audio = clips(DATA / "fsdd" / "fsdd_8khz_int16.npz", 0, 16)  # [clips, 1, chunks, samples]
    zero = torch.zeros(16, 128)

    def listen(step: Any) -> tuple[torch.Tensor, list[tuple[torch.Tensor, ...]]]:
        chances, before, (h, c) = [], [], (zero, zero)
        with torch.no_grad():
            for chunk in audio.unbind(2):
                before.append((chunk.unsqueeze(2), h, c))
                y, h, c = step(*before[-1])
                chances.append(y)
        return torch.cat(chances, 1), before

    wanted, calibration = listen(model)
    with torch.no_grad():
        torch.testing.assert_close(wanted, model.whole(audio), rtol=0, atol=1e-4)
    network = quantize(model, calibration, keep=[f"*{name}" for name in MAGNITUDES])
    assert not any("cell" in row.name for row in network.report.kept_float)
    packed = network.pack()
    assert "integer_lstm" in {node.kind for node in packed.program.nodes}
    got, _ = listen(network)
    assert torch.equal(listen(packed)[0], got)
    assert float(((got > 0.5) == (wanted > 0.5)).float().mean()) > 0.96  # as of all chunks at once
