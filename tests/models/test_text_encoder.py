# SPDX-License-Identifier: Apache-2.0
"""The encoder of texts: padding is not seen, every method trains and packs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from _tolerance import assert_exact
from bittern import binary, deploy, models
from bittern.nn import LowBitLayer, convert
from bittern.quantizer import Quantizer

WORDS, CONTEXT = 11, 6


def build(method: type[Quantizer] | None) -> nn.Module:
    torch.manual_seed(0)
    return models.text_encoder(method, 3, WORDS, context=CONTEXT, width=16, heads=2, blocks=2)


@pytest.fixture
def tokens() -> Tensor:
    return torch.tensor([[2, 5, 7, 0, 0, 0], [2, 4, 3, 9, 10, 6], [2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize("method", [None, binary.XNORNet, binary.XNORNetPlusPlus], ids=str)
def test_trains_and_packs_exactly(method: type[Quantizer] | None, tokens: Tensor) -> None:
    model = build(method)
    model(tokens).square().sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    # a shift of all keys changes no softmax, so that this gradient is rounding alone or 0
    assert [name for name in dead if not name.endswith("key_norm.bias")] == []
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    model.eval()
    packed = deploy.pack(model, tokens)
    assert deploy.verify(packed, model, tokens).exact


def test_what_padding_holds_changes_nothing(tokens: Tensor) -> None:
    model = build(binary.ReActNet).eval()
    with torch.no_grad():
        before = model(tokens)
        model.places.weight[3:] += 1.0  # first text: seen by none of its words
        model.words.weight[0] += 1.0
        after = model(tokens)
    assert_exact(after[0], before[0])
    assert not torch.equal(after[1], before[1])
    assert bool(before.isfinite().all())


def test_a_text_alone_is_as_in_a_batch(tokens: Tensor) -> None:
    model = build(None).eval()
    with torch.no_grad():
        together, alone = model(tokens), torch.cat([model(text[None]) for text in tokens])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-6)


def test_the_converted_float_twin_is_the_low_bit_network(tokens: Tensor) -> None:
    twin, low = build(None), build(binary.BNN)
    converted = convert(twin, binary.BNN, keep=["head"]).eval()
    names = [[n for n, m in model.named_modules() if isinstance(m, LowBitLayer)] for model in (converted, low)]
    assert names[0] == names[1]
    assert len(names[0]) == 2 * 6
    low.load_state_dict(twin.state_dict())
    assert_exact(converted(tokens).detach(), low.eval()(tokens).detach())


def test_errors() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of heads; got 10 and 4"):
        models.text_encoder(width=10, heads=4)
    with pytest.raises(ValueError, match="text_encoder: words must be an integer of at least 1; got 0"):
        models.text_encoder(words=0)
    with pytest.raises(TypeError, match="text_encoder: method must be a Quantizer class"):
        models.text_encoder("BNN")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"needs tokens \[batch, 6\]; got \[1, 5\]"):
        build(None)(torch.zeros(1, 5, dtype=torch.int64))


def test_narrow_words_are_widened_by_a_matrix() -> None:
    torch.manual_seed(0)
    small = models.text_encoder(None, 3, WORDS, context=CONTEXT, width=16, heads=2, blocks=2, word_width=4).eval()
    assert small.words.weight.shape == (WORDS, 4)
    assert small.widen is not None
    wide = models.text_encoder(None, 3, WORDS, context=CONTEXT, width=16, heads=2, blocks=2).eval()
    wide.load_state_dict(
        {**small.state_dict(), "words.weight": small.words.weight @ small.widen.weight.T}, strict=False
    )
    tokens = torch.randint(3, WORDS, (5, CONTEXT))
    with torch.no_grad():
        torch.testing.assert_close(small(tokens), wide(tokens), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="text_encoder: word_width must be an integer of at least 1; got 0"):
        models.text_encoder(word_width=0)
