# SPDX-License-Identifier: Apache-2.0
"""What the integers of a model's input and answer stand for: real = scale * (integer - zero), by its `info`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from bittern.deploy.packed import Packed
from bittern.deploy.program import VALUE_TYPES
from bittern.ops.fixed_point import rounded_away

INTEGERS = ("int8", "uint8")


class End(NamedTuple):
    """Of an input or an answer."""

    scale: float
    zero: int

    def to_info(self, side: str) -> dict[str, str]:
        """Entries for `Packed.info`."""
        return {f"{side}_scale": repr(self.scale), f"{side}_zero": str(self.zero)}


def read_end(info: Mapping[str, str], side: str) -> End | None:
    """Of the "input" or "output"; None: the file does not say it. Raises: ValueError where it is damaged."""
    texts = [info.get(f"{side}_{part}") for part in ("scale", "zero")]
    if texts == [None, None]:
        return None
    try:
        end = End(float(texts[0] or ""), int(texts[1] or ""))
    except ValueError:
        end = End(math.nan, 0)
    if not (math.isfinite(end.scale) and end.scale > 0 and -256 <= end.zero <= 256):
        raise ValueError(f"its {side}_scale and {side}_zero must be a number above 0 and an integer; got {texts}")
    return end


def of_reals(packed: Packed, answers: str) -> Callable[[Tensor], Tensor]:
    """The model as one of real numbers: integers are made of its input, and real numbers of its answer.

    answers: the type of its answer, "int8" or another. A model of real numbers alone is given back.
    Raises: ValueError for integers of which the file does not say what they stand for.
    """
    kind = packed.inputs[0].type
    ends = {
        side: read_end(packed.info, side) for side, type_ in (("input", kind), ("output", answers)) if type_ in INTEGERS
    }
    for side, end in ends.items():
        if end is None:
            raise ValueError(f"it has integers for its {side}, and does not say their {side}_scale and {side}_zero")
    given, found = ends.get("input"), ends.get("output")
    if given is None and found is None:
        return packed

    def run(x: Tensor) -> Tensor:
        y: Tensor = packed(x if given is None else to_integers(x, given, VALUE_TYPES[kind]))
        return y if found is None else (y.float() - found.zero) * found.scale

    return run


def to_integers(x: Tensor, end: End, dtype: torch.dtype) -> Tensor:
    """The nearest integers of a type, halves away from zero."""
    limits = torch.iinfo(dtype)
    return (rounded_away(x / end.scale) + end.zero).clamp(limits.min, limits.max).to(dtype)
