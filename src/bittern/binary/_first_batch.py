# SPDX-License-Identifier: Apache-2.0
"""Parameters of a method that start from the first batch it is trained on."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import torch
from torch import Tensor

from bittern.quantizer import LayerShape, Quantizer


class FirstBatchQuantizer(Quantizer):
    """A method some of whose parameters are set where `weight` and `input` first see a batch in training mode.

    Which of them have been set is part of the state: a loaded network goes on, it does not start anew.
    """

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        self._seen: set[str] = set()

    def starts(self, operand: str) -> bool:
        """Whether this is the first batch in training mode of "weight" or "input"; from then on it is not."""
        if not self.training or operand in self._seen:
            return False
        self._seen = {*self._seen, operand}
        return True

    def get_extra_state(self) -> Tensor:
        """[2]: 1 where the parameters of the weight, of the input, have been set."""
        return torch.tensor([float(operand in self._seen) for operand in OPERANDS])

    def set_extra_state(self, state: Tensor) -> None:
        self._seen = {operand for operand, seen in zip(OPERANDS, state.tolist(), strict=True) if seen}

    @property
    def seen(self) -> AbstractSet[str]:
        """Operands whose parameters have been set."""
        return self._seen


OPERANDS = ("weight", "input")
