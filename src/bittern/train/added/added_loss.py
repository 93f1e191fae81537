# SPDX-License-Identifier: Apache-2.0
"""A loss that is added to the task's own: what it looks at, how much it counts, what the logs call it."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

NAME = re.compile(r"[a-z][a-z0-9_]*")
TASK = "task"
"""What the logs call the loss of the task itself."""

Point = str | tuple[str, str]
"""The name of a module, "" for the whole model; or of one of the model and one of the teacher."""


class Seen(NamedTuple):
    """What one forward pass showed."""

    model: nn.Module
    student: Mapping[str, Tensor]
    """Outputs of modules of the model, by name."""
    teacher: Mapping[str, Tensor]
    """Those of the teacher, without gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedLoss(ABC):
    """weight * what a call gives is added to the loss of each batch. name: what the logs call it.

    Subclasses are frozen dataclasses, whose text is what a resumed run must find equal.

    Raises: ValueError for a weight that is not above 0 and finite, or a name of other letters than a-z, 0-9 and _.
    """

    weight: float = 1.0
    name: str

    def __post_init__(self) -> None:
        owner = type(self).__name__
        if not isinstance(self.weight, int | float) or not 0.0 < self.weight < math.inf:
            raise ValueError(f"{owner}: weight must be above 0 and finite; got {self.weight!r}; leave it out instead")
        if not NAME.fullmatch(self.name) or self.name == TASK:
            raise ValueError(
                f"{owner}: name must be of a-z, 0-9 and _, begin with a letter, and not be {TASK!r}; got {self.name!r}"
            )

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Modules that it compares, of the model and of the teacher; () where it needs no teacher."""
        return ()

    @abstractmethod
    def __call__(self, seen: Seen) -> Tensor:
        """The loss of a batch, a 0-dim mean over its examples where it looks at them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching(AddedLoss):
    """Compares outputs of modules of the model with those of a teacher.

    points: names of modules as in `named_modules`, the same for both, or pairs (model's, teacher's); "" is the whole.

    Raises: ValueError without a point; TypeError for what is no name.
    """

    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        # the zero-argument form does not work in a class with slots
        AddedLoss.__post_init__(self)
        owner = type(self).__name__
        given: object = self.points
        if not isinstance(given, tuple | list):
            raise TypeError(f"{owner}: points must be a tuple of names of modules; got {self.points!r}")
        object.__setattr__(self, "points", tuple(given))
        for point in self.points:
            names = point if isinstance(point, tuple) else (point, point)
            if len(names) != 2 or not all(isinstance(name, str) for name in names):
                raise TypeError(f"{owner}: a point is a name, or the model's and the teacher's; got {point!r}")
        if not self.points:
            raise ValueError(f"{owner}: points is empty, so that nothing would be matched; name a module")

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        return tuple(point if isinstance(point, tuple) else (point, point) for point in self.points)

    def of(self, seen: Seen) -> list[tuple[Tensor, Tensor]]:
        """(student's, teacher's) output at each point, in float32 at least.

        Raises: ValueError where `comparable` of the two differ.
        """
        found = []
        for mine, theirs in self.pairs:
            student, teacher = seen.student[mine], seen.teacher[theirs]
            sizes = self.comparable(student, mine), self.comparable(teacher, theirs)
            if sizes[0] != sizes[1]:
                raise ValueError(
                    f"{type(self).__name__}: the model's {mine!r} gives {list(student.shape)}, and the teacher's "
                    f"{theirs!r} {list(teacher.shape)}; name modules whose outputs have {self.alike}"
                )
            kind = torch.promote_types(student.dtype, torch.float32)
            found.append((student.to(kind), teacher.to(kind)))
        return found

    @property
    @abstractmethod
    def alike(self) -> str:
        """What the outputs of a pair must have in common, in words."""

    @abstractmethod
    def comparable(self, x: Tensor, name: str) -> tuple[int, ...]:
        """The sizes that the outputs of a pair must share. Raises: ValueError for one that cannot be compared."""
