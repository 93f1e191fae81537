# SPDX-License-Identifier: Apache-2.0
"""What a row times: linear layers of some library, and what it takes to set them up."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bittern import _native


class Pass(NamedTuple):
    """One pass through a stack of layers, each with weights of its own."""

    call: Callable[[], object]
    """Gives the outputs, or the gradient of the inputs."""
    weight_bytes: int
    """Of all layers: codes, scales and tables."""


Ready = Callable[[int, Tensor, bool], Pass]
"""(how often the layers are repeated, input, whether the gradient goes back to it) -> pass."""
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def nothing() -> str | None:
    """Is missing."""
    return None


@dataclass(frozen=True, slots=True)
class Contender:
    """Linear layers to time."""

    name: str
    prepare: Callable[[Sequence[nn.Linear]], Ready]
    """Layers in float32 -> what makes passes of them; leaves the layers as they are."""
    types: tuple[torch.dtype, ...] = FLOATS
    """Of inputs in whose rows it stands."""
    steps: bool = True
    """Whether a gradient goes through it."""
    int8: bool = False
    """Whether it rounds inputs to 8 bits, so that its products are of integers."""
    multiple: int = 1
    """Of what a layer's inputs must be one."""
    missing: Callable[[], str | None] = nothing
    """Why it cannot run here."""

    def fits(self, dtype: torch.dtype, step: bool) -> bool:
        return dtype in self.types and (self.steps or not step)

    def takes(self, linears: Sequence[nn.Linear]) -> bool:
        """Whether it has layers of their sizes."""
        return all(linear.in_features % self.multiple == 0 for linear in linears)


def without(*packages: str, install: str = "'bittern[bench]'") -> Callable[[], str | None]:
    """Says which of these packages are not there. install: what pip takes."""

    def missing() -> str | None:
        absent = [name for name in packages if find_spec(name) is None]
        return f"no {', '.join(absent)} here; pip install {install}" if absent else None

    return missing


def multiplies(dtype: torch.dtype) -> bool:
    """Whether this CPU has instructions for products of such numbers."""
    features = _native.cpu_features()
    wanted = {torch.float32: None, torch.bfloat16: ("avx512_bf16", "neon_bf16"), torch.float16: ()}[dtype]
    return wanted is None or any(features.get(name, False) for name in wanted)


def of_layers(
    freeze: Callable[[nn.Linear], nn.Module], linears: Sequence[nn.Linear], *, cast: torch.dtype | None = None
) -> Ready:
    """Modules in the place of each layer. cast: type of the input that they take; None: as it comes."""
    frozen = [freeze(linear) for linear in linears]

    def build(repeats: int, x: Tensor, step: bool) -> Pass:
        stack = nn.Sequential(*(copy.deepcopy(layer) for _ in range(repeats) for layer in frozen))
        size = sum(tensor.nbytes for tensor in (*stack.parameters(), *stack.buffers()))
        stack.train(step)
        taken = x if cast is None else x.to(cast)
        return Pass(_step(stack, taken) if step else _forward(stack, taken), size)

    return build


def _forward(stack: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    def forward() -> Tensor:
        with torch.no_grad():
            y: Tensor = stack(x)
        return y

    return forward


def _step(stack: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """Forward, and back to the input, as adapters around frozen weights need it (QLoRA)."""
    inputs, ahead = x.clone().requires_grad_(), torch.ones_like(x)

    def step() -> Tensor:
        y: Tensor = stack(inputs)
        (found,) = torch.autograd.grad(y, inputs, ahead)
        return found

    return step
