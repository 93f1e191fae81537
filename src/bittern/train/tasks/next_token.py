# SPDX-License-Identifier: Apache-2.0
"""Language modelling: each token from those before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from bittern.train.tasks.task import Batch, Measured, Task


@dataclass(frozen=True)
class NextToken(Task):
    """Learn the next token; the score is the share of tokens guessed right, exp of the loss the perplexity.

    model: tokens int64 [batch, length] -> logits [batch, length, vocabulary]. batch: (tokens [batch, length + 1],).
    Loss: mean over all tokens but the first of -log softmax(z)_token.

    Raises: TypeError for tokens of another type; ValueError for sequences of one token, or other logits.
    """

    metric = "token_accuracy"
    items = "tokens, one integer tensor [batch, length]"

    def measure(self, model: Callable[..., Any], batch: Batch) -> Measured:
        (tokens,) = batch
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        logits = model(inputs).float()
        if logits.ndim != 3 or logits.shape[:2] != inputs.shape:
            raise ValueError(
                f"NextToken: the model must return logits {[*inputs.shape, 'vocabulary']}; got {list(logits.shape)}"
            )
        right = (logits.detach().argmax(-1) == targets).float().mean(1).sum()
        return Measured(F.cross_entropy(logits.flatten(0, 1), targets.flatten()), right)

    def check(self, batch: Batch, subject: str) -> Batch:
        if len(batch) != 1 or batch[0].ndim != 2 or batch[0].dtype not in (torch.int64, torch.int32, torch.uint8):
            got = ", ".join(f"{part.dtype} {list(part.shape)}" for part in batch)
            raise TypeError(f"train: {subject} must give {self.items}; got {got}")
        if batch[0].shape[1] < 2:
            raise ValueError(f"train: {subject} must give sequences of at least 2 tokens; got {list(batch[0].shape)}")
        return (batch[0].to(torch.int64),)
