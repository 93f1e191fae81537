# SPDX-License-Identifier: Apache-2.0
"""Strokes: a path in the plane at evenly spread points, normalized by axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from bittern.data.strokes import resampled
from bittern.pretrained.fields import numbers, only, spreads, whole
from bittern.pretrained.preparations.preparation import Preparation, Prepared

AXES = 2
LONGEST = 2**16
"""Points."""


@dataclass(frozen=True)
class StrokePreparation(Preparation):
    """(points - mean) / std of each axis, [2, length], of a stroke resampled to `length` points.

    Raises: ValueError for a length below 2, and other numbers of mean or std than two.
    """

    length: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    kind: ClassVar[str] = "stroke"
    takes: ClassVar[str] = "a stroke: a real tensor [2, points], x to the right and y upward"

    def __post_init__(self) -> None:
        if not 2 <= self.length <= LONGEST or not len(self.mean) == len(self.std) == AXES:
            raise ValueError(
                f"stroke: needs 2 ... {LONGEST} points, two means and two stds; got {self.length}, {len(self.mean)} "
                f"and {len(self.std)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (AXES, self.length)

    def __call__(self, raw: Any) -> Prepared:
        if not isinstance(raw, Tensor):
            raise self.refuse(raw)
        if raw.ndim != 2 or len(raw) != AXES or raw.shape[1] < 2 or not raw.is_floating_point():
            raise ValueError(f"prepare: a stroke is real [2, at least 2 points]; got {raw.dtype} {list(raw.shape)}")
        if not bool(raw.isfinite().all()):
            raise ValueError("prepare: points of a stroke must be finite")
        mean, std = (torch.tensor(values).view(1, -1, 1) for values in (self.mean, self.std))
        return Prepared((resampled(raw.float(), self.length).unsqueeze(0) - mean) / std)

    def settings(self) -> Mapping[str, Any]:
        return {"length": self.length, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        only(settings, ("length", "mean", "std"), "stroke")
        length = whole(settings["length"], "stroke: length", 2)
        return cls(length, numbers(settings["mean"], "stroke: mean"), spreads(settings["std"], "stroke: std"))
