# SPDX-License-Identifier: Apache-2.0
"""Methods of some bits, one paper a file: each is a `bittern.quantizer.Quantizer`, as in `bittern.binary`. Some leave
the input of a layer real, or take it as int8 (`BitNet`), as floats of few bits (`GFPQ`, `MSFP`) or, if asked, as planes
of signs (`Alternating`); others train whole numbers of 2 to 8 bits on both sides (`LSQ`, `PACT`, `WAGE`, `UI8`)."""

from __future__ import annotations

from bittern.multibit import multibit
from bittern.quant.alternating import Alternating, approximate
from bittern.quant.bitnet import BitNet
from bittern.quant.bwn import BWN
from bittern.quant.dynamic_fixed_point import DynamicFixedPoint
from bittern.quant.fqn import FQN
from bittern.quant.gfpq import GFPQ, gfpq, gfpq_table, write_gfpq_table
from bittern.quant.integer_only import IntegerOnly
from bittern.quant.lsq import LSQ
from bittern.quant.lsq_plus import LSQPlus
from bittern.quant.msfp import BRAINWAVE, MSFP, MSFP12, MSFP16, MXINT8, block_float
from bittern.quant.one_bit import OneBit
from bittern.quant.pact import PACT
from bittern.quant.pareto_q import ParetoQ
from bittern.quant.tqt import TQT
from bittern.quant.ttq import TTQ
from bittern.quant.twn import TWN
from bittern.quant.ui8 import UI8, deviations
from bittern.quant.wage import WAGE
from bittern.quantizer import Quantizer

ALL: tuple[type[Quantizer], ...] = (
    *(BWN, TWN, TTQ, Alternating, OneBit, ParetoQ, BitNet),
    *(DynamicFixedPoint, IntegerOnly, FQN, PACT, LSQ, TQT, LSQPlus),
    *(WAGE, GFPQ, MSFP, UI8),
)
"""Every method: of weights alone, of whole numbers, and those that train in integers or have formats of their own."""

__all__ = [
    "ALL",
    "BRAINWAVE",
    "BWN",
    "FQN",
    "GFPQ",
    "LSQ",
    "MSFP",
    "MSFP12",
    "MSFP16",
    "MXINT8",
    "PACT",
    "TQT",
    "TTQ",
    "TWN",
    "UI8",
    "WAGE",
    "Alternating",
    "BitNet",
    "DynamicFixedPoint",
    "IntegerOnly",
    "LSQPlus",
    "OneBit",
    "ParetoQ",
    "approximate",
    "block_float",
    "deviations",
    "gfpq",
    "gfpq_table",
    "multibit",
    "write_gfpq_table",
]
