# SPDX-License-Identifier: Apache-2.0
"""SGD with momentum under bitsandbytes' names; dampening and nesterov are honoured."""

from __future__ import annotations

from typing import Any

import bittern.optim as native
from bittern.compat.bitsandbytes.optim._base import Bridge, ParamsT, check_args, storage


class SGD(Bridge, native.SGD):
    """SGD as torch.optim has it. Errors: NotImplementedError for momentum=0, ValueError for args."""

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        owner = type(self).__name__
        check_args(owner, args)
        if momentum == 0:
            raise NotImplementedError(f"{owner}: momentum must be above 0; got {momentum}; torch.optim.SGD takes 0")
        super().__init__(
            params, lr, momentum, dampening, weight_decay, nesterov, **storage(owner, optim_bits, min_8bit_size)
        )


class SGD8bit(SGD):
    """`SGD` with states in 8 bits."""

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            optim_bits=8,
            args=args,
            min_8bit_size=min_8bit_size,
        )


class SGD32bit(SGD):
    """`SGD` with states in 32 bits."""

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            optim_bits=32,
            args=args,
            min_8bit_size=min_8bit_size,
        )
