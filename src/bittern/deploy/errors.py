# SPDX-License-Identifier: Apache-2.0
"""What packing, reading a file and exporting refuse."""

from __future__ import annotations

from bittern.deploy.program import Node


class PackError(ValueError):
    """A model that cannot be packed: the message names the module and what to do."""


class FormatError(ValueError):
    """A file that is not a valid packed model: the message says what is wrong with it."""


class ExportError(ValueError):
    """A packed model that cannot be written for a runtime: the message names the node and what to do."""


def refused(owner: str, node: Node, why: str) -> ExportError:
    """The error of a node that cannot be written."""
    return ExportError(f"{owner}: node {node.name!r} ({node.kind}): {why}")
