# SPDX-License-Identifier: Apache-2.0
"""What a value of a program is, and the checks that rules of shapes share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.program import VALUE_TYPES, Input, Node

Shape = tuple[int, ...]
Tensors = Mapping[str, Tensor]


BATCHES = 2, 3
"""Two batches tell how a shape grows; neither is 1, with which anything can be combined."""


@dataclass(frozen=True)
class Form:
    """What a value is: real numbers, accumulators or bits, and its logical shape [1, channels, *space]."""

    shape: Shape
    type: str = "real"
    """"real" (float32), "acc" or "bits"; of operators of torch also another dtype by its name, or "tuple"."""
    planes: int = 1
    last: bool = False
    """Whether channels are the last dimension (values of linear layers)."""
    rows: bool = False
    """Whether the engine's native code takes it as several rows of features a sample, [batch, rows, features]."""
    meta: tuple[Any, Any] | None = field(default=None, compare=False)
    """Of operators of torch: what they give at batches of `BATCHES`, as tensors without memory."""

    @property
    def channels(self) -> int:
        return self.shape[-1 if self.last else 1]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def samples_first(self) -> bool:
        """Whether it is [batch, ...], one entry a sample; operators of torch may put the batch anywhere."""
        if self.meta is None:
            return True
        fewer, more = (tuple(m.shape) for m in self.meta)
        return bool(fewer) and (fewer[0], more[0]) == BATCHES and fewer[1:] == more[1:]

    def at(self, index: int) -> Any:
        """A tensor without memory of this form, at batch `BATCHES[index]`."""
        if self.meta is not None:
            return self.meta[index]
        return torch.empty((BATCHES[index] * self.shape[0], *self.shape[1:]), dtype=torch.float32, device="meta")


def input_form(given: Input) -> Form:
    """The form of an input of a program."""
    kind = "real" if given.type == "float32" else given.type
    if kind == "real" and given.batch == 0:
        return Form(given.shape_at(1))
    fewer, more = (torch.empty(given.shape_at(n), dtype=VALUE_TYPES[given.type], device="meta") for n in BATCHES)
    return Form(given.shape_at(1), kind, meta=(fewer, more))


Rule = Callable[..., Form]
"""(node, tensors, *forms of the inputs) -> form of the result."""


def fail(node: Node, why: str) -> FormatError:
    return FormatError(f"node {node.name!r} ({node.kind}) does not fit its input: {why}")


def need(node: Node, condition: bool, why: str) -> None:
    if not condition:
        raise fail(node, why)


def need_real(node: Node, x: Form, least_dims: int = 2) -> None:
    if x.type != "real":  # a message is made where it is needed alone: this runs for every node
        raise fail(node, f"it takes a real tensor; got {x.type}")
    if not x.samples_first:
        raise fail(node, f"it takes [batch, ...]; got {list(x.shape)} for one sample, and the batch elsewhere")
    if len(x.shape) < least_dims:
        raise fail(node, f"it takes at least {least_dims} dimensions; got {list(x.shape)}")


def need_channels(node: Node, x: Form, channels: int, got: str | None = None) -> None:
    """Refuse another number of channels; got: what to call it."""
    if x.channels != channels:
        raise fail(node, f"it takes {channels} channels; got {x.channels if got is None else got}")
