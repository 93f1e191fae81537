# SPDX-License-Identifier: Apache-2.0
"""Texts of classes, and how they lie in an archive: lines of UTF-8 joined by newlines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor


@dataclass(frozen=True, eq=False, slots=True)
class LabelledTexts:
    """Texts and their classes, int64 [count]. Raises: ValueError where they do not fit together."""

    texts: tuple[str, ...]
    labels: Tensor

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels) or not self.texts:
            raise ValueError(
                f"texts: there must be one label per text, and at least one; got {len(self.texts)} texts and "
                f"{len(self.labels)} labels"
            )

    def __len__(self) -> int:
        return len(self.texts)

    def at(self, chosen: Tensor) -> LabelledTexts:
        """Those where `chosen`, bool [count], is true. Raises: ValueError for none."""
        return LabelledTexts(tuple(self.texts[i] for i in chosen.nonzero().flatten().tolist()), self.labels[chosen])


@dataclass(frozen=True, eq=False, slots=True)
class TextClasses:
    """A labelled set of texts; some have a part to choose by. Raises: ValueError for a label that is no class."""

    name: str
    classes: tuple[str, ...]
    train: LabelledTexts
    test: LabelledTexts
    validation: LabelledTexts | None = None

    def __post_init__(self) -> None:
        for name, part in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            if part is None:
                continue
            low, high = int(part.labels.min()), int(part.labels.max())
            if low < 0 or high >= len(self.classes):
                raise ValueError(
                    f"{self.name}: {name} labels must lie in 0 ... {len(self.classes) - 1}; got {low} ... {high}"
                )


def file_in(owner: str, folder: str | Path, file: str) -> Path:
    """The path of a file that a data set is. Raises: FileNotFoundError saying what belongs there."""
    path = Path(folder) / file
    if not path.is_file():
        what = "lacks it" if Path(folder).is_dir() else "does not exist"
        raise FileNotFoundError(f"{owner}: needs {file}, but the folder {folder} {what}; put it there")
    return path


def lines_of(subject: str, body: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    """Lines that a newline alone parts, since a text may hold other ends of lines. Raises: ValueError for no UTF-8."""
    try:
        return tuple(body.tobytes().decode("utf-8").split("\n"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{subject} must be UTF-8 text ({error}); the file is damaged: fetch it again") from error
