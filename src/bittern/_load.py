# SPDX-License-Identifier: Apache-2.0
"""`bittern.load`: a packed file, or a network that comes with bittern."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bittern import deploy
from bittern.deploy.budget import MEMORY_LIMIT

if TYPE_CHECKING:
    import torch

    from bittern.deploy.packed import Packed

NAME = re.compile(r"[A-Za-z0-9_-]+")
"""A text like this names a network; a file has a dot or a separator, or is a Path."""


def load(
    source: str | Path, device: torch.device | str = "cpu", memory_limit: int = MEMORY_LIMIT
) -> Packed | Any:  # Any: a Pretrained, which no caller has to tell from a Packed by asking for its type
    """A packed network from a file, or by its name one that comes with bittern.

        bittern.load("net.safetensors")   -> bittern.Packed
        bittern.load("intents")           -> bittern.pretrained.Pretrained

    source: a path; or a text without dot and separator, such as "intents": a name of `bittern.pretrained.names()`,
    never a file ("./intents" or a Path is one). memory_limit: bytes that loading it, or a call with one sample, may
    take.

    Raises: FileNotFoundError; FormatError for a file that is no packed network; ValueError for an unknown name.
    """
    if isinstance(source, Path) or not NAME.fullmatch(source):
        return deploy.load(source, device, memory_limit)
    from bittern import pretrained

    try:
        return pretrained.load(source, device=device, memory_limit=memory_limit)
    except ValueError as error:
        if not Path(source).is_file():
            raise
        raise ValueError(f"{error} For the file of that name give './{source}'.") from error
