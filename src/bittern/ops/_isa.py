# SPDX-License-Identifier: Apache-2.0
"""Which instruction set the native kernels use, and why.

The sets, and what each needs, are listed in `cmake/instruction_sets.cmake`, by which the extension was built. The
choice is made once per process: the widest set that both this build and this CPU have, apart from those `ON_REQUEST`,
or the one named by the environment variable BITTERN_ISA. Asking for a set that is missing is an error, never a
fallback.
"""

from __future__ import annotations

import os
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from bittern import _native


class Isa(IntEnum):
    """An instruction set of the native kernels; the number is the one that `bittern._native` takes.

    Listed narrowest first within each kind of processor; a number says nothing about the order.
    """

    SCALAR = 0
    AVX2 = 1
    AVX512BW = 3
    """AVX-512 without an instruction that counts bits: binary convolution has kernels for it, all else is AVX2."""
    AVX512 = 2
    AMX = 4
    """Tiles of bytes: binary convolution has kernels for it, all else is AVX512. See `ON_REQUEST`."""
    NEON = 16

    @property
    def label(self) -> str:
        """The spelling that BITTERN_ISA takes."""
        return self.name.lower()

    @property
    def processor(self) -> str:
        """The kind of processor that may have it: "any", "x86" or "arm"."""
        return _FACTS[self].processor

    @property
    def needs(self) -> tuple[str, ...]:
        """The CPU features that its kernels use, by their names in `_native.cpu_features()`."""
        return _FACTS[self].needs


class _Facts(NamedTuple):
    """What the extension says about a set, whether it was built for it or not."""

    processor: str
    on_request: bool
    needs: tuple[str, ...]


_FACTS = {
    Isa(number): _Facts(processor, on_request, needs)
    for _, number, processor, on_request, needs in _native.instruction_sets()
}

ON_REQUEST = tuple(isa for isa in Isa if _FACTS[isa].on_request)
"""Used only where BITTERN_ISA asks for them: sets that were tested under emulation alone, on no CPU that has them."""


@cache
def available_isas() -> tuple[Isa, ...]:
    """Instruction sets that this build and this CPU both have, narrowest first."""
    return tuple(Isa[name.upper()] for name in _native.available_isas())


def default_isa() -> Isa:
    """The instruction set in use where BITTERN_ISA names none."""
    return [isa for isa in available_isas() if isa not in ON_REQUEST][-1]


@cache
def chosen_isa() -> Isa:
    """The instruction set in use.

    Raises: RuntimeError when BITTERN_ISA names one that does not exist or that this machine lacks.
    """
    forced = os.environ.get("BITTERN_ISA")
    if not forced:
        return default_isa()
    labels = [isa.label for isa in available_isas()]
    if forced.lower() not in labels:
        raise RuntimeError(
            f"BITTERN_ISA: must be one of {', '.join(labels)} on this machine; got {forced!r}; "
            f"unset it to use {default_isa().label}"
        )
    return Isa[forced.upper()]


BFLOAT16_PRODUCTS = ("avx512_bf16", "neon_bf16")
"""CPU features that multiply bfloat16, which torch uses whatever BITTERN_ISA says; a CPU with AMX's has the first."""


def multiplies_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16; torch makes float32 of it elsewhere, which takes longer than float32."""
    features = _native.cpu_features()
    return any(features[name] for name in BFLOAT16_PRODUCTS)


def threads() -> int:
    """Number of threads a native kernel may use: torch's own setting."""
    return torch.get_num_threads()


def share_torch_threads() -> bool:
    """Run native kernels on the OpenMP threads that torch already has, so that two pools do not fight.

    Returns False where torch carries no libgomp; then the native pool is used.
    """
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    return any(_native.adopt_openmp(str(path)) for path in found)


share_torch_threads()
