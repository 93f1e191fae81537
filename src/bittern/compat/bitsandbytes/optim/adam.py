# SPDX-License-Identifier: Apache-2.0
"""Adam under bitsandbytes' names; weight decay is decoupled in Adam too, as it is there."""

from __future__ import annotations

from typing import Any

import bittern.optim as native
from bittern.compat.bitsandbytes.optim._base import Bridge, ParamsT, check_args, storage


class Adam(Bridge, native.Adam):
    """Adam with decoupled weight decay; amsgrad=True is honoured. Errors: ValueError for args or other optim_bits."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
    ) -> None:
        owner, optim_bits = type(self).__name__, self._own_bits(optim_bits)
        check_args(owner, args)
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            decoupled_weight_decay=True,
            **storage(owner, optim_bits, min_8bit_size),
        )
        self.is_paged = is_paged or self.always_paged


class Adam8bit(Adam):
    """`Adam` with states in 8 bits."""

    fixed_bits = 8


class Adam32bit(Adam):
    """`Adam` with states in 32 bits."""

    fixed_bits = 32


class PagedAdam(Adam):
    """`Adam` with states in host memory."""

    always_paged = True


class PagedAdam8bit(Adam):
    """`Adam` with states in 8 bits and states in host memory."""

    fixed_bits = 8
    always_paged = True


class PagedAdam32bit(Adam):
    """`Adam` with states in 32 bits and states in host memory."""

    fixed_bits = 32
    always_paged = True
