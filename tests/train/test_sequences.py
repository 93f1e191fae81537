# SPDX-License-Identifier: Apache-2.0
"""Truncated backpropagation through time: how a text is cut, what is carried over, and that it learns."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern.bench.core.machine import this_machine
from bittern.bench.sequences.report import SequenceReport
from bittern.bench.sequences.run import run
from bittern.data import characters, sample_text
from bittern.models import RecurrentLanguageModel
from bittern.nn import GRU, BinaryLinear, convert
from bittern.quant import Alternating
from bittern.train import DivergedError, SequenceRecipe, perplexity, train_sequences
from bittern.train.sequences import columns, stretches


class Counting(nn.Module):
    """Gives the same logits for everything, and notes what it is called with."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(words))
        self.seen: list[tuple[list[list[int]], Any]] = []

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.seen.append((tokens.tolist(), None if state is None else (state.tolist(), state.requires_grad)))
        state = (self.logits.sum() if state is None else state) + tokens.sum()
        return self.logits.expand(*tokens.shape, -1), state


def test_a_text_is_read_in_columns_and_the_state_goes_on() -> None:
    """11 tokens in 2 columns of 5, 3 steps at once: 0 1 2 | 3 and 5 6 7 | 8, each predicting the next one."""
    text = columns(torch.arange(11), 2)
    assert [(x.tolist(), y.tolist()) for x, y in stretches(text, 3)] == [
        ([[0, 1, 2], [5, 6, 7]], [[1, 2, 3], [6, 7, 8]]),
        ([[3], [8]], [[4], [9]]),
    ]
    model = Counting(11)
    losses = train_sequences(
        model,
        torch.arange(11),
        SequenceRecipe(epochs=2, batch=2, unroll=3, optimizer=torch.optim.SGD, learning_rate=1e-9),
    )
    assert losses == pytest.approx([math.log(11)] * 2)
    assert [state for _, state in model.seen] == [None, (21.0, False)] * 2
    assert perplexity(model, torch.arange(11), batch=2) == pytest.approx(11.0)


def test_gradients_are_clipped_together() -> None:
    model, before = Counting(4), torch.zeros(4)
    recipe = SequenceRecipe(batch=1, unroll=9, optimizer=torch.optim.SGD, learning_rate=1.0, clip=0.01)
    train_sequences(model, torch.tensor([0, 1, 1, 1, 1]), recipe)
    assert float((model.logits.detach() - before).norm()) == pytest.approx(0.01, rel=1e-3)


def test_a_model_learns_and_its_quantized_copy_too() -> None:
    data = characters(sample_text(60))
    words = len(data.vocabulary)
    model = RecurrentLanguageModel(words, 24, kind="gru", tied=True)
    assert model.head.weight is model.tokens.weight
    recipe = SequenceRecipe(epochs=3, batch=4, unroll=16, learning_rate=2e-2, clip=1.0)
    losses = train_sequences(model, data.train, recipe)
    assert losses[-1] < 0.8 * losses[0]
    quantized: Any = convert(model, partial(Alternating, bits=2, input_bits=2, cycles=2), keep=())
    assert isinstance(quantized.recurrent, GRU)
    assert isinstance(quantized.recurrent.hh_l0, BinaryLinear)
    assert quantized.head.weight is quantized.tokens.weight
    before = perplexity(quantized, data.held_out, batch=4)
    train_sequences(quantized, data.train, SequenceRecipe(epochs=1, batch=4, unroll=16, learning_rate=5e-3))
    assert perplexity(quantized, data.held_out, batch=4) < before < words


def test_the_state_of_two_calls_is_that_of_one() -> None:
    model, tokens = RecurrentLanguageModel(7, 5, 2, dropout=0.3).eval(), torch.randint(7, (3, 6))
    whole, _ = model(tokens)
    first, state = model(tokens[:, :2])
    second, _ = model(tokens[:, 2:], state)
    assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: columns(torch.arange(5), 3), ValueError, "5 tokens make no 3 columns of at least 2"),
        (lambda: SequenceRecipe(unroll=0), ValueError, "epochs, batch and unroll must be at least 1; got 1, 32 and 0"),
        (lambda: SequenceRecipe(clip=0.0), ValueError, "clip must be above 0"),
        (lambda: RecurrentLanguageModel(5, kind="rnn"), ValueError, "kind must be one of 'lstm', 'gru'"),  # type: ignore[arg-type]
    ],
)
def test_refusals(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_loss_that_is_not_finite_stops() -> None:
    model = Counting(4)
    nn.init.constant_(model.logits, float("nan"))
    with pytest.raises(DivergedError, match="the loss of step 0 is nan"):
        train_sequences(model, torch.arange(4), SequenceRecipe(batch=1))


def test_the_benchmark_goes_on_where_it_stopped(tmp_path: Any) -> None:
    data = characters(sample_text(20))
    texts = ("grammar", data.train, data.held_out, len(data.vocabulary))
    shared: dict[str, Any] = {"command": "bittern bench sequences", "level": "character", "width": 8, "epochs": 1}
    shared |= {"retrain_epochs": 1, "batch": 8, "unroll": 16, "path": tmp_path / "s.json"}
    made: list[Any] = []

    def stop(row: Any) -> None:
        made.append(row)
        if len(made) == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(texts, seeds=(0,), on_run=stop, **shared)
    report = run(texts, seeds=(0,), on_run=made.append, **shared)
    assert isinstance(report, SequenceReport)
    assert report.machine == this_machine()
    assert list(report.runs) == made
    assert [row[:3] for row in report.rows()][::4] == [
        ("float", "real", "real"),
        ("refined greedy", "2", "real"),
        ("alternating", "3", "real"),
        ("retrained", "2", "3"),
    ]
    page = (tmp_path / "s.md").read_text()
    assert "| retrained | 3 | 3 |" in page
    assert len(report.runs) == 14
