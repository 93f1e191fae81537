# SPDX-License-Identifier: Apache-2.0
"""The language models: shapes, causality, size."""

from __future__ import annotations

import pytest
import torch

from bittern.models import GPT, GPTShape, LSTMLanguageModel

SHAPE = GPTShape(layers=2, width=16, heads=2, context=8)


@pytest.mark.parametrize("model", [GPT(11, SHAPE), LSTMLanguageModel(11, 16)], ids=["gpt", "lstm"])
def test_logits_depend_on_the_past_alone(model: torch.nn.Module) -> None:
    tokens = torch.randint(11, (3, 8), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 11
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert before.shape == (3, 8, 11)
    assert torch.allclose(before[:, :5], after[:, :5], atol=1e-6)
    assert not torch.allclose(before[:, 5:], after[:, 5:], atol=1e-4)


def test_parameters_of_a_gpt() -> None:
    """Per layer 12 w^2 + 13 w; embeddings (words + context) w; the last norm 2 w; the head words w."""
    w = SHAPE.width
    count = sum(p.numel() for p in GPT(11, SHAPE).parameters())
    assert count == SHAPE.layers * (12 * w * w + 13 * w) + (11 + SHAPE.context) * w + 2 * w + 11 * w


def test_errors() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        GPT(11, GPTShape(width=10, heads=4))
    with pytest.raises(ValueError, match="at most 8 tokens"):
        GPT(11, SHAPE)(torch.zeros(1, 9, dtype=torch.long))
