# SPDX-License-Identifier: Apache-2.0
"""Strokes of a wand from JSON files: digits drawn in the air with a board that measures how it moves.

Each file: {"strokes": [{"strokePoints": [{"x": number, "y": number}, ...], "label": "0" ... "9", ...}, ...]}.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

MOST_BYTES = 64 << 20
"""Of a file. The published ones have 0.4 MB."""
LABELS = tuple(str(d) for d in range(10))


@dataclass(frozen=True, eq=False, slots=True)
class Strokes:
    """Drawings. points: float32 [2, its length] (x and y) for each; labels: int64 [count]."""

    points: tuple[Tensor, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def resampled(self, length: int) -> Tensor:
        """float32 [count, 2, length]: as many points for all, see `resampled`.

        Raises: ValueError for a length below 2.
        """
        if length < 2:
            raise ValueError(f"Strokes: length must be at least 2 points; got {length}")
        return torch.stack([resampled(points, length) for points in self.points])


def strokes(folder: str | Path) -> Strokes:
    """Read all *.json of `folder`, by name.

    Raises: FileNotFoundError for no such file; ValueError for a damaged one.
    Source: github.com/petewarden/magic_wand_digit_data; Apache-2.0. It does not say who drew a stroke.
    """
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        what = "holds none" if Path(folder).is_dir() else "does not exist"
        raise FileNotFoundError(f"strokes: needs *.json, but the folder {folder} {what}; put the files there")
    points: list[Tensor] = []
    labels: list[int] = []
    for file in files:
        for number, stroke in enumerate(_strokes_in(file)):
            try:
                points.append(_points(stroke["strokePoints"]))
                labels.append(LABELS.index(stroke["label"]))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise ValueError(
                    f"strokes: stroke {number} of {file} must have a label 0 ... 9 and at least two finite points x, y "
                    f"({type(error).__name__}: {error}); the file is damaged: fetch it again"
                ) from error
    if not points:
        raise ValueError(f"strokes: the files of {folder} hold no stroke; fetch them again")
    return Strokes(tuple(points), torch.tensor(labels))


def _strokes_in(file: Path) -> list[Any]:
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"strokes: {file} has {file.stat().st_size} bytes; files of strokes have {MOST_BYTES} at most")
    try:
        content = json.loads(file.read_bytes(), parse_constant=_refuse)
        found = content["strokes"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f'strokes: {file} must be JSON with a list "strokes" ({type(error).__name__}: {error}); fetch it again'
        ) from error
    if not isinstance(found, list):
        raise ValueError(f'strokes: "strokes" of {file} must be a list; got {type(found).__name__}; fetch it again')
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _points(listed: Any) -> Tensor:
    """float32 [2, length]. Raises: KeyError, TypeError, ValueError, OverflowError."""
    rows = [[float(point[axis]) for point in listed] for axis in ("x", "y")]
    if len(rows[0]) < 2:
        raise ValueError(f"it has {len(rows[0])} points")
    if not all(math.isfinite(value) for row in rows for value in row):
        raise ValueError("a point is not finite")
    points = torch.tensor(rows, dtype=torch.float32)
    if not bool(points.isfinite().all()):
        raise ValueError("a point is beyond float32")
    return points


def resampled(points: Tensor, length: int) -> Tensor:
    """[2, points] -> [2, length]: evenly spread over the measured points, linear between two; the ends stay."""
    places = torch.linspace(0, points.shape[1] - 1, length, dtype=torch.float64)
    before = places.floor().long().clamp(max=points.shape[1] - 2)
    share = (places - before).float()
    return points[:, before] * (1 - share) + points[:, before + 1] * share
