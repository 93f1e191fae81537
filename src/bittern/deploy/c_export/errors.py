# SPDX-License-Identifier: Apache-2.0
"""The error of what has no C code."""

from __future__ import annotations

from bittern.deploy.program import Node


class ExportError(ValueError):
    """A packed model that cannot become C code: the message names the node and its kind."""

    def __init__(self, node: Node, why: str) -> None:
        super().__init__(f"to_c: node {node.name!r} ({node.kind}): {why}")
