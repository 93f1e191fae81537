# SPDX-License-Identifier: Apache-2.0
"""`torch.ops.bitsandbytes`: the operators of bitsandbytes 0.50 by their own names, over those of this package.

Nothing is registered by an import: the namespace belongs to bitsandbytes, and `install()` alone claims its name. Every
operator has a fake, so that `torch.compile` and `torch.library.opcheck` work.
"""

from __future__ import annotations

from functools import cache

import torch

from bittern.compat.bitsandbytes._torch_ops import blocks, int8, steps

OPERATORS = (*int8.OPERATORS, *blocks.OPERATORS, *steps.OPERATORS)


@cache
def register() -> torch.library.Library:
    """Defines the operators; a second call changes nothing.

    Errors: RuntimeError from torch if the real bitsandbytes defined them before.
    """
    library = torch.library.Library("bitsandbytes", "DEF")  # type: ignore[no-untyped-call]
    for operator in OPERATORS:
        library.define(operator.schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
        library.impl(operator.name, operator.run, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
        torch.library.register_fake(f"bitsandbytes::{operator.name}", operator.fake, lib=library)
    return library
