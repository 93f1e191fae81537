# SPDX-License-Identifier: Apache-2.0
"""Language models trained by truncated backpropagation through time: the state is carried over, its gradient is not.

A text is cut into `batch` columns of equal length, which are read side by side, `unroll` tokens a step; each step goes
on from the state that the one before left. A model takes (tokens [batch, time], state or None) and gives (logits
[batch, time, words], state), as `models.RecurrentLanguageModel`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.nn.parameters import clip_latent_weights
from bittern.quantizer import set_progress
from bittern.train.loop import DivergedError
from bittern.train.recipe import OptimizerFactory
from bittern.train.schedule import Constant, Cosine, Exponential, Linear, Steps


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceRecipe:
    """How a language model trains.

    epochs, batch (columns), unroll (tokens a step), learning_rate, schedule: factor of the rate by step; clip: the
    largest norm of all gradients together.
    """

    epochs: int = 1
    batch: int = 32
    unroll: int = 32
    optimizer: OptimizerFactory = torch.optim.Adam
    learning_rate: float = 2e-3
    schedule: Constant | Cosine | Exponential | Linear | Steps = field(default_factory=Cosine)
    clip: float = 0.25

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.unroll) < 1:
            raise ValueError(
                f"SequenceRecipe: epochs, batch and unroll must be at least 1; got {self.epochs}, {self.batch} and "
                f"{self.unroll}"
            )
        if not self.clip > 0.0:
            raise ValueError(f"SequenceRecipe: clip must be above 0; got {self.clip}; math.inf clips nothing")


def columns(tokens: Tensor, batch: int) -> Tensor:
    """A text [length] as [batch, length // batch]; what is left at its end is dropped.

    Raises: ValueError where a column has fewer than 2 tokens.
    """
    length = len(tokens) // max(batch, 1)
    if batch < 1 or length < 2:
        raise ValueError(f"columns: {len(tokens)} tokens make no {batch} columns of at least 2; use a smaller batch")
    return tokens[: batch * length].view(batch, length)


def stretches(text: Tensor, unroll: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(inputs, targets) [batch, at most unroll] one after another, targets one token further on."""
    for start in range(0, text.shape[1] - 1, unroll):
        end = min(start + unroll, text.shape[1] - 1)
        yield text[:, start:end], text[:, start + 1 : end + 1]


def train_sequences(
    model: nn.Module,
    tokens: Tensor,
    recipe: SequenceRecipe,
    *,
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train `model` in place on a text, from a state of zeros in each epoch -> the mean loss of each epoch, in nats.

    Latent weights of low-bit layers settle after each step, and their schedules follow it. on_step: called with the
    number of the step and its loss.
    Raises: ValueError for a text that is too short, and DivergedError for a loss that is not finite.
    """
    text = columns(tokens, recipe.batch)
    steps = recipe.epochs * -(-(text.shape[1] - 1) // recipe.unroll)
    optimizer = recipe.optimizer(list(model.parameters()), lr=recipe.learning_rate)
    model.train()
    means, step = [], 0
    for _ in range(recipe.epochs):
        state, total = None, 0.0
        for x, y in stretches(text, recipe.unroll):
            set_progress(model, step / max(1, steps - 1))
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * recipe.schedule(step, steps)
            logits, state = model(x, state)
            loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            clip_latent_weights(model)
            state, value = detached(state), float(loss.detach())
            if not math.isfinite(value):
                raise DivergedError(f"the loss of step {step} is {value}", "lower the rate")
            if on_step is not None:
                on_step(step, value)
            total, step = total + value * y.numel(), step + 1
        means.append(total / (text.numel() - len(text)))
    return means


@torch.no_grad()
def perplexity(model: nn.Module, tokens: Tensor, *, batch: int = 16, unroll: int = 64) -> float:
    """exp of the mean cross entropy of a model in eval mode, which reads `batch` columns of a text from their starts.

    The model is left in the mode that it had.
    Raises: ValueError for a text that is too short.
    """
    was, text = model.training, columns(tokens, batch)
    model.eval()
    total, state = 0.0, None
    try:
        for x, y in stretches(text, unroll):
            logits, state = model(x, state)
            total += float(F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum"))
    finally:
        model.train(was)
    return math.exp(min(total / (text.numel() - len(text)), MOST_NATS))


MOST_NATS = 700.0
"""exp of more is beyond float64."""


def detached(state: Any) -> Any:
    """A state without its graph."""
    return state.detach() if isinstance(state, Tensor) else tuple(map(detached, state))
