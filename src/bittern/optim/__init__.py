# SPDX-License-Identifier: Apache-2.0
"""Optimizers with states in 32, 8 or 4 bits: torch.optim's signatures and checkpoints, one native call per step.

`AdamW(model.parameters(), lr=1e-3)` keeps its states in 8 bits; `state_bits=32` is torch.optim's arithmetic.
"""

from __future__ import annotations

from bittern.optim._names import old_names
from bittern.optim._optimizer import LowBitOptimizer
from bittern.optim._torch import to_torch
from bittern.optim.adadelta import Adadelta
from bittern.optim.adafactor import Adafactor
from bittern.optim.adagrad import Adagrad
from bittern.optim.adam import Adam
from bittern.optim.adamax import Adamax
from bittern.optim.adamw import AdamW
from bittern.optim.adamw_schedule_free import AdamWScheduleFree
from bittern.optim.adan import Adan
from bittern.optim.ademamix import AdEMAMix
from bittern.optim.apollo import APOLLOAdamW
from bittern.optim.asgd import ASGD
from bittern.optim.backward import BackwardSteps, fuse_into_backward
from bittern.optim.bayes_binn import BayesBiNN
from bittern.optim.bop import Bop
from bittern.optim.cases import Case, CaseOptimizer, Cases
from bittern.optim.clipping import GradientNorms, clip_grad_percentile_
from bittern.optim.galore import GaLoreAdamW
from bittern.optim.groups import param_groups
from bittern.optim.integer_sgd import IntegerSGD
from bittern.optim.lamb import LAMB
from bittern.optim.lars import LARS
from bittern.optim.layer_rates import LayerRates
from bittern.optim.lion import Lion
from bittern.optim.muon import Muon
from bittern.optim.nadam import NAdam
from bittern.optim.radam import RAdam
from bittern.optim.rmsprop import RMSprop
from bittern.optim.rprop import Rprop
from bittern.optim.sgd import SGD
from bittern.optim.sgd_schedule_free import SGDScheduleFree
from bittern.optim.soap import SOAP

__all__ = [
    "ASGD",
    "LAMB",
    "LARS",
    "SGD",
    "SOAP",
    "APOLLOAdamW",
    "AdEMAMix",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdamWScheduleFree",
    "Adamax",
    "Adan",
    "BackwardSteps",
    "BayesBiNN",
    "Bop",
    "Case",
    "CaseOptimizer",
    "Cases",
    "GaLoreAdamW",
    "GradientNorms",
    "IntegerSGD",
    "LayerRates",
    "Lion",
    "LowBitOptimizer",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGDScheduleFree",
    "clip_grad_percentile_",
    "fuse_into_backward",
    "old_names",
    "param_groups",
    "to_torch",
]
