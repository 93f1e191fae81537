# SPDX-License-Identifier: Apache-2.0
"""The arguments of `optimizer_step`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class StepArguments(NamedTuple):
    """As the schema names them; `bittern.ops.optimizer_step` says what they mean."""

    rule: int
    params: Sequence[Tensor]
    grads: Sequence[Tensor]
    states: Sequence[Tensor]
    absmax: Sequence[Tensor]
    scalars: Tensor
    bits: Sequence[int]
    block_size: Sequence[int]
    row_length: Sequence[int]
    compensation: Sequence[Tensor]
    seed: int | None = None
    state_seeds: Tensor | None = None
    at_random: Sequence[int] = (4,)
