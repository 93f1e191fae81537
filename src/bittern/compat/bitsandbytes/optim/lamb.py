# SPDX-License-Identifier: Apache-2.0
"""LAMB under bitsandbytes' names, with its trust ratio in 8 bits too."""

from __future__ import annotations

from typing import Any

import bittern.optim as native
from bittern.compat.bitsandbytes._update import trust_coefficient
from bittern.compat.bitsandbytes.optim._base import Bridge, ParamsT, check_args, storage


class LAMB(Bridge, native.LAMB):
    """LAMB (arXiv:1904.00962): the step is at most max_unorm |p| long before lr, and never longer than Adam's.

    max_unorm is the trust coefficient, the ratio at most 1; 0 is no limit. It works in every number of bits.
    Errors: ValueError for args and for amsgrad or adam_w_mode=False, which bitsandbytes ignores.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        bias_correction: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        adam_w_mode: bool = True,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        max_unorm: float = 1.0,
    ) -> None:
        owner = type(self).__name__
        check_args(owner, args)
        if amsgrad or not adam_w_mode:
            raise ValueError(
                f"{owner}: there is LAMB with amsgrad=False and adam_w_mode=True; got {amsgrad} and {adam_w_mode}"
            )
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            bias_correction=bias_correction,
            trust_coefficient=trust_coefficient(owner, max_unorm),
            max_trust=1.0,
            **storage(owner, optim_bits, min_8bit_size),
        )
        self.max_unorm = max_unorm


class LAMB8bit(LAMB):
    """`LAMB` with states in 8 bits."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        bias_correction: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        adam_w_mode: bool = True,
        args: Any = None,
        min_8bit_size: int = 4096,
        max_unorm: float = 1.0,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            bias_correction=bias_correction,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            adam_w_mode=adam_w_mode,
            optim_bits=8,
            args=args,
            min_8bit_size=min_8bit_size,
            max_unorm=max_unorm,
        )


class LAMB32bit(LAMB):
    """`LAMB` with states in 32 bits."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        bias_correction: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        adam_w_mode: bool = True,
        args: Any = None,
        min_8bit_size: int = 4096,
        max_unorm: float = 1.0,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            bias_correction=bias_correction,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            adam_w_mode=adam_w_mode,
            optim_bits=32,
            args=args,
            min_8bit_size=min_8bit_size,
            max_unorm=max_unorm,
        )
