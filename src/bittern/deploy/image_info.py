# SPDX-License-Identifier: Apache-2.0
"""What a packed file says about the images that its network takes: class names, mean, std, the data set.

Each is one entry of `Packed.info`, as JSON text, and may be missing: a network runs without them. `bittern run` reads
them so that a file from Python and one from `bittern pack` are the same to it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bittern.deploy.errors import PackError

if TYPE_CHECKING:
    from bittern.data import ImageData


@dataclass(frozen=True)
class ImageInfo:
    """None: the file does not say it."""

    classes: tuple[str, ...] | None = None
    """A name for each answer, in their order."""
    mean: tuple[float, ...] | None = None
    """Of each channel, subtracted from brightness in [0, 1]."""
    std: tuple[float, ...] | None = None
    """What brightness minus mean is divided by."""
    data: str | None = None
    """The data set of its training: its name, or what `bittern train --data` takes."""

    def to_info(self) -> dict[str, str]:
        """Entries for `Packed.info`."""
        said = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: json.dumps(value, ensure_ascii=False) for name, value in said.items() if value is not None}

    def problem(self, channels: int | None, answers: int | None) -> str | None:
        """What does not fit a network that takes images of `channels` and gives `answers` (None: no row of them).

        channels: None for a network that takes more than images.
        """
        if channels is None and self.mean is not None:
            return "mean and std are those of images, and this network takes more than one tensor; leave them out"
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != channels:
                return f"{name} needs one number for each of {channels} channels; got {len(values)}"
        if self.mean is not None and not all(map(math.isfinite, self.mean)):
            return f"mean must be finite; got {self.mean}"
        if self.std is not None and not all(0.0 < s < math.inf for s in self.std):
            return f"std must be finite and above 0; got {self.std}"
        if self.classes is not None and answers is None:
            return f"classes name {len(self.classes)} answers, and the network does not give one number for each class"
        if self.classes is not None and len(self.classes) != answers:
            return f"classes need a name for each of {answers} answers; got {len(self.classes)}"
        return None


def given(
    channels: int | None,
    classes: Sequence[str] | None,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    data: ImageData | None,
) -> ImageInfo:
    """What the caller of `pack` says; `data` says all of it. Raises: PackError."""
    if data is not None:
        if any(value is not None for value in (classes, mean, std)):
            raise PackError("pack: data brings classes, mean and std with it; leave out either data or the others")
        return ImageInfo(data.classes, data.mean, data.std, data.name)
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes or ()):
        raise PackError(f"pack: classes must be a sequence of texts, one for each answer; got {classes!r}")
    if (mean is None) != (std is None):
        raise PackError(f"pack: mean and std go together; got mean={mean}, std={std}; give both")
    names = None if classes is None else tuple(classes)
    return ImageInfo(names, _per_channel("mean", mean, channels), _per_channel("std", std, channels))


def _per_channel(name: str, value: float | Sequence[float] | None, channels: int | None) -> tuple[float, ...] | None:
    """A number for each channel; one number stands for all."""
    if value is None:
        return None
    try:
        return (float(value),) * (channels or 1) if isinstance(value, (int, float)) else tuple(float(v) for v in value)
    except (TypeError, ValueError) as error:
        raise PackError(f"pack: {name} must be a number, or one for each channel; got {value!r}") from error


def read_image_info(info: Mapping[str, str]) -> ImageInfo:
    """The entries of a file. Raises: ValueError naming the one that is damaged."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(ImageInfo):
        if field.name in info:
            values[field.name] = _read(field.name, info[field.name])
    return ImageInfo(**values)


def _read(name: str, text: str) -> str | tuple[Any, ...]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its {name} is not JSON: {error}") from error
    if name == "data" and isinstance(value, str):
        return value
    kinds = (str,) if name == "classes" else (int, float)
    sound = isinstance(value, list) and bool(value) and all(isinstance(v, kinds) for v in value)
    if name == "data" or not sound or any(isinstance(v, bool) for v in value):
        raise ValueError(f"its {name} is {text}; pack it again")
    return tuple(value)
