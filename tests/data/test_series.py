# SPDX-License-Identifier: Apache-2.0
"""Readers of sound, strokes and sensor series, spectrograms, and points of images."""

from __future__ import annotations

import contextlib
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from _tolerance import assert_reduction
from bittern.data.log_mel import LogMel
from bittern.data.motions import basic_motions
from bittern.data.points import points_of
from bittern.data.spoken_digits import spoken_digits
from bittern.data.strokes import strokes


def write_digits(folder: Path, **changes: np.ndarray) -> Path:
    arrays = {
        "audio": np.arange(1, 10, dtype=np.int16) * 1000,
        "offsets": np.array([0, 2, 9]),
        "digit": np.array([7, 0], np.uint8),
        "speaker": np.array(["ann", "bo"]),
        "take": np.array([4, 5], np.uint8),
    }
    np.savez(folder / "fsdd_8khz_int16.npz", **(arrays | changes))
    return folder


def test_spoken_digits(tmp_path: Path) -> None:
    data = spoken_digits(write_digits(tmp_path))
    assert (len(data), data.speakers, data.digits.tolist(), data.takes.tolist()) == (2, ("ann", "bo"), [7, 0], [4, 5])
    assert data.recording(1).tolist() == [3000, 4000, 5000, 6000, 7000, 8000, 9000]
    waves = data.waves(5) * 2**15
    # the first in silence, of the second the middle
    assert waves.tolist() == [[0, 1000, 2000, 0, 0], [4000, 5000, 6000, 7000, 8000]]
    assert (data.waves(4) * 2**15)[1].tolist() == [4000, 5000, 6000, 7000]


@pytest.mark.parametrize(
    "changes",
    [
        {"offsets": np.array([0, 2])},
        {"offsets": np.array([0, 2, 8])},
        {"offsets": np.array([0, 0, 9])},
        {"offsets": np.array([0, -2, 9])},
        {"digit": np.array([7, 10], np.uint8)},
        {"speaker": np.array(["ann"])},
        {"offsets": np.array([0]), "digit": np.empty(0, np.uint8), "take": np.empty(0, np.uint8)},
    ],
)
def test_spoken_digits_refuse_damage(tmp_path: Path, changes: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=r"spoken_digits: .* must hold a digit 0 \.\.\. 9, a speaker and a take"):
        spoken_digits(write_digits(tmp_path, **changes))


def test_log_mel_is_its_formula() -> None:
    """Sums of the docstring, written as loops in float64."""
    rate, window, hop, bands = 80, 16, 6, 3
    mel = LogMel(rate_hz=rate, window=window, hop=hop, bands=bands, low_hz=2.0, high_hz=40.0, floor=1e-3)
    sound = torch.randn(1, 25, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = mel(sound)
    assert got.shape == (1, bands, 1 + 25 // hop)

    def to_mel(f: float) -> float:
        return 2595 * math.log10(1 + f / 700)

    ends = to_mel(2.0), to_mel(40.0)
    corners = [700 * (10 ** ((ends[0] + i * (ends[1] - ends[0]) / (bands + 1)) / 2595) - 1) for i in range(bands + 2)]
    expected = torch.zeros(1, bands, got.shape[2], dtype=torch.float64)
    largest = 0.0
    for t in range(got.shape[2]):
        total = [0.0] * bands
        for k in range(window // 2 + 1):
            value = 0j
            for n in range(window):
                place = t * hop + n - window // 2
                x = float(sound[0, place]) if 0 <= place < 25 else 0.0
                angle = -2 * math.pi * k * n / window
                value += (1 - math.cos(2 * math.pi * n / window)) / 2 * x * complex(math.cos(angle), math.sin(angle))
            f = k * rate / window
            for b in range(bands):
                c0, c1, c2 = corners[b : b + 3]
                total[b] += max(0.0, min((f - c0) / (c1 - c0), (c2 - f) / (c2 - c1))) * abs(value) ** 2
        largest = max(largest, *total)
        for b in range(bands):
            expected[0, b, t] = 1e-3 + total[b]
    assert_reduction(got.exp(), expected, 2 * window, largest)


def test_log_mel_of_silence_and_a_tone() -> None:
    mel = LogMel()
    assert torch.equal(mel(torch.zeros(2, 300)), torch.full((2, 40, 3), mel.floor).log())
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(2000) / 8000)[None]
    band = int(mel(tone)[0, :, 8].argmax())
    corners = torch.linspace(2595 * math.log10(1 + 20 / 700), 2595 * math.log10(1 + 4000 / 700), 42)
    assert abs(float(corners[band + 1]) - 2595 * math.log10(1 + 1000 / 700)) <= float(corners[1] - corners[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop": 0}, "must be at least 1"),
        ({"window": 255}, "window even"),
        ({"high_hz": 4001.0}, r"high_hz <= 4000\.0"),
        ({"low_hz": 4000.0}, "low_hz < high_hz"),
        ({"floor": 0.0}, "floor > 0"),
        ({"bands": 120}, "of 120 bands hold none of the 129 frequencies"),
    ],
)
def test_log_mel_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogMel(**options)
    with pytest.raises(ValueError, match=r"needs real samples \[batch, samples\]; got torch.int16 \[1, 300\]"):
        LogMel()(torch.zeros(1, 300, dtype=torch.int16))


def stroke(label: str, *points: tuple[Any, Any]) -> dict[str, Any]:
    return {"index": 0, "strokePoints": [{"x": x, "y": y} for x, y in points], "label": label}


def write_strokes(folder: Path, *found: Any) -> Path:
    (folder / "a_0.json").write_text(json.dumps({"strokes": list(found)}))
    return folder


def test_strokes(tmp_path: Path) -> None:
    data = strokes(write_strokes(tmp_path, stroke("3", (0, 1), (2, 1), (2, 5)), stroke("0", (0.5, -1), (1.5, 1))))
    assert data.labels.tolist() == [3, 0]
    assert data.points[0].tolist() == [[0, 2, 2], [1, 1, 5]]
    resampled = data.resampled(5)
    assert resampled[0].tolist() == [[0, 1, 2, 2, 2], [1, 1, 1, 3, 5]]
    assert resampled[1].tolist() == [[0.5, 0.75, 1.0, 1.25, 1.5], [-1, -0.5, 0, 0.5, 1]]
    assert data.resampled(2)[0].tolist() == [[0, 2], [1, 5]]
    with pytest.raises(ValueError, match="length must be at least 2 points; got 1"):
        data.resampled(1)


@pytest.mark.parametrize(
    "bad",
    [
        stroke("10", (0, 0), (1, 1)),
        stroke("3", (0, 0)),
        stroke("3"),
        stroke("3", (0, 0), (1e39, 1)),
        stroke("3", (0, 0), (None, 1)),
        stroke("3", (0, 0), ("far", 1)),
        stroke("3", (0, 0), (10**400, 1)),
        {"strokePoints": [], "label": "3"},
        {"label": "3"},
        {"strokePoints": [{"x": 0}, {"x": 1}], "label": "3"},
        {"strokePoints": 7, "label": "3"},
        "stroke",
        None,
    ],
    ids=repr,
)
def test_strokes_refuse_damage(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(ValueError, match=r"strokes: stroke 1 of .*a_0\.json must have a label 0 \.\.\. 9"):
        strokes(write_strokes(tmp_path, stroke("3", (0, 0), (1, 1)), bad))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"strokes": 3}', b'{"strokes": NaN}', b"\xff", b"[" * 100_000, b"7"]
)
def test_strokes_refuse_what_is_no_list(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.json").write_bytes(content)
    with pytest.raises(ValueError, match=r'strokes: .*b\.json must be JSON with a list "strokes"|must be a list'):
        strokes(tmp_path)


def test_no_strokes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"needs \*\.json, but the folder .* holds none"):
        strokes(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        strokes(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="hold no stroke"):
        strokes(write_strokes(tmp_path))


def test_damaged_stroke_files(tmp_path: Path) -> None:
    r = random.Random(0)
    whole = json.dumps({"strokes": [stroke("3", (0, 1), (2.5, 1)), stroke("1", (0, 1), (-2e-3, 1))]}).encode()
    for _ in range(300):
        at = r.randrange(len(whole))
        (tmp_path / "x.json").write_bytes(whole[:at] + r.randbytes(r.randint(0, 3)) + whole[at + r.randint(0, 4) :])
        with contextlib.suppress(ValueError):
            assert bool(strokes(tmp_path).points[0].isfinite().all())


def write_motions(folder: Path, **changes: np.ndarray) -> Path:
    arrays = {"classes": np.array(["sit", "run"])}
    for part, count in (("train", 3), ("test", 2)):
        arrays[f"{part}_x"] = np.arange(count * 8, dtype=np.float32).reshape(count, 2, 4)
        arrays[f"{part}_y"] = np.ones(count, np.uint8)
    np.savez(folder / "motion_gestures.npz", **{f"BasicMotions_{k}": v for k, v in (arrays | changes).items()})
    return folder


def test_motions(tmp_path: Path) -> None:
    data = basic_motions(write_motions(tmp_path))
    assert (data.train.shape, data.test.shape, data.classes) == ((3, 2, 4), (2, 2, 4), ("sit", "run"))
    assert data.test[1, 0].tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_y": np.ones(3, np.uint8)}, r"with a label each; got \[2, 2, 4\] and labels \[3\]"),
        ({"test_y": np.full(2, 2, np.uint8)}, r"labels must lie in 0 \.\.\. 1; got 2"),
        ({"test_x": np.zeros((2, 3, 4), np.float32)}, "alike in both parts"),
        ({"train_x": np.full((3, 2, 4), np.nan, np.float32)}, "must be finite"),
        ({"train_x": np.zeros((3, 8), np.float32)}, "must be float32 with 3 dimensions"),
        ({"train_x": np.zeros((0, 2, 4), np.float32), "train_y": np.zeros(0, np.uint8)}, r"got \[0, 2, 4\]"),
    ],
)
def test_motions_refuse_damage(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        basic_motions(write_motions(tmp_path, **changes))


def test_points_lie_where_it_is_bright() -> None:
    images = torch.zeros(3, 1, 4, 8, dtype=torch.uint8)
    images[0, 0, 1, 6] = 3
    images[1, 0, 0, 0], images[1, 0, 3, 7] = 50, 150
    points = points_of(images, 2000, seed=0)
    assert points.shape == (3, 2, 2000)
    x, y = points[0]
    assert 0.5 <= float(x.min()) <= float(x.max()) < 0.75
    assert -0.5 <= float(y.min()) <= float(y.max()) < 0.0
    share = float((points[1, 0] > 0).float().mean())
    assert abs(share - 0.75) < 5 * math.sqrt(0.75 * 0.25 / 2000)
    assert float(points[2].abs().max()) <= 1.0  # black: anywhere
    assert float(points[2].std()) > 0.5
    assert torch.equal(points, points_of(images, 2000, seed=0))
    assert not torch.equal(points, points_of(images, 2000, seed=1))
    as_floats = points_of(images / 255, 2000, seed=0)
    assert torch.equal(points, as_floats)


@pytest.mark.parametrize(
    ("images", "count", "message"),
    [
        (torch.zeros(2, 3, 4, 4), 5, r"needs images \[n, 1, height, width\]; got \[2, 3, 4, 4\]"),
        (torch.zeros(2, 1, 0, 4), 5, "needs images"),
        (torch.zeros(2, 1, 4, 4), 0, "count must be at least 1 point; got 0"),
        (torch.full((2, 1, 4, 4), -1.0), 5, "finite and at least 0"),
        (torch.full((2, 1, 4, 4), float("nan")), 5, "finite and at least 0"),
    ],
)
def test_points_refuse(images: torch.Tensor, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        points_of(images, count, seed=0)


@pytest.mark.data
def test_real_series(real_data: Callable[[str], Path]) -> None:
    digits = spoken_digits(real_data("fsdd"))
    assert digits.digits.bincount().tolist() == [300] * 10
    assert len(set(digits.speakers)) == 6
    assert int((digits.takes < 5).sum()) == 300
    wand = strokes(real_data("magic_wand_imu"))
    assert wand.labels.bincount().tolist() == [100] * 10
    assert min(points.shape[1] for points in wand.points) == 32
    motions = basic_motions(real_data("motion_gestures"))
    assert motions.train.shape == motions.test.shape == (40, 6, 100)
