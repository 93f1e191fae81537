# SPDX-License-Identifier: Apache-2.0
"""Adagrad under bitsandbytes' names; lr_decay and the initial value are honoured."""

from __future__ import annotations

from typing import Any

import bittern.optim as native
from bittern.compat.bitsandbytes.optim._base import Bridge, ParamsT, check_args, check_fixed_bits, storage


class Adagrad(Bridge, native.Adagrad):
    """Adagrad as torch.optim has it. Errors: ValueError for args or other optim_bits."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        owner, optim_bits = type(self).__name__, self._own_bits(optim_bits)
        check_args(owner, args)
        super().__init__(
            params,
            lr,
            lr_decay,
            weight_decay,
            initial_accumulator_value,
            eps,
            **storage(owner, optim_bits, min_8bit_size),
        )


class Adagrad8bit(Adagrad):
    """`Adagrad` with states in 8 bits."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        optim_bits: int = 8,
        args: Any = None,
        min_8bit_size: int = 4096,
    ) -> None:
        check_fixed_bits("Adagrad8bit", optim_bits, 8, default=8)
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            optim_bits=8,
            args=args,
            min_8bit_size=min_8bit_size,
        )


class Adagrad32bit(Adagrad):
    """`Adagrad` with states in 32 bits."""

    fixed_bits = 32
