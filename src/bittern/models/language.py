# SPDX-License-Identifier: Apache-2.0
"""Small language models, a transformer and recurrent ones: tokens [batch, time] -> logits [batch, time, words]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern._options import check_choice


@dataclass(frozen=True, slots=True)
class GPTShape:
    """Size of a transformer; width is a multiple of heads."""

    layers: int = 4
    width: int = 128
    heads: int = 4
    context: int = 64


class _Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): pre-norm (arXiv:2002.04745)."""

    def __init__(self, shape: GPTShape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        split = self.qkv(self.norm1(x)).view(batch, time, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(split[0], split[1], split[2], is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, time, width))
        mlp: Tensor = self.down(F.gelu(self.up(self.norm2(x))))
        return x + mlp


class GPT(nn.Module):
    """Decoder-only transformer with learned positions.

    embedding: replaces nn.Embedding(words, width), e.g. by one with a norm (arXiv:2110.02861).

    Raises: ValueError for a width that is no multiple of heads; on call, for more tokens than the context.
    """

    def __init__(self, words: int, shape: GPTShape = GPTShape(), embedding: nn.Module | None = None) -> None:
        super().__init__()
        if shape.width % shape.heads:
            raise ValueError(f"GPT: width must be a multiple of heads; got {shape.width} and {shape.heads}")
        self.context = shape.context
        self.tokens = nn.Embedding(words, shape.width) if embedding is None else embedding
        self.places = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, words, bias=False)
        for name, p in self.named_parameters():
            if p.ndim == 2 and not (embedding is not None and name.startswith("tokens")):
                nn.init.normal_(p, std=0.02)

    def feature_maps(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """What leaves each block, [batch, time, width]; the last behind the norm."""
        time = tokens.shape[1]
        if time > self.context:
            raise ValueError(f"GPT: at most {self.context} tokens fit its context; got {time}")
        x = self.tokens(tokens) + self.places(torch.arange(time, device=tokens.device))
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return (*maps[:-1], self.norm(x))

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.feature_maps(tokens)[-1])
        return logits


class LSTMLanguageModel(nn.Module):
    """Embedding, LSTM layers of the same width, linear output."""

    def __init__(self, words: int, width: int = 128, layers: int = 1) -> None:
        super().__init__()
        self.tokens = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, words)

    def feature_maps(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """What leaves the last layer, [batch, time, width]."""
        hidden: Tensor = self.lstm(self.tokens(tokens))[0]
        return (hidden,)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.feature_maps(tokens)[-1])
        return logits


RecurrentState = Tensor | tuple[Tensor, Tensor]
"""h of a GRU, (h, c) of an LSTM."""


class RecurrentLanguageModel(nn.Module):
    """Embedding, recurrent layers and a linear output, of words or characters, whose state goes in and out.

    tokens [batch, time], state (as the layers have it; None: zeros) -> logits [batch, time, words], state. Dropout
    follows the embedding, lies between layers and follows the last one. tied: the output's weight is the embedding's.

    Raises: ValueError for another kind.
    """

    def __init__(
        self,
        words: int,
        width: int = 200,
        layers: int = 1,
        *,
        kind: Literal["lstm", "gru"] = "lstm",
        tied: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_choice("RecurrentLanguageModel", "kind", kind, ("lstm", "gru"))
        self.tokens = nn.Embedding(words, width)
        nn.init.uniform_(self.tokens.weight, -0.1, 0.1)
        cls = nn.LSTM if kind == "lstm" else nn.GRU
        self.recurrent = cls(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, words)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor, state: RecurrentState | None = None) -> tuple[Tensor, RecurrentState]:
        hidden, state = self.recurrent(self.dropout(self.tokens(tokens)), state)
        logits: Tensor = self.head(self.dropout(hidden))
        assert state is not None
        return logits, state
