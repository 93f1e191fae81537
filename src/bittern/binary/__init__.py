# SPDX-License-Identifier: Apache-2.0
"""Binary methods, one paper a file: each is a `bittern.quantizer.Quantizer` that a layer takes as `method=`."""

from __future__ import annotations

from bittern.binary.ab_bnn import ABBNN
from bittern.binary.abc_net import ABCNet
from bittern.binary.adabin import AdaBin
from bittern.binary.bibert import BiBERT
from bittern.binary.biper import BiPer
from bittern.binary.bireal_net import BiRealNet
from bittern.binary.bit import BiT
from bittern.binary.bmxnet import BMXNet
from bittern.binary.bnext import BNext
from bittern.binary.bnn import BNN
from bittern.binary.bnn_plus import BNNPlus
from bittern.binary.dorefa import DoReFa
from bittern.binary.dsq import DSQ
from bittern.binary.ewgs import EWGS
from bittern.binary.fda import FDA
from bittern.binary.fracbnn import FracBNN
from bittern.binary.horq import HORQ
from bittern.binary.ir_net import IRNet
from bittern.binary.rbnn import RBNN
from bittern.binary.reactnet import ReActNet
from bittern.binary.real_to_binary import RealToBinary
from bittern.binary.rebnn import ReBNN
from bittern.binary.recu import ReCU
from bittern.binary.reste import ReSTE
from bittern.binary.sign_weights import SignWeights
from bittern.binary.siman import SiMaN
from bittern.binary.xnor_net import XNORNet
from bittern.binary.xnor_net_pp import XNORNetPlusPlus
from bittern.quantizer import Quantizer

ALL: tuple[type[Quantizer], ...] = (
    BNN,
    XNORNet,
    DoReFa,
    BiRealNet,
    XNORNetPlusPlus,
    ReActNet,
    ReCU,
    FDA,
    IRNet,
    ReSTE,
    RBNN,
    FracBNN,
    EWGS,
    BiT,
    SiMaN,
    BNNPlus,
    BiPer,
    ReBNN,
    BNext,
    DSQ,
    HORQ,
    ABCNet,
    AdaBin,
    RealToBinary,
    BiBERT,
    ABBNN,
    BMXNet,
)
"""Every method: the nine that are compared, then those that came after them."""

COMPARED: tuple[type[Quantizer], ...] = (
    BNN,
    XNORNet,
    DoReFa,
    BiRealNet,
    XNORNetPlusPlus,
    ReActNet,
    ReCU,
    FDA,
    IRNet,
)
"""The nine that benchmarks and the demo compare unless asked otherwise: BiBench's eight and IR-Net."""

LATENT_FREE: tuple[type[Quantizer], ...] = (SignWeights,)
"""Methods whose weights are signs themselves, which only `optim.Bop` and `optim.BayesBiNN` move; not among `ALL`."""

__all__ = [
    "ABBNN",
    "ALL",
    "BNN",
    "COMPARED",
    "DSQ",
    "EWGS",
    "FDA",
    "HORQ",
    "LATENT_FREE",
    "RBNN",
    "ABCNet",
    "AdaBin",
    "BMXNet",
    "BNNPlus",
    "BNext",
    "BiBERT",
    "BiPer",
    "BiRealNet",
    "BiT",
    "DoReFa",
    "FracBNN",
    "IRNet",
    "ReActNet",
    "ReBNN",
    "ReCU",
    "ReSTE",
    "RealToBinary",
    "SiMaN",
    "SignWeights",
    "XNORNet",
    "XNORNetPlusPlus",
]
