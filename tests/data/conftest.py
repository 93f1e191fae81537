# SPDX-License-Identifier: Apache-2.0
"""Where the tests of the readers find real data, and how they write their own."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Folder of a real data set under BITTERN_DATA; skips where it is absent."""

    def find(name: str) -> Path:
        root = Path(os.environ.get("BITTERN_DATA", Path(__file__).parents[3] / "shared" / "data"))
        if not (root / name).is_dir():
            pytest.skip(f"no folder {root / name}; set BITTERN_DATA to the folder that holds {name}")
        return root / name

    return find


@pytest.fixture
def idx_bytes() -> Callable[..., bytes]:
    """An idx file of unsigned bytes."""

    def make(values: np.ndarray, kind: int = 8) -> bytes:
        header = bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
        return header + values.astype(np.uint8).tobytes()

    return make
