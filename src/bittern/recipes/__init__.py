# SPDX-License-Identifier: Apache-2.0
"""How the authors of each method train it, as data: one frozen record per method, read from their code or their paper.

    from bittern import recipes, train
    record = recipes.RECU.scaled(epochs=10)
    print(record)  # ReCU (CIFAR-10, ResNet-18), epochs 10 of 600, schedule and warm-up scaled
    train.train(model, data, record.recipe())

A record says what the authors do; `differences` says where paper and code part, and what is done otherwise here. Three
things are so everywhere: authors change rates and schedules of methods once per epoch, here both move every step; no
network here has binary first and last layers; images are shifted and mirrored at most (`augment`), whatever
`augmentation` says of the authors'. Latent weights start as each method says (`Quantizer.start`), which `start` puts
into words; a converted network keeps its weights (`bittern.nn.start_latent_weights` draws them anew).
"""

from __future__ import annotations

import functools

from bittern.quantizer import Method
from bittern.recipes.gated_papers import REAL_TO_BINARY, TRANSFER_POINTS, real_to_binary_stages
from bittern.recipes.integer_papers import DYNAMIC_FIXED_POINT, FQN, INTEGER_ONLY, LSQ, LSQ_PLUS, PACT, TQT
from bittern.recipes.later_papers import AB_BNN, BIPER, BMXNET, BNEXT, BNN_PLUS, DSQ, RBNN, REBNN, RESTE, SIMAN
from bittern.recipes.levels import BIBERT, BIT, EWGS, FRACBNN, bit_stages
from bittern.recipes.optimizer_papers import ADAM_BNN, BAYES_BINN, BOP, OF_OPTIMIZERS
from bittern.recipes.own_stages import OwnStages, biper_stages, own_stages
from bittern.recipes.papers import (
    BIREAL_NET,
    BNN,
    DOREFA,
    FDA,
    IR_NET,
    REACTNET,
    RECU,
    XNOR_NET,
    XNOR_NET_PLUS_PLUS,
)
from bittern.recipes.plane_papers import ABC_NET, ADABIN, HORQ
from bittern.recipes.published import Published
from bittern.recipes.record import Decay, PaperRecipe, crop_and_flip_for
from bittern.recipes.weight_papers import ALTERNATING, BIT_NET, BWN, GFPQ, MSFP, ONE_BIT, PARETO_Q, TTQ, TWN, UI8, WAGE

ALL: tuple[PaperRecipe, ...] = (
    BNN,
    XNOR_NET,
    DOREFA,
    BIREAL_NET,
    XNOR_NET_PLUS_PLUS,
    REACTNET,
    RECU,
    FDA,
    IR_NET,
    RESTE,
    RBNN,
    FRACBNN,
    EWGS,
    BIT,
    SIMAN,
    BNN_PLUS,
    BIPER,
    REBNN,
    BNEXT,
    DSQ,
    HORQ,
    ABC_NET,
    ADABIN,
    REAL_TO_BINARY,
    BIBERT,
    AB_BNN,
    BMXNET,
    BWN,
    TWN,
    TTQ,
    ALTERNATING,
    ONE_BIT,
    PARETO_Q,
    BIT_NET,
    DYNAMIC_FIXED_POINT,
    INTEGER_ONLY,
    FQN,
    PACT,
    LSQ,
    TQT,
    LSQ_PLUS,
    WAGE,
    GFPQ,
    MSFP,
    UI8,
)
"""One for each method of `bittern.binary.ALL` and of `bittern.quant.ALL`, in that order."""


def for_method(method: Method) -> PaperRecipe:
    """The record of a method: of its class, whatever its options; of `binary.SignWeights` Bop's.

    Raises: ValueError for a method without one.
    """
    cls = method.func if isinstance(method, functools.partial) else method
    for record in (*ALL, *(r for r in OF_OPTIMIZERS if r.method.latent_free)):
        if record.method is cls:
            return record
    known = ", ".join(record.name for record in ALL)
    name = getattr(cls, "__name__", repr(cls))
    raise ValueError(f"recipes: no paper's recipe for {name}; there are those of {known}; write a train.Recipe")


__all__ = [
    "ABC_NET",
    "AB_BNN",
    "ADABIN",
    "ADAM_BNN",
    "ALL",
    "ALTERNATING",
    "BAYES_BINN",
    "BIBERT",
    "BIPER",
    "BIREAL_NET",
    "BIT",
    "BIT_NET",
    "BMXNET",
    "BNEXT",
    "BNN",
    "BNN_PLUS",
    "BOP",
    "BWN",
    "DOREFA",
    "DSQ",
    "DYNAMIC_FIXED_POINT",
    "EWGS",
    "FDA",
    "FQN",
    "FRACBNN",
    "GFPQ",
    "HORQ",
    "INTEGER_ONLY",
    "IR_NET",
    "LSQ",
    "LSQ_PLUS",
    "MSFP",
    "OF_OPTIMIZERS",
    "ONE_BIT",
    "PACT",
    "PARETO_Q",
    "RBNN",
    "REACTNET",
    "REAL_TO_BINARY",
    "REBNN",
    "RECU",
    "RESTE",
    "SIMAN",
    "TQT",
    "TRANSFER_POINTS",
    "TTQ",
    "TWN",
    "UI8",
    "WAGE",
    "XNOR_NET",
    "XNOR_NET_PLUS_PLUS",
    "Decay",
    "OwnStages",
    "PaperRecipe",
    "Published",
    "biper_stages",
    "bit_stages",
    "crop_and_flip_for",
    "for_method",
    "own_stages",
    "real_to_binary_stages",
]
