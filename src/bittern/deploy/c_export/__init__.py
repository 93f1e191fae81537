# SPDX-License-Identifier: Apache-2.0
"""A packed model as one portable C99 file, for microcontrollers.

`export` is the way through: `plan` decides the order and the memory, `rules` names for each kind of node the function
of `*_step(s)` that writes its call, which asks `source` for C functions (`*_code`, `elementwise`, `arithmetic`) and
constants, and `text` puts the file together.
"""

from __future__ import annotations

from bittern.deploy.c_export.export import CExport, to_c
from bittern.deploy.errors import ExportError

__all__ = ["CExport", "ExportError", "to_c"]
