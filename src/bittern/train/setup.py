"""What `train` checks and arranges before its first step."""

from __future__ import annotations

import dataclasses
import json
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bittern._files import write_atomically
from bittern.data.images import ImageData
from bittern.train.checkpoint import FILE_NAME
from bittern.train.recipe import Recipe

RECIPE_NAME = "recipe.json"


def check_arguments(
    model: nn.Module,
    data: ImageData,
    recipe: Recipe,
    teacher: nn.Module | None,
    checkpoint_steps: int | None,
    resume: bool,
    folder: str | Path | None,
) -> torch.device:
    """The one device of the model. Raises: ValueError, TypeError."""
    for name, value, kind in (("data", data, ImageData), ("recipe", recipe, Recipe)):
        if not isinstance(value, kind):
            raise TypeError(f"train: {name} must be {kind.__name__}; got {type(value).__name__}")
    if checkpoint_steps is not None and checkpoint_steps < 1:
        raise ValueError(f"train: checkpoint_steps must be at least 1 or None; got {checkpoint_steps}")
    if folder is None and (resume or checkpoint_steps is not None):
        raise ValueError("train: resume and checkpoint_steps need a folder; got folder=None")
    if (teacher is None) != (recipe.distillation is None):
        given = "None" if teacher is None else type(teacher).__name__
        raise ValueError(
            "train: a teacher and recipe.distillation go together; "
            f"got teacher={given}, distillation={recipe.distillation}"
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("train: the model has no parameter to train; leave requires_grad on for some")
    tensors = [*model.parameters(), *(teacher.parameters() if teacher is not None else ())]
    device: torch.device = tensors[0].device
    if any(t.device != device for t in tensors) or device.type not in ("cpu", "cuda"):
        listed = ", ".join(sorted({str(t.device) for t in tensors}))
        raise ValueError(f"train: model and teacher must be on one device, a CPU or a CUDA GPU; got {listed}")
    return device


def checkpoint_path(folder: Path, resume: bool) -> Path:
    path = folder / FILE_NAME
    if resume and not path.is_file():
        raise FileNotFoundError(f"train: no checkpoint {path} to resume from; start with resume=False")
    if not resume and path.exists():
        raise FileExistsError(f"train: {path} exists; continue it with resume=True, or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    # what a kill in the middle of a write leaves behind
    for leftover in folder.glob(f".{FILE_NAME}.*.tmp"):
        leftover.unlink(missing_ok=True)
    return path


def run_identity(recipe: Recipe, data: ImageData, teacher: nn.Module | None) -> dict[str, Any]:
    """What a resumed run must share with the one that it continues."""
    labels = zlib.crc32(data.train_labels.cpu().contiguous().numpy().data)
    kind = f"{data.name} {list(data.train_images.shape)} {data.train_images.dtype}, labels {labels:08x}"
    return {**recipe.identity(), "data": kind, "teacher": None if teacher is None else type(teacher).__name__}


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write recipe.json: every field, and where the recipe comes from. Raises: OSError."""
    write_atomically(folder / RECIPE_NAME, (json.dumps(recipe.describe(), indent=2) + "\n").encode())


def on_device(data: ImageData, device: torch.device) -> ImageData:
    names = ("train_images", "train_labels", "test_images", "test_labels")
    return dataclasses.replace(data, **{name: getattr(data, name).to(device) for name in names})
