# SPDX-License-Identifier: Apache-2.0
"""What a network's output says, in words of the task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor

from bittern.pretrained.fields import number, only, whole


class Answer(NamedTuple):
    """One thing that a network says of an example."""

    name: str
    """A class."""
    score: float
    """How sure it is, in [0, 1]."""
    box: tuple[float, float, float, float] | None = None
    """Where: x0, y0, x1, y1 in pixels of the raw picture. None: the whole example."""


class Reader(ABC):
    """From an output to answers. kind: its name in files. top: answers of an example, if nobody asks for another
    number; None: all. least: the score of an answer, likewise."""

    kind: ClassVar[str]
    top: int | None
    least: float

    @abstractmethod
    def __call__(self, output: Tensor, classes: Sequence[str], picture: tuple[float, float]) -> list[Answer]:
        """Everything in an output of one example, the surest first.

        picture: how much larger the raw picture is than the network's input, across and down.
        """

    @abstractmethod
    def answers(self, classes: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of an output, without the batch, for inputs of `shape`. Raises: ValueError."""

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """All there is to know, as JSON has it."""

    @classmethod
    @abstractmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """What `settings` gave, from a file. Raises: ValueError."""


@dataclass(frozen=True)
class Classes(Reader):
    """One class for an example, by softmax of the output [1, classes]."""

    kind: ClassVar[str] = "classes"
    top = 1
    least = 0.0

    def __call__(self, output: Tensor, classes: Sequence[str], picture: tuple[float, float]) -> list[Answer]:
        shares = output[0].softmax(0)
        order = shares.argsort(descending=True, stable=True).tolist()
        return [Answer(classes[i], float(shares[i])) for i in order]

    def answers(self, classes: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (classes,)

    def settings(self) -> Mapping[str, Any]:
        return {}

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        only(settings, (), "classes")
        return cls()


@dataclass(frozen=True)
class Boxes(Reader):
    """Boxes around things, as `bittern.train.Detection` finds them in the cells of an output.

    stride: pixels of a cell. least: the score from which on a box is an answer.

    Raises: ValueError for a stride below 1 or a score outside [0, 1].
    """

    stride: int
    least: float

    kind: ClassVar[str] = "boxes"
    top = None

    def __post_init__(self) -> None:
        if self.stride < 1 or not 0.0 <= self.least <= 1.0:
            raise ValueError(
                f"boxes: stride must be at least 1 and least in [0, 1]; got {self.stride} and {self.least}"
            )

    def __call__(self, output: Tensor, classes: Sequence[str], picture: tuple[float, float]) -> list[Answer]:
        from bittern.train.tasks.detection import Detection

        (found,) = Detection(len(classes), self.stride).detections(output)
        times = (*picture, *picture)
        answers = []
        for box, score, kind in zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True):
            x0, y0, x1, y1 = (side * by for side, by in zip(box, times, strict=True))
            answers.append(Answer(classes[kind], score, (x0, y0, x1, y1)))
        return answers

    def answers(self, classes: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3 or shape[1] % self.stride or shape[2] % self.stride:
            raise ValueError(f"boxes: needs pictures whose sides are multiples of {self.stride}; got {list(shape)}")
        return (5 + classes, shape[1] // self.stride, shape[2] // self.stride)

    def settings(self) -> Mapping[str, Any]:
        return {"stride": self.stride, "least": self.least}

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        only(settings, ("stride", "least"), "boxes")
        return cls(whole(settings["stride"], "boxes: stride", 1), number(settings["least"], "boxes: least", 0.0))


ALL: tuple[type[Reader], ...] = (Classes, Boxes)
