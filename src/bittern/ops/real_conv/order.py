# SPDX-License-Identifier: Apache-2.0
"""In which order a real convolution adds."""

from __future__ import annotations

from typing import NamedTuple


class SumOrder(NamedTuple):
    """The order in which a real convolution adds its products, by which alone its bits differ."""

    channels_first: bool
    """All products of a channel follow each other; else all of a kernel position."""
    chain: int
    """So many products are added one by one; the sums of such chains are then added in order."""
    in_turn: int = 0
    """So many of the last outputs of each group deal their products, rounded, to two chains in turn, add both, and then
    the last of an odd number, as the matrix products of some libraries do for outputs that do not fill a tile."""
