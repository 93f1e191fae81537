# SPDX-License-Identifier: Apache-2.0
"""Names of nodes that are one call of a layer, on one of several batches each: "conv@1/2" and "conv@2/2"."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

PART = re.compile(r"@(?P<place>\d+)/(?P<count>\d+)")


def part_name(layer: str, index: int, count: int) -> str:
    """The name of part `index` of a call."""
    return f"{layer}@{index + 1}/{count}"


def whole_calls(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What was found by node, by call of a layer: that of all its batches one after another."""
    parts: dict[str, list[tuple[int, Tensor]]] = {}
    for name, value in found.items():
        part = PART.search(name)
        parts.setdefault(PART.sub("", name), []).append((int(part["place"]) if part else 1, value))
    return {
        name: own[0][1] if len(own) == 1 else torch.cat([value for _, value in sorted(own, key=lambda entry: entry[0])])
        for name, own in parts.items()
    }
