# SPDX-License-Identifier: Apache-2.0
"""Lion under bitsandbytes' names."""

from __future__ import annotations

from typing import Any

import bittern.optim as native
from bittern.compat.bitsandbytes.optim._base import Bridge, ParamsT, check_args, storage


class Lion(Bridge, native.Lion):
    """Lion (arXiv:2302.06675); a parameter without gradient stays where it is.

    Errors: ValueError for args or other optim_bits.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
    ) -> None:
        owner = type(self).__name__
        check_args(owner, args)
        super().__init__(params, lr, betas, weight_decay, **storage(owner, optim_bits, min_8bit_size))
        self.is_paged = is_paged


class Lion8bit(Lion):
    """`Lion` with states in 8 bits."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            weight_decay=weight_decay,
            optim_bits=8,
            args=args,
            min_8bit_size=min_8bit_size,
            is_paged=is_paged,
        )


class Lion32bit(Lion):
    """`Lion` with states in 32 bits."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            weight_decay=weight_decay,
            optim_bits=32,
            args=args,
            min_8bit_size=min_8bit_size,
            is_paged=is_paged,
        )


class PagedLion(Lion):
    """`Lion` with states in host memory."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            weight_decay=weight_decay,
            optim_bits=optim_bits,
            args=args,
            min_8bit_size=min_8bit_size,
            is_paged=True,
        )


class PagedLion8bit(Lion):
    """`Lion` with states in 8 bits and states in host memory."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            weight_decay=weight_decay,
            optim_bits=8,
            args=args,
            min_8bit_size=min_8bit_size,
            is_paged=True,
        )


class PagedLion32bit(Lion):
    """`Lion` with states in 32 bits and states in host memory."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            weight_decay=weight_decay,
            optim_bits=32,
            args=args,
            min_8bit_size=min_8bit_size,
            is_paged=True,
        )
