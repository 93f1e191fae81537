# SPDX-License-Identifier: Apache-2.0
"""Which networks of others are quantized, and on what: files in the folder of data sets, each as its users load it.

The data hold one photograph of a person and no pictures of COCO or of faces, so most networks are judged by how well
their integers agree with their float answers, on crops that the calibration did not see; super-resolution is judged by
the pictures themselves. Calibration takes other crops of the same photographs, other photographs, and CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bittern.bench.integers.others import detectors, photographs, scores
from bittern.bench.integers.others.silero import MAGNITUDES, clips, silero
from bittern.bench.integers.others.super_resolution import esrgan_slim
from bittern.compat import onnx, tflite

CROPS = 12
"""Of photographs for calibration; a third as many of CIFAR-10 besides."""
TEST = 8
PATCHES, PATCH = 16, 64
"""For super-resolution, and the side of a low-resolution one."""
SPOKEN = 24


class Given(NamedTuple):
    """What a network is calibrated by and judged on."""

    calibration: Tensor
    test: Tensor
    truth: Tensor | None = None


@dataclass(frozen=True)
class Other:
    """A float network of others, with a score."""

    name: str
    title: str
    load: Callable[[Path], nn.Module]
    given: Callable[[Path], Given]
    metric: str
    """What the score is, in words."""
    score: scores.Score
    needs: tuple[str, ...]
    packages: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    """What is left float, as `quantize` takes it."""

    def missing(self, data: Path | None) -> str | None:
        """Why it is left out, or None."""
        absent = [name for name in self.needs if data is None or not (data / name).exists()]
        if absent:
            return f"{self.title}: needs {', '.join(absent)} in the folder of --data"
        lacking = [package for package in self.packages if find_spec(package) is None]
        return f"{self.title}: needs the package {', '.join(lacking)}" if lacking else None


def others() -> tuple[Other, ...]:
    """In the order of the table."""
    return (
        Other(
            "fastestdet",
            "FastestDet, COCO",
            lambda data: onnx.load_module(data / FASTEST_DET),
            partial(_images, (352, 352), 0.0, 255.0, last=False),
            "boxes again (F1)",
            scores.boxes_again(detectors.fastest_det),
            (FASTEST_DET, *PICTURES),
            ("onnx",),
        ),
        Other(
            "face",
            "Ultra-light face detector (RFB)",
            lambda data: onnx.load_module(data / FACE),
            partial(_images, (240, 320), 127.0, 128.0, last=False),
            "boxes again (F1)",
            scores.boxes_again(detectors.faces),
            (FACE, *PICTURES),
            ("onnx",),
        ),
        _tflite("cpm", "Convolutional pose machine", f"{POSE}/cpm", 192, 1.0, JOINTS, scores.peaks),
        _tflite("hourglass", "Stacked hourglass", f"{POSE}/hourglass", 192, 1.0, JOINTS, scores.peaks),
        _tflite("landmark", "Pose landmark", f"{PERSON}/pose_landmark_lite", 256, 255.0, POINTS, scores.points),
        _tflite("selfie", "Selfie segmentation", f"{PERSON}/selfie_segmentation", 256, 255.0, MASK, scores.masks),
        Other(
            "esrgan",
            "ESRGAN-slim x 2",
            lambda data: esrgan_slim(data / ESRGAN, 2),
            _patches,
            "luma PSNR, dB",
            scores.psnr,
            (ESRGAN, *PICTURES),
        ),
        Other(
            "silero",
            "Silero VAD",
            lambda data: silero(data / SILERO),
            _speech,
            "chunks alike",
            scores.speech,
            (SILERO, SPEECH),
            keep=MAGNITUDES,
        ),
    )  # fmt: skip


FASTEST_DET = "fastestdet_coco/fastestdet.onnx"
FACE = "ultralight_face/version_rfb_320_without_postprocessing.onnx"
ESRGAN, SILERO, SPEECH = "esrgan_slim_sr", "silero_vad/silero_vad_16k.safetensors", "fsdd/fsdd_8khz_int16.npz"
POSE, PERSON = "pose_mobile_models", "mediapipe_person"
PICTURES = ("photos_sr", "cifar10_jpeg75")
JOINTS, POINTS, MASK = "joints within 5 %", "points within 5 %", "IoU of masks"


def _tflite(name: str, title: str, file: str, side: int, most: float, metric: str, score: scores.Score) -> Other:
    given = partial(_images, (side, side), 0.0, most, last=True)
    path = f"{file}.tflite"
    return Other(name, title, lambda data: tflite.load_module(data / path), given, metric, score, (path, *PICTURES))


def _images(size: tuple[int, int], middle: float, scale: float, data: Path, *, last: bool) -> Given:
    """last: whether channels are the last dimension."""
    pictures = (*photographs.OTHERS, *photographs.COLOUR * 2)
    calibration = torch.cat(
        [photographs.crops(data, pictures, size, CROPS, 1), photographs.objects(data, size, CROPS // 3)]
    )
    # the astronaut is in every second crop: the one person
    judged = ("astronaut.png", "chelsea.png", "astronaut.png", "coffee.png", "astronaut.png", "rocket.jpg")
    test = photographs.crops(data, judged, size, TEST, 2)
    order = (0, 2, 3, 1) if last else (0, 1, 2, 3)
    return Given(*(((x - middle) / scale).permute(order).contiguous() for x in (calibration, test)))


def _patches(data: Path) -> Given:
    """Calibrated on pieces of the other photographs, judged on pieces of the colour ones."""
    pieces = photographs.pieces(data, photographs.OTHERS, 2 * PATCH, PATCHES, 1)
    large = photographs.pieces(data, photographs.COLOUR, 2 * PATCH, PATCHES, 2)
    return Given(photographs.made_smaller(pieces, 2), photographs.made_smaller(large, 2), large)


def _speech(data: Path) -> Given:
    return Given(clips(data / SPEECH, 0, SPOKEN), clips(data / SPEECH, 50, SPOKEN))
