# SPDX-License-Identifier: Apache-2.0
"""Packages that exports alone need: whether they are there, and without what they say about themselves."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def require(owner: str, names: Sequence[str], extra: str) -> None:
    """Raises: ImportError saying how to install what is missing."""
    gone = [name for name in names if importlib.util.find_spec(name) is None]
    if gone:
        raise missing(owner, gone, extra)


def missing(owner: str, names: Sequence[str], extra: str) -> ImportError:
    """The error of packages that are not there."""
    return ImportError(f"{owner}: the package {', '.join(map(repr, names))} is missing; pip install 'bittern[{extra}]'")


@contextmanager
def quietly() -> Iterator[None]:
    """Without the warnings that ExecuTorch, torchao, torch.export and torch.onnx give about their own insides.

    They speak of experimental interfaces and of libraries that are not there; nothing in them can be acted on.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
