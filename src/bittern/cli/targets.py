"""What `bittern eval` tests: a run folder, a checkpoint, or a packed file, seen alike."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bittern.cli import run_folder

if TYPE_CHECKING:
    from torch import Tensor

    from bittern.data import ImageData
    from bittern.deploy import Packed


@dataclass(frozen=True)
class PackedInfo:
    """What `bittern pack` notes in a packed file about the images that the network takes."""

    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    data: str
    """Of its training, as `names.data_spec` has it."""

    def to_info(self) -> dict[str, str]:
        """Texts for `Packed.info`."""
        return {field.name: json.dumps(getattr(self, field.name), ensure_ascii=False) for field in FIELDS}


FIELDS = dataclasses.fields(PackedInfo)


def packed_info(path: Path, packed: Packed) -> PackedInfo:
    """Read the notes back. Raises: ValueError when they are missing or damaged."""
    values: dict[str, Any] = {}
    kinds: dict[str, type] = {"classes": str, "mean": float, "std": float}
    for field in FIELDS:
        text = packed.info.get(field.name)
        if text is None:
            raise ValueError(
                f"{path} does not say its {field.name}; pack with 'bittern pack', "
                f"or set packed.info[{field.name!r}] to JSON text before saving"
            )
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{path}: its {field.name} is not JSON: {error}") from error
        kind = kinds.get(field.name)
        if kind is None:
            sound = isinstance(value, str)
        else:
            sound = isinstance(value, list) and bool(value) and all(isinstance(item, kind) for item in value)
        if not sound:
            raise ValueError(f"{path}: its {field.name} is {text}; pack it again")
        values[field.name] = tuple(value) if isinstance(value, list) else value
    info = PackedInfo(**values)
    channels = packed.input_shape[0]
    if not len(info.mean) == len(info.std) == channels or not all(s > 0 for s in info.std):
        raise ValueError(f"{path}: its mean and std do not fit images with {channels} channels; pack it again")
    return info


@dataclass(frozen=True)
class Target:
    """Something that turns normalized images into logits, and what it knows about them."""

    kind: str
    path: Path
    network: Callable[[Tensor], Tensor]
    info: PackedInfo

    def data(self) -> str:
        """Spec of the data set of its training."""
        return self.info.data

    def with_own_statistics(self, images: ImageData) -> ImageData:
        """The data set, normalized as in training. Raises: ValueError when its classes or channels are others."""
        if images.classes != self.info.classes or len(self.info.mean) != images.image_shape[0]:
            raise ValueError(
                f"{self.path} was trained for {len(self.info.classes)} classes ({', '.join(self.info.classes[:3])}, "
                f"...) with {len(self.info.mean)} channel(s), and {images.name} has {len(images.classes)} "
                f"({', '.join(images.classes[:3])}, ...) with {images.image_shape[0]}; give its own data set"
            )
        return dataclasses.replace(images, mean=self.info.mean, std=self.info.std)


def load_packed(path: Path) -> Packed:
    """Read a packed file. Raises: FileNotFoundError; ValueError, which for a checkpoint says what to do."""
    from bittern import deploy

    if path.is_dir() or (path.is_file() and _is_checkpoint(path)):
        raise ValueError(f"{path} is not packed; pack it first: bittern pack {path} -o {path.stem}-packed.safetensors")
    return deploy.load(path)


def open_target(path: Path) -> Target:
    """Raises: FileNotFoundError, ValueError."""
    from bittern import deploy

    if path.is_file() and not _is_checkpoint(path):
        packed = deploy.load(path)
        return Target("packed model", path, packed, packed_info(path, packed))
    run, network = run_folder.trained(path)
    return Target("trained network", path, network, info_of(run))


def info_of(run: run_folder.Run) -> PackedInfo:
    return PackedInfo(run.classes, run.mean, run.std, run.options.data)


def _is_checkpoint(path: Path) -> bool:
    """Whether a file is a training checkpoint; what cannot be read at all is left to the reader of packed files."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return "bittern_checkpoint" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False
