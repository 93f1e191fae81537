# SPDX-License-Identifier: Apache-2.0
"""run.json: what a run folder must remember so that its weights become a network again.

`bittern.train` keeps the weights and checks that a resumed run is the same; this file adds the names from which the
command line builds the network, the recipe and the data.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bittern._files import only_one
from bittern.bench.core import store
from bittern.cli import names
from bittern.cli.program import command

if TYPE_CHECKING:
    from torch import nn

FILE_NAME = "run.json"
LOCK_NAME = "run.lock"
VERSION = 1
CHECKPOINT = "checkpoint.safetensors"
STAGES = ("stage1", "stage2")


@dataclass(frozen=True)
class Options:
    """What the user chose; the defaults are those of `bittern train`."""

    method: str = "ReActNet"
    option: tuple[str, ...] = ()
    """NAME=VALUE for the method."""
    model: str = "resnet20_cifar"
    data: str = names.DIGITS
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 3e-3
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    augment: bool = False
    two_stage: bool = False
    teacher: str | None = None
    seed: int = 0
    latent_weight_decay: float = 0.0
    recipe: str | None = None
    """Method whose paper's recipe was followed, for `epochs` in batches of `batch_size`; it decides what it names."""
    init: str | None = None
    """Run folder or checkpoint whose weights it began with."""
    first_epochs: int | None = None
    """Of the first of two stages, where the second got more `epochs` after it had begun."""
    attention: str | None = None
    """Method of the products of attention."""
    loss: tuple[str, ...] = ()
    """NAME:OPTION=VALUE,... of losses beside that of the task."""
    stage: tuple[str, ...] = ()
    """NAME:OPTION=VALUE,... of stages of the user's."""
    stages: str | None = None
    """Whose paper's stages were followed."""
    stage_names: tuple[str, ...] = ()
    """Subfolders of the stages of either, in their order."""
    precision: str = "float32"
    """What autocast computes in: float32 (no autocast), bfloat16 or float16."""
    clip_norm: float | None = None


ADDED = (
    *("latent_weight_decay", "recipe", "init", "first_epochs"),
    *("attention", "loss", "stage", "stages", "stage_names", "precision", "clip_norm"),
)
"""Options that older run folders do not name."""


@dataclass(frozen=True)
class Run:
    """A run folder's memory."""

    options: Options
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_shape: tuple[int, ...]
    """[channels, height, width]."""
    version: int = VERSION

    def network(self) -> nn.Module:
        """A fresh network, its weights drawn from torch's generator. Raises: ValueError for images that do not fit."""
        channels, height, width = self.input_shape
        if height != width:
            raise ValueError(f"networks take square images; got {height} x {width}; crop or pad the data set")
        method = names.method(self.options.method, self.options.option)
        build = names.network(self.options.model)
        chosen = self.options.attention
        given = {} if chosen is None else {"attention": names.attention(chosen, self.options.model)}
        return build(method=method, num_classes=len(self.classes), in_channels=channels, input_size=height, **given)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other commands from training in `folder`, which is made. Raises: InUseError, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    refusal = f"{folder}: another bittern train runs there; wait for its end, or choose another --folder"
    with only_one(folder / LOCK_NAME, refusal):
        yield


def how_to_go_on(folder: Path) -> str:
    """The command, as a shell takes it."""
    return command("train", "--folder", folder, "--resume")


def save(folder: Path, run: Run) -> None:
    """Write run.json. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    store.save(folder / FILE_NAME, run)


def load(folder: Path) -> Run:
    """Read run.json. Raises: FileNotFoundError; ValueError for a file that is not what `save` writes."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no run folder: it has no {FILE_NAME}; 'bittern train' writes one")
    run = store.load(path, Run, upgrade=_with_added)
    if run.version != VERSION:
        raise ValueError(f"{path} has version {run.version}; this bittern reads {VERSION}; use the one that wrote it")
    return run


def _with_added(text: str) -> str:
    """The text of an older run.json with the options of `ADDED` at their defaults."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(found, dict) or not isinstance(found.get("options"), dict):
        return text
    defaults = {f.name: f.default for f in dataclasses.fields(Options) if f.name in ADDED}
    return json.dumps({**found, "options": {**defaults, **found["options"]}})


def exists(folder: Path) -> bool:
    """Whether a run was begun there."""
    return any((folder / place / CHECKPOINT).exists() for place in ("", *_stages(folder)))


def _stages(folder: Path) -> tuple[str, ...]:
    """Subfolders of the stages of a run, whether it has any or not."""
    named = load(folder).options.stage_names if (folder / FILE_NAME).is_file() else ()
    return named or STAGES


def second_began(folder: Path) -> bool:
    """Whether the second of two stages was begun there."""
    return (folder / STAGES[1] / CHECKPOINT).exists()


def find(target: Path) -> tuple[Path, Path]:
    """(run folder, newest checkpoint) of a run folder or of a checkpoint inside one. Raises: FileNotFoundError."""
    if target.is_dir():
        *before, last = _stages(target)
        places = [target / last / CHECKPOINT, target / CHECKPOINT]
        found = [path for path in places if path.is_file()]
        if (target / FILE_NAME).is_file() and not found:
            begun = [stage for stage in before if (target / stage / CHECKPOINT).is_file()]
            which = "first stage" if begun == [STAGES[0]] else f"stage {begun[-1]!r}" if begun else ""
            why = f"its {which} is not finished" if begun else f"it has no {CHECKPOINT}"
            raise FileNotFoundError(f"{target}: {why}; go on with: {how_to_go_on(target)}")
        return target, found[0] if found else target / CHECKPOINT
    if not target.is_file():
        raise FileNotFoundError(f"no file or folder {target}")
    for folder in (target.parent, target.parent.parent):
        if (folder / FILE_NAME).is_file():
            return folder, target
    raise FileNotFoundError(f"no {FILE_NAME} beside {target}; a checkpoint needs the run folder that it was written in")


def trained(target: Path) -> tuple[Run, nn.Module]:
    """The run and its trained network in eval mode. Raises: FileNotFoundError, ValueError."""
    from bittern.train import load_weights

    folder, checkpoint = find(target)
    run = load(folder)
    model = run.network()
    load_weights(model, checkpoint)
    return run, model.eval()
