# SPDX-License-Identifier: Apache-2.0
"""Which build of bittern runs: versions stay the same while somebody works on the package, results do not."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from bittern import _native

DIGITS = 12
"""Hexadecimal, that are kept: two of a thousand builds are alike once in 600 million times."""


@functools.cache
def this_build() -> str:
    """12 hexadecimal digits of SHA-256 over the package's Python sources and its native extension, as they lie there.

    A copy elsewhere has the same digits, and so have two installations of one wheel. Raises: OSError.
    """
    package = Path(__file__).parents[2]
    return digest_of(package, sorted(package.rglob("*.py")), Path(_native.__file__))


def digest_of(package: Path, sources: Iterable[Path], extension: Path) -> str:
    """Of names within the package and contents; of the extension the content alone. Raises: OSError."""
    found = hashlib.sha256()
    for source in sources:
        content = hashlib.sha256(source.read_bytes()).hexdigest()
        found.update(f"{source.relative_to(package).as_posix()}\0{content}\n".encode())
    found.update(hashlib.sha256(extension.read_bytes()).digest())
    return found.hexdigest()[:DIGITS]
