# SPDX-License-Identifier: Apache-2.0
"""Other libraries that some tests compare with: they live in an environment of their own (`make peers`).

Among them are packages that pin what others need, and none of them is needed to work on Bittern, so the ordinary
environment has none. In their own, where BITTERN_PEERS is set, one that is missing or broken fails the test.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

REASON = "runs in the environment of the peers (make peers)"


def peer(name: str) -> Any:
    """The module, or skip."""
    if "BITTERN_PEERS" in os.environ:
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=REASON, exc_type=ImportError)
