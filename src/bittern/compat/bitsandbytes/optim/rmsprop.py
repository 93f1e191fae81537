# SPDX-License-Identifier: Apache-2.0
"""RMSprop under bitsandbytes' names; momentum and centered are honoured."""

from __future__ import annotations

from typing import Any

import bittern.optim as native
from bittern.compat.bitsandbytes.optim._base import Bridge, ParamsT, check_args, storage


class RMSprop(Bridge, native.RMSprop):
    """RMSprop as torch.optim has it. Errors: ValueError for args or other optim_bits."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        owner = type(self).__name__
        check_args(owner, args)
        super().__init__(
            params, lr, alpha, eps, weight_decay, momentum, centered, **storage(owner, optim_bits, min_8bit_size)
        )


class RMSprop8bit(RMSprop):
    """`RMSprop` with states in 8 bits."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            optim_bits=8,
            args=args,
            min_8bit_size=min_8bit_size,
        )


class RMSprop32bit(RMSprop):
    """`RMSprop` with states in 32 bits."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            optim_bits=32,
            args=args,
            min_8bit_size=min_8bit_size,
        )
