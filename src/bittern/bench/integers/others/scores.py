# SPDX-License-Identifier: Apache-2.0
"""How near the answers of a network of integers are to those of the float one, or to the truth where the data have it.

All take answers as tuples of tensors [inputs, ...].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bittern.bench.integers.others.detectors import OVERLAP, overlaps

Answers = Sequence[Tensor]
Score = Callable[[Answers, Answers, Tensor | None], float]
"""(float answers, answers that are judged, the truth) -> higher is better; of the float answers with themselves it is
what the float network reaches."""
NEAR = 0.05
"""Of the side of an image: so far a key point may lie from where it should be."""


def boxes_again(decode: Callable[[Answers], list[Tensor]]) -> Score:
    """F1 of boxes of the same class that overlap by half or more, one to one, the most certain first."""

    def score(floats: Answers, found: Answers, truth: Tensor | None) -> float:
        same = total = 0
        for wanted, own in zip(decode(floats), decode(found), strict=True):
            total += len(wanted) + len(own)
            free = torch.ones(len(wanted), dtype=torch.bool)
            for box in own:
                near = overlaps(box[None], wanted)[0] * free * (wanted[:, 5] == box[5])
                if len(near) and float(near.max()) >= OVERLAP:
                    free[int(near.argmax())] = False
                    same += 1
        return 2 * same / total if total else 1.0

    return score


LEAST_PEAK = 0.3
"""Of a heat map in which a joint counts as seen."""


def peaks(floats: Answers, found: Answers, truth: Tensor | None) -> float:
    """Share of joints seen by the float network whose peak lies where the float network's does; heat maps last."""
    (wanted,), (own,) = ((x.movedim(-1, 1).flatten(2) for x in answers) for answers in (floats, found))
    width = floats[0].shape[2]
    seen = wanted.amax(2) > LEAST_PEAK
    a, b = ((x.argmax(2) // width, x.argmax(2) % width) for x in (wanted, own))
    apart = torch.hypot((a[0] - b[0]).double(), (a[1] - b[1]).double()) / width
    return float((apart[seen] <= NEAR).double().mean()) if bool(seen.any()) else 1.0


def masks(floats: Answers, found: Answers, truth: Tensor | None) -> float:
    """Intersection over union of what is above one half, over all images."""
    a, b = floats[0] > 0.5, found[0] > 0.5
    return float((a & b).sum()) / max(float((a | b).sum()), 1.0)


LANDMARKS, LANDMARK_NUMBERS, LANDMARK_SIDE = 33, 5, 256.0


def points(floats: Answers, found: Answers, truth: Tensor | None) -> float:
    """Share of a person's 33 points that lie where the float network has them, where it sees a person."""
    a, b = (x[0].view(len(x[0]), -1, LANDMARK_NUMBERS)[:, :LANDMARKS, :2] for x in (floats, found))
    seen = floats[1].flatten() > 0.5
    apart = (a - b).norm(dim=2) / LANDMARK_SIDE
    return float((apart[seen] <= NEAR).double().mean()) if bool(seen.any()) else 1.0


def speech(floats: Answers, found: Answers, truth: Tensor | None) -> float:
    """Share of chunks with the float network's answer, at a probability of one half."""
    return float(((floats[0] > 0.5) == (found[0] > 0.5)).double().mean())


BORDER = 2
LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
"""Of red, green and blue in 0 ... 1 (ITU-R BT.601, 16 ... 235)."""


def psnr(floats: Answers, found: Answers, truth: Tensor | None) -> float:
    """Decibels of the luma, rounded to 8 bits and without the border, over all images."""
    assert truth is not None
    error = [_luma(x)[..., BORDER:-BORDER, BORDER:-BORDER] for x in (found[0], truth)]
    return -10.0 * math.log10(float((error[0] - error[1]).square().mean()))


def _luma(images: Tensor) -> Tensor:
    whole = (images.double().clamp(0, 1) * 255).round() / 255
    return sum(whole[:, channel] * weight for channel, weight in enumerate(LUMA))  # type: ignore[return-value]
