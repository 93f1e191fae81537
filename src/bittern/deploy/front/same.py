# SPDX-License-Identifier: Apache-2.0
"""Calls that give on what they are given: dropout in eval mode, a move to the same place, a slice of everything."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bittern.deploy.errors import PackError
from bittern.deploy.front.call import Call, meta_of
from bittern.deploy.front.sizes import order_of, same_shape

MOST_ELEMENTS = 2**31
"""A slice that ends here or later takes all that is left."""

PASSED_ON = ("contiguous.default", "clone.default", "detach.default", "alias.default", "lift_fresh_copy.default")
"""Operators that change no number."""
DROPOUTS = ("dropout.default", "feature_dropout.default", "alpha_dropout.default", "feature_alpha_dropout.default")
CASTS = (
    "to.dtype",
    "to.device",
    "to.other",
    "to.prim_Device",
    "_to_copy.default",
    "to.dtype_layout",
    "type_as.default",
)
SAME = (*PASSED_ON, *CASTS, "expand_as.default")
HARMLESS = (*SAME, *DROPOUTS)
"""Operators that may change nothing at all."""


def passed_on(call: Call, out: Any) -> bool:
    """Whether a call gives its first argument on as it came, memory layout and all.

    Raises: PackError for a call that drops values.
    """
    if call.operator in DROPOUTS and call["train"]:
        raise PackError(f"pack: call {call.name!r} drops values in eval mode too; pass training=self.training")
    if call.operator in DROPOUTS or _is_whole_slice(call):
        return True
    source = meta_of(next(iter(call.node.all_input_nodes), call.node))
    if call.operator not in SAME or not isinstance(source, Tensor):
        return False
    return source.dtype == out.dtype and same_shape(source, out) and order_of(source) == order_of(out)


def _is_whole_slice(call: Call) -> bool:
    """Whether a call takes all of a dimension, as torch.export writes x[:]."""
    if call.operator != "slice.Tensor":
        return False
    end = call["end"]
    whole = end is None or (isinstance(end, int) and end >= MOST_ELEMENTS)
    return whole and call["start"] in (None, 0) and call["step"] == 1
