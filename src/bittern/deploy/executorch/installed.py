# SPDX-License-Identifier: Apache-2.0
"""Importing ExecuTorch: whether it is there, and without what it says about itself."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def require(owner: str) -> str:
    """Folder of the installed package `executorch`. Raises: ImportError saying how to install it."""
    found = importlib.util.find_spec("executorch")
    if found is None or not found.submodule_search_locations:
        raise ImportError(f"{owner}: the package 'executorch' is missing; pip install 'bittern[edge]'")
    return next(iter(found.submodule_search_locations))


@contextmanager
def quietly() -> Iterator[None]:
    """Without the warnings that ExecuTorch, torchao and torch.export give about their own insides.

    They speak of experimental interfaces and of GPU libraries that are not there; nothing in them can be acted on.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
