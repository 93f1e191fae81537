# SPDX-License-Identifier: Apache-2.0
"""A folder with a packed DDNN: a file of each program, and ddnn.json, which says how they belong together.

Each machine reads ddnn.json and the programs of its own part alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bittern._files import write_atomically
from bittern.ddnn.entropy import check_thresholds
from bittern.ddnn.packed import CloudPrograms, DevicePrograms, EdgePrograms, LocalPrograms, PackedDDNN, Shapes
from bittern.deploy import FormatError, Packed, load
from bittern.models.aggregation import ALL, Aggregation
from bittern.models.ddnn import EDGE, LOCAL

NAME = "ddnn.json"
VERSION = 1
MOST_DEVICES = 256
MOST_SIZE = 2**16
"""Of a dimension, or of the number of classes."""


@dataclass(frozen=True)
class Tiling:
    """How devices cut their views from images: rows x columns tiles, normalized by channel."""

    rows: int
    columns: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class DDNNFolder:
    """What ddnn.json says; its methods read the programs of one part."""

    path: Path
    shapes: Shapes
    local_aggregation: Aggregation
    edge_aggregation: Aggregation | None
    cloud_aggregation: Aggregation
    shared: bool
    """Whether all devices have the same programs."""
    thresholds: tuple[float, ...]
    """Those that were chosen when it was made."""
    classes: tuple[str, ...] = ()
    """A name for each, where they have names."""
    tiling: Tiling | None = None

    def device(self, index: int) -> DevicePrograms:
        """Raises: ValueError for a device that is none; FormatError, FileNotFoundError."""
        if not 0 <= index < self.shapes.devices:
            raise ValueError(f"{self.path}: has the devices 0 ... {self.shapes.devices - 1}; got {index}")
        name = "device" if self.shared else f"device_{index}"
        block = self._read(f"{name}_block", self.shapes.view)
        return DevicePrograms(block, self._read(f"{name}_head", self.shapes.features))

    def local(self) -> LocalPrograms:
        """Raises: FormatError, FileNotFoundError."""
        gathered = self.local_aggregation.channels(self.shapes.classes, self.shapes.devices)
        needs = not self.local_aggregation.keeps_size
        return LocalPrograms(self.local_aggregation, self._read("local_head", (gathered,)) if needs else None)

    def edge(self) -> EdgePrograms | None:
        """Raises: FormatError, FileNotFoundError."""
        if self.edge_aggregation is None or self.shapes.edge_features is None:
            return None
        block = self._read("edge_block", self._gathered(self.edge_aggregation, self.shapes.features))
        return EdgePrograms(self.edge_aggregation, block, self._read("edge_head", self.shapes.edge_features))

    def cloud(self) -> CloudPrograms:
        """Raises: FormatError, FileNotFoundError."""
        before = self.shapes.edge_features
        takes = self._gathered(self.cloud_aggregation, self.shapes.features) if before is None else before
        return CloudPrograms(self.cloud_aggregation, self._read("cloud", takes))

    def network(self) -> PackedDDNN:
        """All parts. Raises: FormatError, FileNotFoundError."""
        devices = [self.device(index) for index in range(1 if self.shared else self.shapes.devices)]
        devices *= self.shapes.devices if self.shared else 1
        return PackedDDNN(self.shapes, tuple(devices), self.local(), self.edge(), self.cloud())

    def _gathered(self, aggregation: Aggregation, each: tuple[int, ...]) -> tuple[int, ...]:
        return aggregation.channels(each[0], self.shapes.devices), *each[1:]

    def _read(self, name: str, takes: tuple[int, ...]) -> Packed:
        path = self.path / f"{name}.safetensors"
        packed = load(path)
        if not packed.takes_one_tensor or packed.sizes or packed.input_shape != takes:
            raise FormatError(f"{path}: takes other inputs than the {list(takes)} that {NAME} says")
        return packed


def save_ddnn(
    network: PackedDDNN,
    path: str | Path,
    *,
    thresholds: Sequence[float],
    classes: Sequence[str] = (),
    tiling: Tiling | None = None,
) -> DDNNFolder:
    """Write all parts into a folder, which is made; files that are there are replaced.

    thresholds: of the local exit, and of the edge where there is one. classes: a name for each. tiling: how the command
    line cuts views from images; None: it cannot. Raises: ValueError; OSError.
    """
    path = Path(path)
    shared = all(device is network.devices[0] for device in network.devices) and len(network.devices) > 1
    edge = network.edge
    early = (LOCAL,) if edge is None else (LOCAL, EDGE)
    if classes and len(classes) != network.shapes.classes:
        raise ValueError(f"save_ddnn: needs a name for each of {network.shapes.classes} classes; got {len(classes)}")
    made = DDNNFolder(
        path,
        network.shapes,
        network.local.aggregation,
        None if edge is None else edge.aggregation,
        network.cloud.aggregation,
        shared,
        check_thresholds(thresholds, early),
        tuple(classes),
        tiling,
    )
    path.mkdir(parents=True, exist_ok=True)
    for name, packed in _files(network, shared).items():
        packed.save(path / f"{name}.safetensors")
    write_atomically(path / NAME, (json.dumps(_written(made), indent=2) + "\n").encode())
    return made


def _files(network: PackedDDNN, shared: bool) -> dict[str, Packed]:
    files: dict[str, Packed] = {}
    for index, device in enumerate(network.devices[:1] if shared else network.devices):
        name = "device" if shared else f"device_{index}"
        files |= {f"{name}_block": device.block, f"{name}_head": device.head}
    if network.local.head is not None:
        files["local_head"] = network.local.head
    if network.edge is not None:
        files |= {"edge_block": network.edge.block, "edge_head": network.edge.head}
    return {**files, "cloud": network.cloud.program}


def _written(folder: DDNNFolder) -> dict[str, Any]:
    shapes, tiling = folder.shapes, folder.tiling
    return {
        "version": VERSION,
        "devices": shapes.devices,
        "classes": list(folder.classes) or shapes.classes,
        "view": list(shapes.view),
        "features": list(shapes.features),
        "edge_features": None if shapes.edge_features is None else list(shapes.edge_features),
        "local": folder.local_aggregation.name,
        "edge": None if folder.edge_aggregation is None else folder.edge_aggregation.name,
        "cloud": folder.cloud_aggregation.name,
        "shared": folder.shared,
        "thresholds": list(folder.thresholds),
        "tiling": None if tiling is None else {**vars(tiling), "mean": list(tiling.mean), "std": list(tiling.std)},
    }


def open_ddnn(path: str | Path) -> DDNNFolder:
    """What a folder holds; no program is read yet. Raises: FileNotFoundError; FormatError for one that is not sound."""
    file = Path(path) / NAME
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no {NAME} there; 'bittern ddnn train' and save_ddnn write one")
    try:
        return _read_folder(Path(path), json.loads(file.read_bytes()))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FormatError(f"{file}: does not describe a DDNN of version {VERSION}: {error}") from error


def _read_folder(path: Path, said: Any) -> DDNNFolder:
    if not isinstance(said, dict) or said.get("version") != VERSION:
        raise ValueError("its version is another")
    names = said["classes"]
    if isinstance(names, list) and not all(isinstance(name, str) for name in names):
        raise ValueError("classes must be names, or their number")
    edge = None if said["edge_features"] is None else _sizes(said["edge_features"], 3)
    count = len(names) if isinstance(names, list) else _sizes([names], 1)[0]
    (devices,) = _sizes([said["devices"]], 1)
    if devices > MOST_DEVICES or count < 2 or (edge is None) != (said["edge"] is None):
        raise ValueError(f"it must have up to {MOST_DEVICES} devices, two classes, and an edge wholly or not at all")
    shapes = Shapes(devices, count, _sizes(said["view"], 3), _sizes(said["features"], 3), edge)
    return DDNNFolder(
        path,
        shapes,
        _aggregation(said["local"]),
        None if edge is None else _aggregation(said["edge"]),
        _aggregation(said["cloud"]),
        said["shared"] is True,
        check_thresholds(_numbers(said["thresholds"]), (LOCAL,) if edge is None else (LOCAL, EDGE)),
        tuple(names) if isinstance(names, list) else (),
        None if said["tiling"] is None else _tiling(said["tiling"], shapes),
    )


def _sizes(values: Any, count: int) -> tuple[int, ...]:
    sound = isinstance(values, list) and len(values) == count
    if not sound or not all(type(value) is int and 1 <= value <= MOST_SIZE for value in values):
        raise ValueError(f"sizes must be {count} whole numbers in 1 ... {MOST_SIZE}; got {values!r}")
    return tuple(values)


def _numbers(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"must be a list of numbers; got {values!r}")
    return tuple(float(value) for value in values)


def _aggregation(name: Any) -> Aggregation:
    for known in ALL:
        if known.name == name:
            return known
    raise ValueError(f"an aggregation is one of {', '.join(known.name for known in ALL)}; got {name!r}")


def _tiling(said: Any, shapes: Shapes) -> Tiling:
    rows, columns = _sizes([said["rows"], said["columns"]], 2)
    mean, std = _numbers(said["mean"]), _numbers(said["std"])
    if rows * columns != shapes.devices or not len(mean) == len(std) == shapes.view[0]:
        raise ValueError("its tiling must have a tile for each device, and a mean and std for each channel")
    return Tiling(rows, columns, mean, std)
