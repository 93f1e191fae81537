# SPDX-License-Identifier: Apache-2.0
"""What every benchmark that trains does: start a network, train it by its recipes, pack and verify it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bittern import deploy
from bittern.deploy.packed import Packed
from bittern.deploy.verify_report import VerifyReport
from bittern.train import Epoch, Recipe, Stage, Task, train, train_stages, train_two_stage
from bittern.train.checkpoint import FILE_NAME
from bittern.train.source import TrainingData

STAGES = 2
"""Of a training in two stages: real weights first (`train_two_stage`)."""
CPU = torch.device("cpu")


class Packing(NamedTuple):
    """A packed model and what was found about it."""

    packed: Packed
    report: VerifyReport
    """Of packed model and training graph."""
    file: bytes


def fresh(build: Callable[[], nn.Module], seed: int, device: torch.device = CPU) -> nn.Module:
    """A network whose start depends on the seed alone; torch's generators are left as they were."""
    with torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return build().to(device)


def fit(
    model: nn.Module,
    data: TrainingData,
    stages: Sequence[Recipe] | Sequence[Stage],
    *,
    folder: Path | None = None,
    task: Task | None = None,
    progress: bool = False,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoint_steps: int | None = None,
) -> tuple[Epoch, ...]:
    """Train in place by one recipe, the two of `train_two_stage`, or `train_stages`, and leave the model in eval mode.

    folder: where checkpoints go; a run that was killed goes on from what it holds. -> every epoch, of all stages.

    Raises: as `bittern.train.train`; ValueError for another number of recipes.
    """
    recipes = [stage for stage in stages if isinstance(stage, Recipe)]
    named = [stage for stage in stages if isinstance(stage, Stage)]
    if not named and not 1 <= len(recipes) <= STAGES:
        raise ValueError(f"fit: takes one recipe or two; got {len(recipes)}")
    options: dict[str, Any] = {
        "folder": folder,
        "task": task,
        "progress": progress,
        "on_epoch": on_epoch,
        "checkpoint_steps": checkpoint_steps,
    }
    if named:
        begun = folder is not None and (folder / named[0].name / FILE_NAME).is_file()
        epochs = tuple(row for one in train_stages(model, data, named, resume=begun, **options) for row in one.epochs)
    elif len(recipes) == 1:
        begun = folder is not None and (folder / FILE_NAME).is_file()
        epochs = train(model, data, recipes[0], resume=begun, **options).epochs
    else:
        begun = folder is not None and (folder / "stage1" / FILE_NAME).is_file()
        both = train_two_stage(model, data, *recipes, resume=begun, **options)
        epochs = (*both.first.epochs, *both.second.epochs)
    model.eval()
    return epochs


def pack_exactly(model: nn.Module, inputs: Tensor) -> Packing:
    """Pack a trained model and compare it with its training graph on `inputs`. Raises: what `deploy.pack` raises."""
    packed = deploy.pack(model, inputs[:1])
    return Packing(packed, deploy.verify(packed, model, inputs), packed.to_bytes())
