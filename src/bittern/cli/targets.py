# SPDX-License-Identifier: Apache-2.0
"""What `bittern eval` tests: a run folder, a checkpoint, or a packed file, seen alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bittern.cli import names, run_folder, sizes
from bittern.cli.errors import Misused
from bittern.cli.program import command

if TYPE_CHECKING:
    from torch import Tensor

    from bittern.data import FolderData, ImageData
    from bittern.deploy import Packed
    from bittern.deploy.image_info import ImageInfo

TFLITE = ".tflite"
EXPORTED = (".c", ".pte", ".onnx")
"""Ends of the names of what `bittern export` writes, which only goes one way."""
IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp")
"""Ends of the names of what is easily given in place of the packed file."""


def packed_info(path: Path, packed: Packed) -> ImageInfo:
    """What a packed file says about its images.

    Raises: ValueError when it is damaged or does not fit the network, and for a network that takes more than images.
    """
    from bittern.deploy.image_info import read_image_info

    _check_images_alone(path, packed)
    try:
        info = read_image_info(packed.info)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    shape = answers_of(packed)
    problem = info.problem(packed.input_shape[0], shape[0] if len(shape) == 1 else None)
    if problem is not None:
        raise ValueError(f"{path}: {problem}; pack it again")
    return info


def for_images(path: Path, packed: Packed, size: Sequence[str]) -> Packed:
    """A network that takes images and nothing else, at these sizes (`sizes.at`). Raises: ValueError, Misused."""
    _check_images_alone(path, packed)
    return sizes.at(path, packed, size)


def _check_images_alone(path: Path, packed: Packed) -> None:
    if not packed.takes_one_tensor:
        inputs = ", ".join(given.name for given in packed.inputs)
        raise ValueError(
            f"{path} is called with {inputs}, and this command gives a network images alone; call it from Python: "
            f"bittern.load({str(path)!r})"
        )


def answers_of(packed: Packed) -> tuple[int, ...]:
    """Shape of the answer to one sample."""
    from bittern.deploy.shapes import forms_of

    form = forms_of(packed.program, packed.tensors)[packed.program.output]
    if form.type not in ("real", "int8"):
        raise ValueError("this packed model gives several answers; the command line reads those that give one")
    return form.shape[1:]


def of_reals(path: Path, packed: Packed) -> Callable[[Tensor], Tensor]:
    """The network as one that takes and gives real numbers. Raises: ValueError."""
    from bittern.deploy import integer_ends
    from bittern.deploy.shapes import forms_of

    answers = forms_of(packed.program, packed.tensors)[packed.program.output].type
    try:
        return integer_ends.of_reals(packed, answers)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; call it from Python") from error


def need(path: Path, info: ImageInfo, wanted: Sequence[str], options: Sequence[str]) -> None:
    """Raises: ValueError naming all of the `wanted` entries that the file lacks; `options`: what may be given here."""
    missing = [name for name in wanted if getattr(info, name) is None]
    if not missing:
        return
    arguments = ", ".join(f"{name}=..." for name in missing)
    here = [f"--{name}" for name in missing if name in options]
    ways = f"give {' and '.join(here)}, or " if len(here) == len(missing) else ""
    raise ValueError(
        f"{path} does not say its {' and '.join(missing)}; {ways}pack it again with "
        f"bittern.pack(model, example, {arguments})"
    )


@dataclass(frozen=True)
class Target:
    """Something that turns normalized images into logits, and what it knows about them."""

    kind: str
    path: Path
    network: Callable[[Tensor], Tensor]
    info: ImageInfo

    def data(self) -> str:
        """Spec of the data set of its training. Raises: ValueError where the file does not say where to find it."""
        need(self.path, self.info, ("data",), ("data",))
        spec = self.info.data
        assert spec is not None
        if not names.is_spec(spec):
            raise ValueError(f"{self.path} was trained on {spec!r} and does not say where it lies; give --data FOLDER")
        return spec

    def with_own_statistics(self, images: ImageData | FolderData) -> ImageData | FolderData:
        """The data set, normalized as in training. Raises: ValueError when its classes or channels are others."""
        need(self.path, self.info, ("classes", "mean", "std"), ())
        classes, mean, std = self.info.classes, self.info.mean, self.info.std
        assert classes is not None
        assert mean is not None
        assert std is not None
        if images.classes != classes or len(mean) != images.image_shape[0]:
            raise ValueError(
                f"{self.path} was trained for {len(classes)} classes ({', '.join(classes[:3])}, "
                f"...) with {len(mean)} channel(s), and {images.name} has {len(images.classes)} "
                f"({', '.join(images.classes[:3])}, ...) with {images.image_shape[0]}; give its own data set"
            )
        return dataclasses.replace(images, mean=mean, std=std)


def load_packed(path: Path) -> Packed:
    """Read a packed file. Raises: FileNotFoundError; ValueError, which says what the file is instead and what to do."""
    _refuse_other_files(path)
    if (path / run_folder.FILE_NAME).is_file() or (path.is_file() and _is_checkpoint(path)):
        how = command("pack", path, "-o", f"{path.stem}-packed.safetensors")
        raise ValueError(f"{path} is not packed; pack it first: {how}")
    return _read(path)


def _read(path: Path) -> Packed:
    """A packed file, or an int8 network of TensorFlow Lite, which is read as one."""
    if path.suffix.lower() == TFLITE:
        from bittern.compat import tflite

        return tflite.load(path)
    from bittern import deploy

    return deploy.load(path)


def _refuse_other_files(path: Path) -> None:
    """Raises: FileNotFoundError; ValueError for a folder that is no run folder, and for what export writes."""
    if not path.exists():
        raise FileNotFoundError(f"no file {path}; 'bittern pack' writes a packed file, and so does Packed.save")
    if path.is_dir() and not (path / run_folder.FILE_NAME).is_file():
        raise ValueError(f"{path} is a folder, and no run folder of 'bittern train'; give a packed file here")
    if path.suffix in EXPORTED:
        raise ValueError(f"{path} is no packed file but what 'bittern export' makes of one; give that one")
    if path.suffix.lower() in IMAGES:
        raise ValueError(f"{path} is an image; the packed file comes first, as in: {command('run', 'FILE', path)}")


def open_target(path: Path, size: Sequence[str] = ()) -> Target:
    """size: as `sizes.at` takes it. Raises: FileNotFoundError, ValueError; Misused."""
    if not path.is_dir():
        _refuse_other_files(path)
    if path.is_file() and not _is_checkpoint(path):
        packed = for_images(path, _read(path), size)
        return Target("packed model", path, of_reals(path, packed), packed_info(path, packed))
    if size:
        raise Misused(f"--size {size[0]}: {path} is a trained network, and none of its sizes is chosen; leave it out")
    run, network = run_folder.trained(path)
    return Target("trained network", path, network, info_of(run))


def info_of(run: run_folder.Run) -> ImageInfo:
    from bittern.deploy.image_info import ImageInfo

    return ImageInfo(run.classes, run.mean, run.std, run.options.data)


def _is_checkpoint(path: Path) -> bool:
    """Whether a file is a training checkpoint; what cannot be read at all is left to the reader of packed files."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return "bittern_checkpoint" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False
