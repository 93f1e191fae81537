# SPDX-License-Identifier: Apache-2.0
"""What `train` checks and arranges before its first step."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from bittern._files import only_one, remove_leftovers, write_atomically
from bittern.data.folder import FolderData
from bittern.data.images import ImageData
from bittern.optim import BayesBiNN, CaseOptimizer, Cases, LayerRates
from bittern.train.checkpoint import FILE_NAME
from bittern.train.evaluate import classification_of
from bittern.train.loss import CrossEntropy
from bittern.train.recipe import Recipe
from bittern.train.schedule import Schedule
from bittern.train.source import Source, TrainingData, check_pair
from bittern.train.tasks.task import Task
from bittern.train.tasks.with_losses import WithLosses, check_losses

RECIPE_NAME = "recipe.json"


def check_arguments(
    model: nn.Module,
    data: TrainingData,
    recipe: Recipe,
    teacher: nn.Module | None,
    checkpoint_steps: int | None,
    resume: bool,
    folder: str | Path | None,
) -> torch.device:
    """The one device of the model. Raises: ValueError, TypeError."""
    if not isinstance(recipe, Recipe):
        raise TypeError(f"train: recipe must be Recipe; got {type(recipe).__name__}")
    if not isinstance(data, (ImageData, FolderData)):
        check_pair(data)
        if isinstance(data[0], DataLoader) and checkpoint_steps is not None:
            raise ValueError(
                "train: a run over a loader, whose order is its own, can only go on at the start of an epoch; leave "
                "checkpoint_steps out, or give the dataset instead of the loader"
            )
    if checkpoint_steps is not None and checkpoint_steps < 1:
        raise ValueError(f"train: checkpoint_steps must be at least 1 or None; got {checkpoint_steps}")
    if folder is None and (resume or checkpoint_steps is not None):
        raise ValueError("train: resume and checkpoint_steps need a folder; got folder=None")
    check_losses(recipe.losses, model, teacher)
    looks = recipe.distillation is not None or any(loss.pairs for loss in recipe.losses)
    if (teacher is None) == looks:
        given = "None" if teacher is None else type(teacher).__name__
        raise ValueError(
            "train: a teacher and recipe.distillation, or losses that compare with one, go together; "
            f"got teacher={given}, distillation={recipe.distillation}, losses={recipe.losses}"
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("train: the model has no parameter to train; leave requires_grad on for some")
    tensors = [*model.parameters(), *(teacher.parameters() if teacher is not None else ())]
    device: torch.device = tensors[0].device
    if any(t.device != device for t in tensors) or device.type not in ("cpu", "cuda"):
        listed = ", ".join(sorted({str(t.device) for t in tensors}))
        raise ValueError(f"train: model and teacher must be on one device, a CPU or a CUDA GPU; got {listed}")
    return device


LOCK_NAME = "training.lock"


@contextmanager
def open_folder(folder: str | Path | None, resume: bool) -> Iterator[Path | None]:
    """The place of the checkpoint, in a folder that this process alone trains in meanwhile; None without a folder.

    Raises: FileNotFoundError, FileExistsError, InUseError, OSError.
    """
    if folder is None:
        yield None
        return
    path = Path(folder) / FILE_NAME
    _check_checkpoint(path, resume)
    path.parent.mkdir(parents=True, exist_ok=True)
    refusal = f"train: another process trains in {path.parent}; wait for its end, or choose another folder"
    with only_one(path.parent / LOCK_NAME, refusal):
        # again, for the other process may have come to its end in between
        _check_checkpoint(path, resume)
        remove_leftovers(path)
        yield path


def _check_checkpoint(path: Path, resume: bool) -> None:
    if resume and not path.is_file():
        raise FileNotFoundError(f"train: no checkpoint {path} to resume from; start with resume=False")
    if not resume and path.exists():
        raise FileExistsError(f"train: {path} exists; continue it with resume=True, or choose another folder")


def task_of(recipe: Recipe, data: TrainingData, teacher: nn.Module | None, task: Task | None) -> Task:
    """The recipe's classification, unless it is said, with the recipe's added losses. Raises: TypeError, ValueError."""
    own = _own_task(recipe, data, teacher, task)
    return WithLosses(own, recipe.losses, teacher) if recipe.losses else own


def _own_task(recipe: Recipe, data: TrainingData, teacher: nn.Module | None, task: Task | None) -> Task:
    if task is None:
        own = classification_of(data, recipe.loss)
        if recipe.distillation is None:
            return own
        return dataclasses.replace(own, distillation=recipe.distillation, teacher=teacher)
    if not isinstance(task, Task):
        raise TypeError(f"train: task must be a Task; got {type(task).__name__}")
    if recipe.loss != CrossEntropy() or recipe.distillation is not None:
        raise ValueError(
            "train: recipe.loss and recipe.distillation are those of a classification, and a task has its own loss; "
            "leave them out"
        )
    return task


def build_optimizer(recipe: Recipe, model: nn.Module, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The recipe's optimizer; of cases and rates of layers that of the model, whose names and modules tell them."""
    if isinstance(recipe.optimizer, Cases | LayerRates):
        return recipe.optimizer(groups, recipe.learning_rate, model=model)
    return recipe.optimizer(groups, lr=recipe.learning_rate)


def schedules_of(optimizer: torch.optim.Optimizer, recipe: Recipe) -> list[Schedule]:
    """The schedule of the rate of each parameter group."""
    own = optimizer.schedules if isinstance(optimizer, CaseOptimizer) else (None,) * len(optimizer.param_groups)
    return [recipe.schedule if schedule is None else schedule for schedule in own]


def draws_samples(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step draws weights and evaluates the model by a closure."""
    return isinstance(optimizer, BayesBiNN) or (isinstance(optimizer, CaseOptimizer) and optimizer.draws_samples)


def run_identity(recipe: Recipe, source: Source, teacher: nn.Module | None, task: Task | None) -> dict[str, Any]:
    """What a resumed run must share with the one that it continues. task: that of the caller."""
    return {
        **recipe.identity(),
        "data": source.describe(),
        "teacher": None if teacher is None else type(teacher).__name__,
        **({} if task is None else {"task": task.describe()}),
    }


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write recipe.json: every field, and where the recipe comes from. Raises: OSError."""
    write_atomically(folder / RECIPE_NAME, (json.dumps(recipe.describe(), indent=2) + "\n").encode())


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators and put the caller's states back at the end."""
    with torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def held_still(teacher: nn.Module | None) -> Iterator[None]:
    """The teacher in eval mode, and back."""
    training = teacher is not None and teacher.training
    if teacher is not None:
        teacher.eval()
    try:
        yield
    finally:
        if teacher is not None:
            teacher.train(training)
