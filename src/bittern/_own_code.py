# SPDX-License-Identifier: Apache-2.0
"""What a user wrote: a function or class in a file or module of theirs, found again by any process.

"my_file.py:build" is a file, "my_package.nets:build" a module that Python finds from the current folder. Both are
imported under their own names, so that what they define can be sent to other processes.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIGITS = 12
"""Hexadecimal, of a digest."""


class NameMissingError(ImportError):
    """A module does not define what was asked for."""


@dataclass(frozen=True, slots=True)
class OwnCode:
    """Something of a module. text: as it was asked for. folder: where modules are looked for first.

    file: of the module, where it was given by that.
    """

    text: str
    folder: Path
    module: str
    name: str
    file: Path | None = None

    @property
    def short(self) -> str:
        """ "my_file:build", without folders."""
        return f"{self.module}:{self.name}"

    def load(self) -> Any:
        """The object. Raises: ImportError, whatever the module does; NameMissingError for a name that it lacks."""
        with _first(self.folder):
            try:
                module = importlib.import_module(self.module)
            # whatever the module does, it is the user's
            except Exception as error:
                raise ImportError(f"{self.text}: cannot import {self.module}: {error!r}") from error
        found = getattr(module, "__file__", None)
        if self.file is not None and (found is None or not os.path.samefile(found, self.file)):
            raise ImportError(
                f"{self.text}: Python has another module {self.module} already ({found or 'its own'}); rename the file"
            )
        # what a function imports when it is called, and processes that are started, look there behind everything else
        if str(self.folder) not in sys.path:
            sys.path.append(str(self.folder))
        if not hasattr(module, self.name):
            raise NameMissingError(f"{self.text}: {self.module} has no {self.name}; name what it defines")
        return getattr(module, self.name)

    def load_as(self, digest: str) -> Any:
        """The object, where the files still are what they were. Raises: ValueError for others; as `load`."""
        if self.digest() != digest:
            raise ValueError(f"{self.text} has changed since the run began; start it again, with the same store")
        return self.load()

    def digest(self) -> str:
        """Of the bytes of its file and of all files beside it that it imports, whether by name or from a package.

        Raises: ImportError for a module without a file; OSError.
        """
        file = self.file
        if file is None:
            with _first(self.folder):
                spec = importlib.util.find_spec(self.module)
            if spec is None or spec.origin is None:
                raise ImportError(f"{self.text}: {self.module} has no file of its own; give one that has")
            file = Path(spec.origin)
        found: dict[Path, bytes] = {}
        _read(file, self.folder, found)
        whole = hashlib.sha256()
        for path, content in sorted(found.items()):
            # by names within the folder, so that a moved folder is the same
            whole.update(f"{os.path.relpath(path, self.folder)} {len(content)}\n".encode() + content)
        return whole.hexdigest()[:DIGITS]


def own_code(text: str) -> OwnCode:
    """Of "FILE.py:NAME" or "MODULE:NAME". Raises: ValueError; FileNotFoundError for a file that is not there."""
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise ValueError(f"{text!r} must be FILE.py:NAME or MODULE:NAME")
    if not place.endswith(".py"):
        return OwnCode(text, Path.cwd(), place, name)
    file = Path(place).expanduser().absolute()
    if not file.is_file():
        raise FileNotFoundError(f"{text}: no file {file}")
    if not file.stem.isidentifier():
        raise ValueError(f"{text}: Python cannot import a file of that name; rename it to letters, digits and _")
    return OwnCode(text, file.parent, file.stem, name, file)


@contextmanager
def _first(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _read(file: Path, folder: Path, found: dict[Path, bytes]) -> None:
    """Its bytes, and those of what it imports from `folder`."""
    if file in found:
        return
    content = found[file] = file.read_bytes()
    for name, start in _imports(content, file, folder):
        place = start
        for part in name.split("."):
            place = place / part
            for candidate in (place.with_name(f"{part}.py"), place / "__init__.py"):
                if candidate.is_file():
                    _read(candidate, folder, found)


def _imports(content: bytes, file: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, folder that it is looked for in) of each import."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return  # importing it says so
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, folder) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = file.parents[node.level - 1] if node.level else folder
            base = f"{node.module}." if node.module else ""
            yield from ((f"{base}{alias.name}", start) for alias in node.names)
