# SPDX-License-Identifier: Apache-2.0
"""Methods of some bits, one paper a file: each is a `bittern.quantizer.Quantizer`, as in `bittern.binary`. Some leave
the input of a layer real, or take it as int8 (`BitNet`) or, if asked, as planes of signs (`Alternating`); `LSQ`, `PACT`
and those after them train whole numbers of 2 to 8 bits on both sides."""

from __future__ import annotations

from bittern.multibit import multibit
from bittern.quant.alternating import Alternating, approximate
from bittern.quant.bitnet import BitNet
from bittern.quant.bwn import BWN
from bittern.quant.lsq import LSQ
from bittern.quant.one_bit import OneBit
from bittern.quant.pact import PACT
from bittern.quant.pareto_q import ParetoQ
from bittern.quant.ttq import TTQ
from bittern.quant.twn import TWN
from bittern.quantizer import Quantizer

ALL: tuple[type[Quantizer], ...] = (BWN, TWN, TTQ, Alternating, OneBit, ParetoQ, BitNet, PACT, LSQ)
"""Every method, in the order of their papers."""

__all__ = [
    "ALL",
    "BWN",
    "LSQ",
    "PACT",
    "TTQ",
    "TWN",
    "Alternating",
    "BitNet",
    "OneBit",
    "ParetoQ",
    "approximate",
    "multibit",
]
