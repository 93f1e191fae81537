# SPDX-License-Identifier: Apache-2.0
"""QLoRA in small: freeze a model's linear layers in 4 bits and train low-rank adapters around them with 8-bit states.

The model learns one text in float32. Then its weights shrink to NF4 with nested scales, about an eighth, and adapters
teach it another text; no gradient and no optimizer state is kept for the frozen weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern import optim
from bittern.data.text import TextData, characters, sample_text, windows
from bittern.models.language import GPT, GPTShape
from bittern.nn import Linear4bit

SHAPE = GPTShape(layers=2, width=128, heads=4, context=32)


class Adapted(nn.Module):
    """A frozen 4-bit layer, plus a trainable product of rank `rank`."""

    def __init__(self, linear: nn.Linear, rank: int = 8) -> None:
        super().__init__()
        self.base = Linear4bit.from_float(linear, nested=True).requires_grad_(False)
        self.down = nn.Linear(linear.in_features, rank, bias=False)
        self.up = nn.Linear(rank, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)  # at first the adapter changes nothing

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x) + self.up(self.down(x))
        return y


def fit(model: nn.Module, text: TextData, steps: int, lr: float) -> None:
    """A few hundred steps of 8-bit AdamW on whatever asks for gradients."""
    optimizer = optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, state_bits=8)
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        inputs, targets = windows(text.train, SHAPE.context, 16, draw)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()).backward()
        optimizer.step()


@torch.no_grad()
def loss(model: nn.Module, text: TextData) -> float:
    inputs, targets = windows(text.held_out, SHAPE.context, 64, torch.Generator().manual_seed(1))
    return float(F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()))


def stored(model: nn.Module) -> int:
    return sum(x.numel() * x.element_size() for x in (*model.parameters(), *model.buffers()))


torch.manual_seed(0)
old = characters(sample_text(300))
new = characters(sample_text(300)[::-1])  # the same letters, read backwards
model = GPT(len(old.vocabulary), SHAPE)
fit(model, old, 150, 3e-3)
print(f"float32: {stored(model):,} bytes, loss {loss(model, old):.3f}; on the new text {loss(model, new):.3f}")

model.requires_grad_(False)
for block in model.blocks:
    for name, layer in list(block.named_children()):
        if isinstance(layer, nn.Linear):
            setattr(block, name, Adapted(layer))
trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
print(f"4 bits and adapters: {stored(model):,} bytes, {trained:,} of them trained; loss {loss(model, old):.3f}")
fit(model, new, 150, 3e-3)
print(f"after adapting: loss on the new text {loss(model, new):.3f}")
