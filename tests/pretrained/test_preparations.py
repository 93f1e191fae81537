# SPDX-License-Identifier: Apache-2.0
"""Raw examples become the inputs that their formulas say, and what is no example is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from _shelf import COLOURS, GREY, MELS, PREPARATIONS, SOUND, STROKE, WORDS, altered, wav
from _tolerance import assert_elementwise, assert_exact
from bittern.data import normalize
from bittern.pretrained.preparations import (
    ImagePreparation,
    Preparation,
    SoundPreparation,
    StrokePreparation,
    TextPreparation,
)


@pytest.mark.parametrize("one", PREPARATIONS, ids=lambda p: p.kind)
def test_what_is_written_is_read(one: Preparation) -> None:
    assert type(one).read(one.settings()) == one


def test_pixels_by_hand() -> None:
    """(128/255 - 0.5) / 0.25 and so on, from a tensor, a picture and a file."""
    pixels = torch.tensor([0, 51, 128, 255] * 16, dtype=torch.uint8).view(1, 8, 8)
    wanted = (pixels.double() / 255 - 0.5) / 0.25
    found = GREY(pixels)
    assert found.size == (8, 8)
    assert found.x.shape == (1, 1, 8, 8)
    assert_elementwise(found.x, wanted.unsqueeze(0), 3, 4.0)
    image = Image.fromarray(pixels[0].numpy())
    assert_exact(GREY(image).x, found.x)
    assert_exact(GREY(pixels.float() / 255).x, found.x)


def test_a_file_is_a_picture(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3))
    image.save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        assert_exact(COLOURS(path).x, COLOURS(image).x)


def test_whole_blocks_of_pixels_become_their_mean() -> None:
    """As the training's pictures were made: in one rounding, not one for each direction."""
    large = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    found = COLOURS(Image.fromarray(large))
    assert found.size == (64, 32)
    means = large.reshape(8, 4, 16, 4, 3).mean((1, 3))
    pixels = torch.from_numpy(np.floor(means + 0.5).astype(np.uint8)).permute(2, 0, 1)
    assert_exact(found.x, normalize(pixels.unsqueeze(0), COLOURS.mean, COLOURS.std))


def test_other_pictures_are_converted() -> None:
    tall = Image.new("L", (7, 9), 255)
    found = COLOURS(tall)
    assert found.size == (7, 9)
    assert_exact(found.x, COLOURS(torch.ones(3, 8, 16)).x)
    clear = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    assert_exact(GREY(clear).x, GREY(torch.zeros(1, 8, 8)).x)


@pytest.mark.parametrize(
    ("raw", "error", "words"),
    [
        (7, TypeError, "a raw example is a picture: a file's path, a PIL image, or a tensor"),
        (torch.zeros(1, 8, 9), ValueError, r"\[channels, height, width\] \[1, 8, 8\]; got \[1, 8, 9\]"),
        (torch.zeros(8, 8), ValueError, r"got \[8, 8\]; give a PIL image or a file"),
        (torch.zeros(1, 8, 8, dtype=torch.int64), TypeError, "pixels must be uint8, or brightness"),
        (torch.full((1, 8, 8), 2.0), ValueError, r"brightness must lie in \[0, 1\]; divide by 255"),
        (torch.full((1, 8, 8), float("nan")), ValueError, r"brightness must lie in \[0, 1\]"),
        ("no/such.png", FileNotFoundError, "no/such.png"),
    ],
)
def test_what_is_no_picture(raw: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        GREY(raw)


def test_texts_by_hand() -> None:
    """Start 2, unknown 1, padding 0, then the vocabulary from 3 on."""
    assert WORDS("A naïve? cat").x.tolist() == [[2, 4, 5, 3]]
    assert WORDS("cat").x.tolist() == [[2, 1, 0, 0]]
    assert WORDS("").x.tolist() == [[2, 0, 0, 0]]
    with pytest.raises(TypeError, match="a raw example is a text; got bytes"):
        WORDS(b"a")


def test_sound_by_hand(tmp_path: Path) -> None:
    """The middle 128 of 200 samples; silence around a short one; a file as its samples over 32,768."""
    samples = torch.randint(-(2**15), 2**15, (200,), generator=torch.Generator().manual_seed(0))
    wave = samples.float() / 2**15
    mean, std = (torch.tensor(values).view(-1, 1) for values in (SOUND.mean, SOUND.std))
    wanted = (MELS(wave[36:164].unsqueeze(0))[0] - mean) / std
    found = SOUND(wave).x
    assert found.shape == (1, *SOUND.shape)
    assert_exact(found[0, 0], wanted)
    assert_exact(SOUND(wav(tmp_path / "a.wav", samples.tolist())).x, found)
    short = torch.zeros(128)
    short[62:65] = 0.5
    assert_exact(SOUND(torch.full((3,), 0.5)).x, SOUND(short).x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate_hz": 16000}, r"1 channel of 16 bits at 8000 Hz; got 1 of 16 at 16000 Hz; convert it"),
        ({"channels": 2}, "got 2 of 16 at 8000 Hz"),
        ({"width": 4}, "got 1 of 32 at 8000 Hz"),
        ({"samples": ()}, "holds no sound"),
    ],
)
def test_other_wav_files(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        SOUND(wav(tmp_path / "a.wav", **{"samples": (0, 1), **options}))


def test_no_wav_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF no sound")
    with pytest.raises(ValueError, match=r"a\.wav is not the WAV file expected"):
        SOUND(tmp_path / "a.wav")
    with pytest.raises(FileNotFoundError, match=r"no file .*b\.wav"):
        SOUND(tmp_path / "b.wav")
    with pytest.raises(ValueError, match="divide 16-bit samples by 32768"):
        SOUND(torch.tensor([0.0, 1.5]))
    with pytest.raises(TypeError, match="a raw example is sound"):
        SOUND([0.0])


def test_a_header_that_claims_more_than_the_file_holds(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", (1, 2, 3))
    content = bytearray(path.read_bytes())
    content[40:44] = (2**31 - 2).to_bytes(4, "little")  # bytes of the data
    path.write_bytes(content)
    assert_exact(SOUND(path).x, SOUND(torch.tensor([1.0, 2.0, 3.0]) / 2**15).x)


def test_strokes_by_hand() -> None:
    """x 0, 4, 8 at five points: 0, 2, 4, 6, 8, less 1 over 2; y alike, plus 1 over 0.5."""
    found = STROKE(torch.tensor([[0.0, 4.0, 8.0], [0.0, 1.0, 0.0]]))
    assert found.x.tolist() == [[[-0.5, 0.5, 1.5, 2.5, 3.5], [2.0, 3.0, 4.0, 3.0, 2.0]]]
    for bad in (torch.zeros(3, 2), torch.zeros(2, 1), torch.zeros(2, 4, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"a stroke is real \[2, at least 2 points\]"):
            STROKE(bad)
    with pytest.raises(ValueError, match="must be finite"):
        STROKE(torch.tensor([[0.0, float("inf")], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (ImagePreparation, altered(GREY.settings(), mean=None), "image lacks mean; it must have shape, mean, std"),
        (ImagePreparation, altered(GREY.settings(), more=1), "image has more, which nothing reads"),
        (ImagePreparation, altered(GREY.settings(), shape=[1, 8]), "needs [1 or 3 channels, height, width]"),
        (ImagePreparation, altered(GREY.settings(), shape=[1, 8, -8]), "shape must be a whole number of at least 1"),
        (ImagePreparation, altered(GREY.settings(), shape="188"), "shape must be a list; got str"),
        (ImagePreparation, altered(GREY.settings(), std=[0.0]), "std must be above 0"),
        (ImagePreparation, altered(GREY.settings(), mean=[True]), "mean must be a number; got True"),
        (TextPreparation, altered(WORDS.settings(), words="a a"), "words that differ"),
        (TextPreparation, altered(WORDS.settings(), words="a B"), "'B' of the vocabulary is no word"),
        (TextPreparation, altered(WORDS.settings(), words=["a"]), "words must be a text"),
        (TextPreparation, altered(WORDS.settings(), length=1), "length must be a whole number of at least 2"),
        (SoundPreparation, altered(SOUND.settings(), samples=2**40), "needs 1 ... 1048576 samples"),
        (SoundPreparation, altered(SOUND.settings(), window=2**40), "sizes must be at most 1048576"),
        (SoundPreparation, altered(SOUND.settings(), mean=[0.0]), "a mean and a std for each of 4 bands"),
        (SoundPreparation, altered(SOUND.settings(), floor=0.0), "floor > 0 must hold"),
        (StrokePreparation, altered(STROKE.settings(), length=2**20), "needs 2 ... 65536 points"),
        (StrokePreparation, altered(STROKE.settings(), mean=[1e400, 0.0]), "mean must be a number"),
    ],
)
def test_damaged_settings(kind: type[Preparation], settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        kind.read(settings)
