# SPDX-License-Identifier: Apache-2.0
"""A DDNN that was trained a little and packed, and the examples that it is asked about."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bittern.ddnn import PackedDDNN, pack_ddnn
from bittern.models import DDNN

SIZE = 9, 7
"""Odd, so that pools round."""
EXAMPLES = 24
CLASSES = 3


class Case(NamedTuple):
    model: DDNN
    packed: PackedDDNN
    views: list[Tensor]

    def trained(self, views: list[Tensor | None]) -> dict[str, Tensor]:
        with torch.no_grad():
            exits: dict[str, Tensor] = self.model(*views)
        return exits


def case_of(model: DDNN, seed: int) -> Case:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(EXAMPLES) % CLASSES
    views = [torch.randn(EXAMPLES, 1, *SIZE, generator=generator) + labels.view(-1, 1, 1, 1) for _ in range(2)]
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(10):
        optimizer.zero_grad()
        losses = [torch.nn.functional.cross_entropy(scores, labels) for scores in model(*views).values()]
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()
    return Case(model, pack_ddnn(model, views), views)
