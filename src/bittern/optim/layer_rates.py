# SPDX-License-Identifier: Apache-2.0
"""Rates of single layers: the learning rate times what the method of a layer asks for (UI8, arXiv 1912.12607)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bittern.optim.groups import param_groups

if TYPE_CHECKING:
    from bittern.quantizer import Quantizer

LAYER = "rate_of"
"""Key of a group: the name of the layer whose factor its rate is multiplied by; "" for none."""


@dataclass(frozen=True, slots=True)
class LayerRates:
    """What `train.Recipe(optimizer=...)` takes for an optimizer whose rates follow `Quantizer.rate_factor`.

    `LayerRates(partial(torch.optim.SGD, momentum=0.9))(model=model, lr=0.1)` is that optimizer, with the weight of each
    such layer in a group of its own, {"rate_of": name}. Around every `step` the group's lr is the one that a schedule
    has set, times the factor of the moment. With momentum the factor multiplies what is added to the weight, so also
    what gradients before left. Resumes by the state_dicts of the optimizer and of the model, which holds the factors.
    Errors: ValueError for a model without such a layer.
    """

    optimizer: Callable[..., torch.optim.Optimizer]

    def __call__(
        self, groups: Sequence[Mapping[str, Any]] | None = None, lr: float = 1e-3, *, model: nn.Module
    ) -> torch.optim.Optimizer:
        """groups: the parameters of `model` with their options; None: `param_groups(model)`."""
        methods = {name: method for name, (_, method) in _layers(model).items()}
        if not methods:
            raise ValueError(
                "LayerRates: no layer of the model has a method with a rate_factor; use the optimizer without it"
            )
        owners = {id(weight): name for name, (weight, _) in _layers(model).items()}
        given = param_groups(model) if groups is None else groups
        optimizer = self.optimizer(_split(given, owners), lr=lr)
        rates = _Rates(methods)
        optimizer.register_step_pre_hook(rates.multiply)
        optimizer.register_step_post_hook(rates.restore)
        return optimizer

    def __repr__(self) -> str:
        """The same in every process, for runs that go on."""
        of, options = self.optimizer, ""
        if isinstance(of, functools.partial):
            options = ", ".join(f"{name}={value!r}" for name, value in sorted(of.keywords.items()))
            of = of.func
        return f"LayerRates({getattr(of, '__qualname__', type(of).__name__)}({options}))"


class _Rates:
    """The factors of the layers, and rates as they were."""

    def __init__(self, methods: Mapping[str, Quantizer]) -> None:
        self.methods = methods
        self.before: list[float] = []

    def multiply(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self.before = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            if group.get(LAYER):
                group["lr"] = group["lr"] * self.methods[group[LAYER]].rate_factor()

    def restore(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for group, rate in zip(optimizer.param_groups, self.before, strict=True):
            group["lr"] = rate


def _layers(model: nn.Module) -> dict[str, tuple[nn.Parameter, Quantizer]]:
    """Weight and method of each layer whose method has a factor of its own."""
    from bittern.quantizer import Quantizer  # whoever only optimizes loads no methods

    found: dict[str, tuple[nn.Parameter, Quantizer]] = {}
    for name, module in model.named_modules():
        method, weight = getattr(module, "method", None), getattr(module, "weight", None)
        if not isinstance(method, Quantizer) or not isinstance(weight, nn.Parameter):
            continue
        if type(method.unwrapped).rate_factor is not Quantizer.rate_factor:
            found[name or "0"] = weight, method.unwrapped
    return found


def _split(groups: Sequence[Mapping[str, Any]], owners: Mapping[int, str]) -> list[dict[str, Any]]:
    """The same parameters, those with an owner each in a group of its own, behind what is left of theirs."""
    split: list[dict[str, Any]] = []
    for group in groups:
        params = list(group["params"])
        rest = [p for p in params if id(p) not in owners]
        split += [{**group, "params": rest, LAYER: ""}] if rest else []
        split += [{**group, "params": [p], LAYER: owners[id(p)]} for p in params if id(p) in owners]
    return split
