"""run.json: what a run folder must remember so that its weights become a network again.

`bittern.train` keeps the weights and checks that a resumed run is the same; this file adds the names from which the
command line builds the network, the recipe and the data.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bittern._files import write_atomically
from bittern.cli import names

if TYPE_CHECKING:
    from torch import nn

FILE_NAME = "run.json"
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


@dataclass(frozen=True)
class Run:
    """A run folder's memory."""

    options: Options
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_shape: tuple[int, ...]
    """[channels, height, width]."""

    def network(self) -> nn.Module:
        """A fresh network, its weights drawn from torch's generator. Raises: ValueError for images that do not fit."""
        channels, height, width = self.input_shape
        if height != width:
            raise ValueError(f"networks take square images; got {height} x {width}; crop or pad the data set")
        method = names.method(self.options.method, self.options.option)
        build = names.network(self.options.model)
        return build(method=method, num_classes=len(self.classes), in_channels=channels, input_size=height)


def save(folder: Path, run: Run) -> None:
    """Write run.json. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"version": VERSION, **dataclasses.asdict(run)}, indent=2, ensure_ascii=False)
    write_atomically(folder / FILE_NAME, (text + "\n").encode())


def load(folder: Path) -> Run:
    """Read run.json. Raises: FileNotFoundError; ValueError for a file that is not what `save` writes."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no run folder: it has no {FILE_NAME}; 'bittern train' writes one")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("version", None) != VERSION:
            raise ValueError("another version")
        data["options"] = _read(Options, data["options"])
        return _read(Run, data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or of another version ({error}); use the folder of another run") from error


def exists(folder: Path) -> bool:
    """Whether a run was begun there."""
    return any((folder / place / CHECKPOINT).exists() for place in ("", *STAGES))


def find(target: Path) -> tuple[Path, Path]:
    """(run folder, newest checkpoint) of a run folder or of a checkpoint inside one. Raises: FileNotFoundError."""
    if target.is_dir():
        places = [target / STAGES[1] / CHECKPOINT, target / CHECKPOINT]
        found = [path for path in places if path.is_file()]
        if (target / FILE_NAME).is_file() and not found:
            unfinished = (target / STAGES[0] / CHECKPOINT).is_file()
            why = "its first stage is not finished" if unfinished else f"it has no {CHECKPOINT}"
            raise FileNotFoundError(f"{target}: {why}; go on with: bittern train --folder {target} --resume")
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


def _read(kind: Any, data: Any) -> Any:
    """A dataclass of plain fields from JSON; every field must be there and of its type."""
    hints = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        value = data.pop(field.name)
        if isinstance(value, list):
            value = tuple(value)
        values[field.name] = value
        if not _fits(value, hints[field.name]):
            raise ValueError(f"{field.name} is {value!r}")
    if data:
        raise ValueError(f"unknown {next(iter(data))}")
    return kind(**values)


def _fits(value: Any, hint: Any) -> bool:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if arguments:
        return any(_fits(value, member) for member in arguments)
    return type(value) is hint or (hint is float and type(value) is int)
