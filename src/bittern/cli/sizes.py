# SPDX-License-Identifier: Apache-2.0
"""Sizes of inputs that have a name: `--dynamic` gives them one when packing, `--size` chooses them later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bittern.cli.errors import Misused

if TYPE_CHECKING:
    from bittern.deploy import Packed

DYNAMIC_HELP = (
    "A dimension of the images that each call may choose, DIM=NAME, as in 2=height (1: channels, 2: rows, 3: columns); "
    "may be given again. [default: all are fixed]"
)
SIZE_HELP = "Where FILE leaves sizes to each call: one of them, NAME=NUMBER, as in height=64; may be given again."


def dynamic(texts: Sequence[str]) -> dict[int, str] | None:
    """What `pack(dynamic=)` takes, of each DIM=NAME. Raises: Misused."""
    found: dict[int, str] = {}
    for text in texts:
        dim, equals, name = text.partition("=")
        if not equals or not dim.isdecimal() or not name:
            raise Misused(f"--dynamic must be DIM=NAME, as in 2=height; got {text!r}")
        if int(dim) in found:
            raise Misused(f"--dynamic names dimension {int(dim)} twice, {found[int(dim)]!r} and {name!r}")
        if int(dim) == 0:
            raise Misused(f"--dynamic {text}: dimension 0 is the batch, which every call chooses anyway; leave it out")
        found[int(dim)] = name
    return found or None


def at(path: Path, packed: Packed, texts: Sequence[str]) -> Packed:
    """The network at the sizes of each NAME=NUMBER, which are all that it leaves to a call.

    Raises: Misused for others; ValueError where it leaves some and none are given, or does not take these.
    """
    names = [size.name for size in packed.sizes]
    if not texts and not names:
        return packed
    example = as_options({size.name: size.example for size in packed.sizes})
    if not names:
        raise Misused(f"--size: {path} leaves no size to a call; leave it out")
    if not texts:
        raise ValueError(f"{path} leaves {_in_words(names)} to each call; choose, as in {example}")
    chosen = [_size(text) for text in texts]
    if sorted(name for name, _ in chosen) != sorted(names):
        raise Misused(f"--size: {path} leaves {_in_words(names)} to each call; give each once, as in {example}")
    try:
        return packed.at(**dict(chosen))
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix('packed model: ')}") from error


def as_options(sizes: Mapping[str, int]) -> str:
    """ "--size height=64 --size width=64"."""
    return " ".join(f"--size {name}={size}" for name, size in sizes.items())


def _size(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    if not equals or not name or not number.isdecimal():
        raise Misused(f"--size must be NAME=NUMBER, as in height=64; got {text!r}")
    return name, int(number)


def _in_words(names: Iterable[str]) -> str:
    return " and ".join(map(repr, names))
