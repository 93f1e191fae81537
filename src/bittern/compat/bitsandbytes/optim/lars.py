# SPDX-License-Identifier: Apache-2.0
"""LARS under bitsandbytes' names, with its trust ratio in 8 bits too."""

from __future__ import annotations

from typing import Any

import bittern.optim as native
from bittern.compat.bitsandbytes._update import trust_coefficient
from bittern.compat.bitsandbytes.optim._base import Bridge, ParamsT, check_args, storage


class LARS(Bridge, native.LARS):
    """LARS (arXiv:1708.03888): max_unorm is its trust coefficient, the trust ratio at most 1; 0 is no limit.

    Errors: ValueError for args.
    """

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
        max_unorm: float = 0.02,
    ) -> None:
        owner = type(self).__name__
        check_args(owner, args)
        if momentum == 0 and owner != "PytorchLARS":
            raise NotImplementedError(f"{owner}: momentum must be above 0; got {momentum}; PytorchLARS takes 0")
        super().__init__(
            params,
            lr,
            momentum,
            dampening,
            weight_decay,
            nesterov,
            trust_coefficient=trust_coefficient(owner, max_unorm),
            max_trust=1.0,
            **storage(owner, optim_bits, min_8bit_size),
        )
        self.max_unorm = max_unorm


class LARS8bit(LARS):
    """`LARS` with states in 8 bits."""

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
        max_unorm: float = 0.02,
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
            max_unorm=max_unorm,
        )


class LARS32bit(LARS):
    """`LARS` with states in 32 bits."""

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
        max_unorm: float = 0.02,
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
            max_unorm=max_unorm,
        )


class PytorchLARS(LARS32bit):
    """`LARS` with 32-bit states under the name of bitsandbytes' plain torch version."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.01,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        max_unorm: float = 0.02,
    ) -> None:
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov, max_unorm=max_unorm)
