# SPDX-License-Identifier: Apache-2.0
"""The folder of the networks: NAME.bittern, a packed file, beside NAME.json, its card."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path

import torch

from bittern.deploy.budget import MEMORY_LIMIT
from bittern.deploy.errors import FormatError
from bittern.deploy.packed import from_bytes
from bittern.pretrained.card import NAME, Card, read_card
from bittern.pretrained.network import Pretrained

FOLDER = Path(__file__).with_name("files")
"""Of those that come with bittern."""
PACKED, CARD = ".bittern", ".json"


def names(folder: str | Path = FOLDER) -> tuple[str, ...]:
    """Of all networks of a folder, by the alphabet."""
    return tuple(sorted(path.stem for path in Path(folder).glob(f"*{CARD}")))


def card(name: str, folder: str | Path = FOLDER) -> Card:
    """Raises: ValueError for a name that is not there, or a damaged card."""
    known = names(folder)
    if not NAME.fullmatch(name) or name not in known:
        raise ValueError(f"load: no pretrained network {name!r}; {_guess(name, known)}")
    path = Path(folder) / f"{name}{CARD}"
    try:
        found = read_card(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"load: {path} is damaged: {error}; install bittern again") from error
    if found.name != name:
        raise ValueError(f"load: {path} is the card of {found.name!r}; install bittern again")
    return found


def load(
    name: str,
    folder: str | Path = FOLDER,
    *,
    device: torch.device | str = "cpu",
    memory_limit: int = MEMORY_LIMIT,
) -> Pretrained:
    """A network of a folder. device, memory_limit: as `bittern.deploy.load`.

    Raises: ValueError for a name that is not there, a damaged card, or a file that is not the one of the card;
    FormatError for one that is no sound packed file.
    """
    found = card(name, folder)
    path = Path(folder) / f"{name}{PACKED}"
    size = path.stat().st_size if path.is_file() else None
    content = path.read_bytes() if size == found.bytes else None
    if content is None or hashlib.sha256(content).hexdigest() != found.sha256:
        got = "is missing" if size is None else f"has {size:,}" if content is None else "has others"
        raise ValueError(f"load: {path} must hold the {found.bytes:,} bytes of its card, and {got}; install it again")
    try:
        return Pretrained(from_bytes(content, device, memory_limit), found)
    except ValueError as error:
        raise FormatError(f"load: {path} is no pretrained network: {error}") from error


def _guess(name: str, known: tuple[str, ...]) -> str:
    near = [other for other in known if name and other.startswith(name.lower())]
    near += [other for other in difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5) if other not in near]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"there are {', '.join(known)}" if known else "there are none"
