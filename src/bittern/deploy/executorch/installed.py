# SPDX-License-Identifier: Apache-2.0
"""Whether ExecuTorch is there."""

from __future__ import annotations

import importlib.util

from bittern.deploy.other_packages import missing


def require(owner: str) -> str:
    """Folder of the installed package `executorch`. Raises: ImportError saying how to install it."""
    found = importlib.util.find_spec("executorch")
    if found is None or not found.submodule_search_locations:
        raise missing(owner, ["executorch"], "edge")
    return next(iter(found.submodule_search_locations))
