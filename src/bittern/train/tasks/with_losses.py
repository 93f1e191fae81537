# SPDX-License-Identifier: Apache-2.0
"""A task and losses beside its own, of which some look at a teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bittern.nn._probe import eval_mode
from bittern.train.added.added_loss import TASK, AddedLoss, Seen
from bittern.train.added.points import check_names, watched
from bittern.train.precision import Mixed
from bittern.train.tasks.task import Batch, Evaluation, Measured, Task


@dataclass(frozen=True)
class WithLosses(Task):
    """The loss of `task` plus sum of weight * loss over `losses`; score and evaluation are those of `task` alone.

    teacher: called as the task calls the model, in eval mode, without gradients and outside of mixed precision. A
    batch's parts are the task's own loss as "task", and weight * loss under each loss's name.
    `train` makes one of `Recipe.losses`.

    Raises: ValueError, TypeError for what `check_losses` refuses, for modules that do not run exactly once or whose
    outputs do not fit the teacher's.
    """

    task: Task
    losses: tuple[AddedLoss, ...]
    teacher: nn.Module | None = None

    @property
    def metric(self) -> str:  # type: ignore[override]
        return self.task.metric

    @property
    def items(self) -> str:  # type: ignore[override]
        return self.task.items

    def measure(self, model: Callable[..., Any], batch: Batch) -> Measured:
        if not isinstance(model, nn.Module):
            raise TypeError(f"WithLosses: the model must be a module, in which names are found; got {type(model)}")
        inner = model.model if isinstance(model, Mixed) else model
        check_losses(self.losses, inner, self.teacher)
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        pairs = [pair for loss in self.losses for pair in loss.pairs]
        handle = model.register_forward_pre_hook(
            lambda module, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
        )
        try:
            with watched(inner, (mine for mine, _ in pairs), "model") as student:
                measured = self.task.measure(model, batch)
        finally:
            handle.remove()
        seen = Seen(inner, student, self._taught([theirs for _, theirs in pairs], calls))
        added = [(loss.name, loss.weight * loss(seen)) for loss in self.losses]
        total = sum((value for _, value in added), measured.loss)
        own = measured.parts or ((TASK, measured.loss),)
        return Measured(total, measured.score, (*own, *added))

    def evaluate(self, model: Callable[..., Any], batches: Iterable[Batch]) -> Evaluation:
        return self.task.evaluate(model, batches)

    def check(self, batch: Batch, subject: str) -> Batch:
        return self.task.check(batch, subject)

    def describe(self) -> str:
        teacher = None if self.teacher is None else type(self.teacher).__name__
        return f"WithLosses(task={self.task.describe()}, losses={self.losses!r}, teacher={teacher})"

    def _taught(self, names: Sequence[str], calls: Sequence[tuple[Any, Any]]) -> dict[str, torch.Tensor]:
        """What the teacher shows on the very arguments with which the model was called."""
        if self.teacher is None or not names:
            return {}
        with eval_mode(self.teacher), torch.no_grad(), watched(self.teacher, names, "teacher") as found:
            for args, kwargs in calls:
                self.teacher(*args, **kwargs)
        return found


def check_losses(losses: Sequence[AddedLoss], model: nn.Module, teacher: nn.Module | None) -> None:
    """Refuse losses that look at a teacher where there is none, or at modules that are not there.

    Raises: ValueError.
    """
    modules, pairs = dict(model.named_modules(remove_duplicate=False)), [p for loss in losses for p in loss.pairs]
    check_names((mine for mine, _ in pairs), modules, "model")
    if pairs and teacher is None:
        named = ", ".join(loss.name for loss in losses if loss.pairs)
        raise ValueError(f"train: {named} compares the model with a teacher; give train(..., teacher=...)")
    if teacher is not None:
        check_names((theirs for _, theirs in pairs), dict(teacher.named_modules(remove_duplicate=False)), "teacher")
