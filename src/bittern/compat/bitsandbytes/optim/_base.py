# SPDX-License-Identifier: Apache-2.0
"""What all optimizers of the bridge share: checks of bitsandbytes' extra arguments and its state_dict format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from bittern.compat.bitsandbytes.optim._state_dict import States, from_bitsandbytes, to_bitsandbytes
from bittern.optim import LowBitOptimizer
from bittern.optim._options import Group, Options
from bittern.optim._state import StateDict

ParamsT = Iterable[Any]
BLOCK_SIZE = 256
"""Elements per absmax of an 8-bit state since bitsandbytes 0.44."""


def check_args(owner: str, args: Any) -> None:
    """ValueError unless bitsandbytes' `args` is left out: what it held was removed from bitsandbytes."""
    if args is not None:
        raise ValueError(f"{owner}: args held settings that no longer exist; got {args!r}; leave it out")


def check_fixed_bits(owner: str, given: int, bits: int, default: int = 32) -> None:
    """ValueError unless optim_bits is the class's own number or `default`, that of bitsandbytes' signature."""
    if given not in (bits, default):
        raise ValueError(f"{owner}: its states have {bits} bits; got optim_bits={given}; leave it out")


def storage(owner: str, optim_bits: int, min_8bit_size: int) -> Options:
    """`bittern.optim`'s words for bitsandbytes' storage. Errors: ValueError for optim_bits other than 8 and 32."""
    if optim_bits not in (8, 32):
        raise ValueError(f"{owner}: optim_bits must be 8 or 32; got {optim_bits}")
    return {"state_bits": optim_bits, "block_size": BLOCK_SIZE, "min_8bit_size": min_8bit_size}


class Bridge(LowBitOptimizer):
    """A `bittern.optim` class that writes bitsandbytes' state_dicts; it reads those and all that its base reads."""

    is_paged = False
    """Whether the states live in host memory, as those of CPU parameters do anyway."""
    fixed_bits: int | None = None
    """Bits of the states where the class's name says so: optim_bits cannot choose others."""
    always_paged = False
    max_unorm = 0.0

    @property
    def args(self) -> SimpleNamespace:
        """The settings that bitsandbytes keeps under this name."""
        bits, least = self.defaults["state_bits"], self.defaults["min_8bit_size"]
        return SimpleNamespace(optim_bits=bits, min_8bit_size=least, max_unorm=self.max_unorm, skip_zeros=False)

    def state_of(self, p: Tensor, group: Group) -> StateDict:
        self._name_states(p)
        return super().state_of(p, {**group, "offload": "cpu"} if self.is_paged and p.is_cuda else group)

    def _own_bits(self, optim_bits: int) -> int:
        """Bits of the states. Errors: ValueError for optim_bits that contradict the class's name."""
        if self.fixed_bits is None:
            return optim_bits
        check_fixed_bits(type(self).__name__, optim_bits, self.fixed_bits)
        return self.fixed_bits

    def _name_states(self, p: Tensor) -> None:
        if not isinstance(self.state.get(p), States):
            self.state[p] = States(self.state.get(p, {}))

    def state_dict(self) -> dict[str, Any]:
        """bitsandbytes' format: state1, state2, qmap1, absmax1, ... in an inner dictionary per parameter."""
        return to_bitsandbytes(self)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], move_to_device: bool = True, *, requantize: bool = True
    ) -> None:
        """As `LowBitOptimizer.load_state_dict`, but states with other blocks or tables are converted unless refused.

        bitsandbytes had blocks of 2048 elements before 0.44 and keeps squares of RMSprop and Adagrad in the signed map.
        Errors: ValueError for move_to_device=False.
        """
        if not move_to_device:
            raise ValueError(
                f"{type(self).__name__}: states live with their parameters; move the parameters and leave "
                "move_to_device out"
            )
        super().load_state_dict(from_bitsandbytes(self, state_dict), requantize=requantize)
        for p in list(self.state):
            self._name_states(p)
