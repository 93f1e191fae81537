# SPDX-License-Identifier: Apache-2.0
"""What recurrent cells and layers share: sizes, products that are layers, and how those of torch are taken over."""

from __future__ import annotations

from typing import Any, Self

from torch import nn

from bittern.nn.linear import BinaryLinear
from bittern.nn.recurrent.steps import State, StepRule
from bittern.quantizer import Method

LAYERS: tuple[type[nn.Module], ...] = (nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell)
"""Layers of torch that have a counterpart here, of the same name."""


class Recurrent(nn.Module):
    """What cells and layers share: sizes, products of inputs and states, and torch's names of their parameters."""

    rule: StepRule
    counterpart: type[nn.Module]
    """The class of torch whose place it takes."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__()
        if input_size < 1 or hidden_size < 1:
            raise ValueError(
                f"{type(self).__name__}: input_size and hidden_size must be at least 1; got {input_size} and "
                f"{hidden_size}"
            )
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias

    def add_products(self, suffix: str, input_size: int, method: Method | None) -> None:
        """The products of one cell, of its input and of its state."""
        outputs = self.rule.gates * self.hidden_size
        for product, features in ((f"ih{suffix}", input_size), (f"hh{suffix}", self.hidden_size)):
            layer: nn.Module = (
                nn.Linear(features, outputs, self.bias)
                if method is None
                else BinaryLinear(features, outputs, self.bias, method=method)
            )
            self.add_module(product, layer)

    def reset_parameters(self) -> None:
        """Draw all as torch does, U(-b, b) with b = 1 / sqrt(hidden_size); a low-bit weight as its method starts."""
        bound = self.hidden_size**-0.5
        for product in self.children():
            if isinstance(product, BinaryLinear):
                product.reset_parameters()
            for name, parameter in product.named_parameters(recurse=False):
                if isinstance(product, nn.Linear) or name == "bias":
                    nn.init.uniform_(parameter, -bound, bound)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """As torch, and the parameters of a layer of torch get the names that they have here."""
        for name, _ in list(self.named_parameters()):
            old = f"{prefix}{name_in_torch(name)}"
            if old in state_dict:
                state_dict[f"{prefix}{name}"] = state_dict.pop(old)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @classmethod
    def check_counterpart(cls, old: nn.Module) -> None:
        """Raises: ValueError naming what a layer of torch has and this class lacks."""
        problem = why_not(old)
        if not problem and type(old) is not cls.counterpart:
            problem = f"it takes the place of an nn.{cls.__name__}; got {type(old).__name__}"
        if problem:
            raise ValueError(f"{cls.__name__}: {problem}")

    def take_over(self, old: nn.Module) -> Self:
        """Share the parameters of the layer of torch whose place this one takes, its device, type and mode."""
        for name, _ in list(self.named_parameters()):
            layer, _, kind = name.rpartition(".")
            setattr(self.get_submodule(layer), kind, getattr(old, name_in_torch(name)))
        return self.train(old.training)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


def name_in_torch(name: str) -> str:
    """ih_l0.weight -> weight_ih_l0."""
    layer, _, kind = name.rpartition(".")
    return f"{kind}_{layer}"


def why_not(old: nn.Module) -> str:
    """Why no recurrent layer here computes what `old`, a layer of torch, does; "" when one does."""
    if type(old) not in LAYERS:
        return f"class {type(old).__name__} may compute something else than its base"
    if getattr(old, "proj_size", 0):
        return f"proj_size={old.proj_size} has no counterpart"
    return ""


def checked_states(owner: str, states: State, shape: tuple[int, ...]) -> State:
    """States of the right sizes. Raises: ValueError."""
    for state in states:
        if tuple(state.shape) != shape:
            raise ValueError(f"{owner}: a state must be {list(shape)}; got {list(state.shape)}")
    return states
