# SPDX-License-Identifier: Apache-2.0
"""AdamW under bitsandbytes' names; weight decay is decoupled in Adam too, as it is there."""

from __future__ import annotations

from typing import Any

import bittern.optim as native
from bittern.compat.bitsandbytes.optim._base import Bridge, ParamsT, check_args, check_fixed_bits, storage


class AdamW(Bridge, native.AdamW):
    """AdamW with decoupled weight decay; amsgrad=True is honoured. Errors: ValueError for args or other optim_bits."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
    ) -> None:
        owner, optim_bits = type(self).__name__, self._own_bits(optim_bits)
        check_args(owner, args)
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **storage(owner, optim_bits, min_8bit_size))
        self.is_paged = is_paged or self.always_paged


class AdamW8bit(AdamW):
    """`AdamW` with states in 8 bits."""

    fixed_bits = 8


class AdamW32bit(AdamW):
    """`AdamW` with states in 32 bits."""

    fixed_bits = 32


class PagedAdamW(AdamW):
    """`AdamW` with states in host memory."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            optim_bits=optim_bits,
            args=args,
            min_8bit_size=min_8bit_size,
            is_paged=True,
        )


class PagedAdamW8bit(AdamW):
    """`AdamW` with states in 8 bits and states in host memory."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        check_fixed_bits("PagedAdamW8bit", optim_bits, 8)
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            optim_bits=8,
            args=args,
            min_8bit_size=min_8bit_size,
            is_paged=True,
        )


class PagedAdamW32bit(AdamW):
    """`AdamW` with states in 32 bits and states in host memory."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        check_fixed_bits("PagedAdamW32bit", optim_bits, 32)
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            optim_bits=32,
            args=args,
            min_8bit_size=min_8bit_size,
            is_paged=True,
        )
