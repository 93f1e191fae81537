# SPDX-License-Identifier: Apache-2.0
"""Training in stages, each of which may start from an earlier one and have it as its teacher."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from bittern.train.checkpoint import FILE_NAME, planned_epochs
from bittern.train.history import History
from bittern.train.loop import OnEpoch, OnStep, train
from bittern.train.real_weights import use_real_weights, use_tanh_operands
from bittern.train.recipe import Recipe
from bittern.train.source import TrainingData
from bittern.train.tasks.task import Task

GIVEN = "given"
"""As a stage's teacher: the one that `train_stages` is given."""
NAME = re.compile(r"[a-z0-9_]+")

Operands = Literal["tanh", "real_weights", "low_bit"]

_MADE: Mapping[Operands, Callable[[nn.Module], nn.Module]] = {
    "tanh": use_tanh_operands,
    "real_weights": use_real_weights,
    "low_bit": lambda model: model,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One of several stages.

    name: of its subfolder. operands: "tanh" (real weights, tanh in place of signs), "real_weights" (inputs as the
    method says), "low_bit" (all as the method says), or a function that makes the stage's network of the model, in
    place, with the same names in its state. start: the earlier stage with whose weights it begins, strictly
    loaded; None: as the model comes. teacher: an earlier stage, "given" for the one that `train_stages` gets, or None.

    Raises: ValueError.
    """

    name: str
    recipe: Recipe
    operands: Operands | Callable[[nn.Module], nn.Module] = "low_bit"
    start: str | None = None
    teacher: str | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or self.name == GIVEN:
            raise ValueError(f"Stage: name must be of a-z, 0-9 and _, and not {GIVEN!r}; got {self.name!r}")
        if not callable(self.operands) and self.operands not in _MADE:
            named = ", ".join(map(repr, _MADE))
            raise ValueError(f"Stage: operands must be one of {named}, or a function; got {self.operands!r}")

    def made(self, model: nn.Module) -> nn.Module:
        """The network of this stage, of a model that may be changed."""
        return self.operands(model) if callable(self.operands) else _MADE[self.operands](model)


def train_stages(
    model: nn.Module,
    data: TrainingData,
    stages: Sequence[Stage],
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    teacher: nn.Module | None = None,
    task: Task | None = None,
    checkpoint_steps: int | None = None,
    progress: bool = True,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[History, ...]:
    """Train copies of `model` in all stages but the last, and `model` itself in the last. -> the histories.

    Each stage has its recipe and its subfolder of `folder`, and is trained as `train` does, whose arguments the others
    are. A resumed run goes on in the stage that it was in; only the last may then have more epochs, and a stage from
    whose end no other began.

    Raises: as `train`; ValueError for stages that name none before them, a last stage that is not all low-bit, a model
    without low-bit layers, and more epochs of a stage from which another began.
    """
    _check(stages, teacher)
    places = [None if folder is None else Path(folder) / stage.name for stage in stages]
    began = [place is not None and (place / FILE_NAME).exists() for place in places]
    if any(began) and not resume:
        place = places[began.index(True)]
        raise FileExistsError(f"train_stages: {place} holds a checkpoint; continue it with resume=True")
    _check_epochs(stages, places, began)
    fresh = [copy.deepcopy(model) for _ in stages[:-1]]
    networks: dict[str, nn.Module] = {}
    histories = []
    for stage, place, start, has_begun in zip(stages, places, [*fresh, model], began, strict=True):
        network = networks[stage.name] = stage.made(start)
        if stage.start is not None:
            network.load_state_dict(networks[stage.start].state_dict(), strict=True)
        taught = teacher if stage.teacher == GIVEN else networks.get(stage.teacher or "")
        histories.append(
            train(
                network,
                data,
                stage.recipe,
                folder=place,
                resume=has_begun,
                teacher=taught,
                task=task,
                checkpoint_steps=checkpoint_steps,
                progress=progress,
                on_step=on_step,
                on_epoch=on_epoch,
            )
        )
    return tuple(histories)


def _check(stages: Sequence[Stage], teacher: nn.Module | None) -> None:
    """Raises: ValueError."""
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"train_stages: stages need names of their own, one at least; got {names}")
    if stages[-1].operands != "low_bit":
        raise ValueError(
            f"train_stages: the last stage trains the model itself, so its operands are 'low_bit'; got "
            f"{stages[-1].operands!r}; wrap the model with use_real_weights and call train for less"
        )
    for place, stage in enumerate(stages):
        for what, named in (("start", stage.start), ("teacher", stage.teacher)):
            if named is not None and named not in names[:place] and (what, named) != ("teacher", GIVEN):
                raise ValueError(
                    f"train_stages: stage {stage.name!r} has {what}={named!r}, and no stage before it is called so"
                )
    wants = [stage.name for stage in stages if stage.teacher == GIVEN]
    if bool(wants) != (teacher is not None):
        given = "None" if teacher is None else type(teacher).__name__
        raise ValueError(f"train_stages: stages with a given teacher are {wants}; got teacher={given}")


def _check_epochs(stages: Sequence[Stage], places: Sequence[Path | None], began: Sequence[bool]) -> None:
    """Refuse to train a stage further whose weights another has left behind. Raises: ValueError."""
    for stage, place, has_begun in zip(stages, places, began, strict=True):
        after = [s.name for s, b in zip(stages, began, strict=True) if b and stage.name in (s.start, s.teacher)]
        if place is None or not has_begun or not after:
            continue
        planned = planned_epochs(place / FILE_NAME)
        if planned is not None and stage.recipe.epochs > planned:
            raise ValueError(
                f"train_stages: stage {after[0]!r} began after {planned} epochs of {stage.name!r} in {place}; got "
                f"epochs={stage.recipe.epochs} there; leave them, and give the later stage more"
            )
