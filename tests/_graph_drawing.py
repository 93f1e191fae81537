# SPDX-License-Identifier: Apache-2.0
"""A network as a list of steps over numbered values, value 0 being its input, and what draws it step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor, nn


class Step(NamedTuple):
    """One value of a network, made of earlier ones by a layer or a function."""

    text: str
    function: Callable[..., Any] | int
    """A function, or the number of a layer."""
    inputs: tuple[int, ...]


class Graph(nn.Module):
    """A network of steps; it returns the last value."""

    def __init__(self, layers: list[nn.Module], steps: list[Step]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step in self.steps:
            run = self.layers[step.function] if isinstance(step.function, int) else step.function
            values.append(run(*(values[v] for v in step.inputs)))
        return values[-1]

    def __repr__(self) -> str:
        lines = (f"  {number}: {step.text} of {step.inputs}" for number, step in enumerate(self.steps, 1))
        return "\n".join(["Graph", *lines])


class Drawing:
    """A network while it is drawn, with the value of every step for one sample."""

    def __init__(self, draw: st.DrawFn, x: Tensor, views: bool) -> None:
        self._draw = draw
        self._views = views
        self.values = [x]
        self.layers: list[nn.Module] = []
        self.steps: list[Step] = []

    def of(self, *choices: Any) -> Any:
        """One of several, the simplest first."""
        return self._draw(st.sampled_from(choices))

    def shape(self, v: int) -> tuple[int, ...]:
        return tuple(self.values[v].shape)

    def call(self, text: str, function: Callable[..., Any], *inputs: int) -> int:
        """The value of a function."""
        return self._append(Step(text, function, inputs), function)

    def view(self, text: str, function: Callable[[Tensor], Tensor], v: int) -> int:
        """The value of a function that may give a view, whose own layout torch's layers see if `views` says so."""
        return self.call(text, function if self._views else lambda x: function(x).contiguous(), v)

    def layer(self, layer: nn.Module, v: int) -> int:
        """The value of a new layer."""
        self.layers.append(layer.eval())
        return self._append(Step(str(layer), len(self.layers) - 1, (v,)), layer)

    def again(self, number: int, v: int) -> int:
        """The value of a layer that another step calls too."""
        layer = self.layers[number]
        return self._append(Step(str(layer), number, (v,)), layer)

    def _append(self, step: Step, function: Callable[..., Any]) -> int:
        with torch.no_grad():
            self.values.append(function(*(self.values[v] for v in step.inputs)))
        self.steps.append(step)
        return len(self.values) - 1

    def unread(self) -> list[int]:
        read = {v for step in self.steps for v in step.inputs}
        return [v for v in range(len(self.values)) if v not in read]

    def others(self, v: int, fits: Callable[[tuple[int, ...], tuple[int, ...]], bool]) -> list[int]:
        """Values whose shape fits that of v, those that nothing reads first."""
        found = [w for w in range(len(self.values)) if fits(self.shape(w), self.shape(v))]
        unread = set(self.unread()) - {v}
        return sorted(found, key=lambda w: (w not in unread, -w))
