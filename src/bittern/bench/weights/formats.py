# SPDX-License-Identifier: Apache-2.0
"""bittern's own layers, by the names under which they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from bittern.bench.weights.contender import Contender, of_layers
from bittern.nn import Linear4bit, Linear8bit, LinearGroups, LinearMXFP4
from bittern.nn.mx_codes import GROUP

GROUP_BITS = (2, 3, 4, 8)


def _format(name: str, freeze: Callable[[nn.Linear], nn.Module], *, int8: bool = False) -> Contender:
    return Contender(name, partial(of_layers, freeze), int8=int8)


def _groups(bits: int, zero: bool, int8: bool) -> Contender:
    """In groups of 64 with float32 scales, as the layer has them where nobody says."""
    options: dict[str, Any] = {"bits": bits, "zero_point": zero, "activations": "int8" if int8 else "real"}
    name = f"groups{bits}{'-zero' if zero else ''}{'-int8' if int8 else ''}"
    return _format(name, partial(LinearGroups.from_float, **options), int8=int8)


FORMATS = (
    _format("nf4", Linear4bit.from_float),
    _format("nf4-nested", partial(Linear4bit.from_float, nested=True)),
    _format("int8", Linear8bit.from_float, int8=True),
    Contender("mxfp4", partial(of_layers, LinearMXFP4.from_float), multiple=GROUP),
    *(_groups(bits, zero, int8) for bits in GROUP_BITS for zero in (False, True) for int8 in (False, True)),
)
"""nf4: `Linear4bit` in blocks of 64; mxfp4: `LinearMXFP4`; int8: `Linear8bit`; groupsN: `LinearGroups` of N bits, with
zero points, with inputs rounded to 8 bits."""
DEFAULT = ("nf4", "int8", "groups4", "groups4-int8", "groups2-int8")
"""Names of those that are timed where nobody says which."""
