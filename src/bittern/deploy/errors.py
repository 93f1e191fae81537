# SPDX-License-Identifier: Apache-2.0
"""What packing refuses, and what reading a file refuses."""

from __future__ import annotations


class PackError(ValueError):
    """A model that cannot be packed: the message names the module and what to do."""


class FormatError(ValueError):
    """A file that is not a valid packed model: the message says what is wrong with it."""
