# SPDX-License-Identifier: Apache-2.0
"""Optimizers, as a user types them: "adamw-8bit", "bop:lr=1e-3,threshold=1e-6"."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bittern.cli import lists
from bittern.cli.errors import unknown

if TYPE_CHECKING:
    from bittern.train.recipe import OptimizerFactory

OPTIMIZERS = (
    "adamw",
    "adam",
    "sgd",
    "adamw-8bit",
    "adam-8bit",
    "sgd-8bit",
    "lion-8bit",
    "adamw-4bit",
    "adam-4bit",
    "sgd-4bit",
    "adamwschedulefree-8bit",
    "adamwschedulefree-4bit",
    "sgdschedulefree-32bit",
    "adadelta-8bit",
    "adamax-8bit",
    "rprop-8bit",
    "asgd-32bit",
    "galoreadamw-8bit",
    "apolloadamw-8bit",
    "soap-8bit",
    "integersgd",
    "bop",
    "bayesbinn",
)
"""torch's, and bittern's with states of so many bits; the last three for weights on a grid, with Adam."""
OF_GRIDS = ("integersgd", "bop", "bayesbinn")
"""Optimizers that take NAME=VALUE behind a colon."""


def optimizer(name: str) -> OptimizerFactory:
    """Raises: Misused."""
    import torch

    if name.lower().partition(":")[0] in OF_GRIDS:
        return _of_grids(name)
    if name.lower() not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    rule, _, bits = name.lower().partition("-")
    if bits:
        return _low_bit_optimizer(rule, int(bits.removesuffix("bit")))
    if rule == "sgd":
        return partial(torch.optim.SGD, momentum=0.9, nesterov=True)
    return torch.optim.AdamW if rule == "adamw" else torch.optim.Adam


def _of_grids(text: str) -> OptimizerFactory:
    """Bop or BayesBiNN for weights that are signs, IntegerSGD for those of WAGE, and Adam for the rest.

    "bop:lr=1e-3,threshold=1e-6": lr is the optimizer's own; without it BayesBiNN has Adam's, Bop its gamma of 1e-4,
    IntegerSGD 8. Raises: Misused.
    """
    import torch

    from bittern import optim
    from bittern.nn import is_latent_free, is_latent_weight

    name, colon, listed = text.lower().partition(":")
    factory: Any = {"bop": optim.Bop, "bayesbinn": optim.BayesBiNN, "integersgd": optim.IntegerSGD}[name]
    options = _listed_options(text, factory, listed) if colon else {}
    lr = options.pop("lr", {"bop": 1e-4, "integersgd": 8.0}.get(name))
    member = partial(factory, **options) if options else factory
    claims = is_latent_weight if name == "integersgd" else is_latent_free
    return optim.Cases(optim.Case(member, claims, lr=lr), optim.Case(torch.optim.Adam))


def _low_bit_optimizer(rule: str, state_bits: int) -> OptimizerFactory:
    from bittern import optim

    if rule == "sgd":
        return partial(optim.SGD, momentum=0.9, nesterov=True, state_bits=state_bits)
    found: tuple[OptimizerFactory, ...] = (
        *(optim.AdamW, optim.Adam, optim.Lion, optim.Adadelta, optim.Adamax, optim.Rprop, optim.ASGD),
        *(optim.AdamWScheduleFree, optim.SGDScheduleFree, optim.GaLoreAdamW, optim.APOLLOAdamW, optim.SOAP),
    )
    by_name = {factory.__name__.lower(): factory for factory in found}
    return partial(by_name[rule], state_bits=state_bits)


def optimizer_rule(text: str) -> OptimizerFactory:
    """An optimizer of this package by "name-8bit:option=value,...", in any bits. Raises: Misused."""
    name, colon, listed = text.partition(":")
    rule, _, bits = name.lower().partition("-")
    known = {known.partition("-")[0] for known in OPTIMIZERS if "-" in known}
    if rule not in known or bits not in ("32bit", "8bit", "4bit"):
        raise unknown("optimizer", name, [f"{rule}-8bit" for rule in sorted(known)])
    factory = _low_bit_optimizer(rule, int(bits.removesuffix("bit")))
    return partial(factory, **(_listed_options(text, factory, listed) if colon else {}))


def _listed_options(text: str, factory: OptimizerFactory, listed: str) -> dict[str, Any]:
    """The options "name=value,..." of an optimizer. Raises: Misused."""
    import inspect

    from bittern.optim._options import DEFAULTS

    known = {*inspect.signature(factory).parameters, *DEFAULTS} - {"params", "options"}
    return lists.pairs(text, listed, known, "e.g. weight_decay=0.1")


def falling_rate(optimizer_name: str) -> bool:
    """Whether the learning rate of such an optimizer should fall to 0: not of one that averages its weights instead."""
    return "schedulefree" not in optimizer_name.lower()
