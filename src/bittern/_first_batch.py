# SPDX-License-Identifier: Apache-2.0
"""Parameters of a method that start from the first batch it is trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.quantizer import LayerShape, Quantizer

OPERANDS = ("weight", "input")


class FirstBatchQuantizer(Quantizer):
    """A method some of whose parameters are set where `weight` and `input` first see a batch in training mode.

    Which of them have been set is part of the state: a loaded network goes on, it does not start anew.
    """

    started: Tensor

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        self.register_buffer("started", torch.zeros(len(OPERANDS), dtype=torch.bool))
        """Whether the parameters of the weight, of the input, have been set."""
        self._known: frozenset[str] = frozenset()  # asking a buffer takes a GPU's time, and no compiler traces it

    def has_started(self, operand: str) -> bool:
        """Whether the parameters of "weight" or "input" have been set, here or in a state that was loaded."""
        return operand in self._known

    def starts(self, operand: str) -> bool:
        """Whether this is the first batch in training mode of "weight" or "input"; from then on it is not."""
        if not self.training or operand in self._known:
            return False
        self._known = self._known | {operand}
        self.started[OPERANDS.index(operand)] = True
        return True

    def was_loaded(self) -> None:
        self._known = frozenset(operand for operand, flag in zip(OPERANDS, self.started.tolist(), strict=True) if flag)
