# SPDX-License-Identifier: Apache-2.0
"""What a layer says that it costs: `summary` asks it, and knows no kind of layer by itself."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn


class Cost(NamedTuple):
    """Products of one layer, and what its weight takes where it is stored."""

    macs: int
    """Multiply-accumulates of numbers."""
    binary_macs: int
    """1-bit products: multiply-accumulates times weight bits times input bits."""
    bytes: int
    """Of the weight with its scales and tables, without `real`."""
    bits: int = 0
    """1-bit parameters in it."""
    codes: int = 0
    """Weights in codes of several bits in it."""
    latent: nn.Parameter | None = None
    """What the 1-bit parameters are the signs of. It counts as real where it is never called, or read as numbers."""
    real: tuple[nn.Parameter, ...] = ()
    """Parameters that stay real beside the weight."""
    method: str = ""
    """How the weight is made, for a table; "" where the class of the layer says so."""


class CostedLayer(nn.Module):
    """A layer that says what it costs; modules inside it are its own affair."""

    def cost(self, output: int) -> Cost:
        """What it costs to make `output` numbers of its output."""
        raise NotImplementedError
