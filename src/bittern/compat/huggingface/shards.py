# SPDX-License-Identifier: Apache-2.0
"""The tensors of a folder: one safetensors file, or several that model.safetensors.index.json tells apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bittern._tensor_file import NAMES
from bittern.compat.huggingface.settings import read_json

_DTYPES = {name: dtype for dtype, name in NAMES.items()}
INDEX = "model.safetensors.index.json"


class Shards:
    """Tensors by name: sizes and types at once, numbers when they are asked for.

    headers: on the meta device.
    """

    def __init__(self, headers: Mapping[str, Tensor], files: Mapping[str, Any]) -> None:
        self.headers = headers
        self._files = files

    def read(self, name: str) -> Tensor:
        found: Tensor = self._files[name].get_tensor(name)
        return found


@contextmanager
def open_shards(folder: Path, device: torch.device) -> Iterator[Shards]:
    """The files stay open inside.

    Raises: ValueError for an index that does not fit its files, or a damaged file; OSError.
    """
    placed = _index(folder)
    headers: dict[str, Tensor] = {}
    files: dict[str, Any] = {}
    with ExitStack() as stack:
        for name in sorted(set(placed.values())) if placed else [_only_file(folder)]:
            file = stack.enter_context(_opened(folder / name, device))
            found = set(file.keys())
            listed = {tensor for tensor, where in placed.items() if where == name} if placed else found
            if found != listed:
                other = sorted(found ^ listed)[0]
                raise ValueError(f"{INDEX} and {name} must have the same tensors; {other!r} is in one of them alone")
            headers |= {tensor: _header(file, tensor) for tensor in found}
            files |= dict.fromkeys(found, file)
        yield Shards(headers, files)


def _index(folder: Path) -> dict[str, str]:
    """Tensor -> name of its file; empty where there is no index."""
    path = folder / INDEX
    if not path.exists():
        return {}
    placed = read_json(path).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ValueError(f"{INDEX} must have a table weight_map of names; got {placed!r:.80}")
    for tensor, name in placed.items():
        if not isinstance(name, str) or not name.endswith(".safetensors") or "/" in name or "\\" in name:
            raise ValueError(f"{INDEX}: {tensor!r} must lie in a .safetensors file of the folder itself; got {name!r}")
    return placed


def _only_file(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    if len(names) != 1:
        raise ValueError(
            f"it must have {INDEX} or one .safetensors file; got {', '.join(names) or 'neither'}; pickles are not read"
        )
    return names[0]


@contextmanager
def _opened(path: Path, device: torch.device) -> Iterator[Any]:
    with path.open("rb"):
        pass  # the reader below says less of a file that is not there
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path.name} is damaged or no safetensors file: {error}") from error


def _header(file: Any, name: str) -> Tensor:
    part = file.get_slice(name)
    dtype = part.get_dtype()
    if dtype not in _DTYPES:
        raise ValueError(f"{name!r} must be of a type of torch; got {dtype}")
    return torch.empty(part.get_shape(), dtype=_DTYPES[dtype], device="meta")
