# SPDX-License-Identifier: Apache-2.0
"""BiBERT's weights, and attention of bits: numbers worked by hand, masks, lengths, state, packing."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern import nn as low_bit
from bittern.attention_method import Attended, AttentionMethod, product_of_signs
from bittern.binary import BiBERT, BiT
from bittern.binary.attention import ALL, BiAttention, ElasticAttention
from bittern.deploy import pack, verify
from bittern.models import text_encoder, vit_small
from bittern.nn import MultiheadAttention
from bittern.quantizer import LayerShape

every_attention = pytest.mark.parametrize("attention", ALL, ids=lambda a: a.__name__)


def test_bibert_weights() -> None:
    """Means 0.5 and -0.25 of the rows, mean sizes 1.5 and 0.75."""
    w = torch.tensor([[3.0, -1.0, 1.5, -1.5, 0.5, 0.5], [1.0, -1.0, -1.5, -0.25, 0.25, 0.0]]).requires_grad_()
    w.data[0] = torch.tensor([3.0, -1.0, 1.5, -2.0, 0.5, 1.0])
    w.data[1] = torch.tensor([1.0, -1.0, -1.5, -0.25, 0.25, 0.0])
    q = BiBERT(LayerShape((2, 6))).weight(w)
    assert q.scale is not None
    assert q.scale.flatten().tolist() == pytest.approx([9 / 6, 4 / 6])
    assert q.values.tolist() == [[1, -1, 1, -1, 1, 1], [1, -1, -1, 1, 1, 1]]
    g = torch.arange(1.0, 13.0).view(2, 6)
    (q.values * q.scale).backward(g)
    assert w.grad is not None
    for row in range(2):
        centered = w.detach()[row] - w.detach()[row].mean()
        kept = [float(n) * (abs(float(c)) <= 1) for n, c in zip(g[row], centered, strict=True)]
        assert w.grad[row].tolist() == pytest.approx([k - sum(kept) / 6 for k in kept], abs=1e-6)


def test_bibert_inputs() -> None:
    x = torch.tensor([[-1.5, -1.0, -0.0, 0.5, 1.0, 2.0]]).requires_grad_()
    q = BiBERT(LayerShape((2, 6))).input(x)
    q.values.backward(torch.arange(1.0, 7.0).view(1, 6))
    assert q.values.tolist() == [[-1, -1, 1, 1, 1, 1]]
    assert q.scale is None
    assert x.grad is not None
    assert x.grad.tolist() == [[0, 2, 3, 4, 5, 0]]


# -- attention: the specification in plain loops


def _loops(method: AttentionMethod, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """In float64, one number after the other; hidden: bool [batch, length, source]."""
    heads, size = method.num_heads, method.embed_dim // method.num_heads
    elastic = isinstance(method, ElasticAttention)

    def binarized(x: Tensor, operand: str) -> Tensor:
        if not elastic:
            return torch.where(x >= 0, 1.0, -1.0).double()
        part = getattr(method, operand)
        shifted = x.double() + part.shift.detach().double()
        return torch.where(shifted >= 0, 1.0, -1.0).double() * part.scale.detach().double()

    q, k, v = binarized(q, "queries"), binarized(k, "keys"), binarized(v, "values")
    y = torch.zeros(q.shape, dtype=torch.float64)
    for sample in range(q.shape[0]):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for i in range(q.shape[1]):
                seen = [j for j in range(k.shape[1]) if not hidden[sample, i, j]]
                scores = [float(q[sample, i, part] @ k[sample, j, part]) / math.sqrt(size) for j in seen]
                if elastic:
                    total = sum(math.exp(s) for s in scores)
                    a = method.probabilities.scale.item()
                    bits = [a * (math.exp(s) / total > a / 2) for s in scores]
                else:
                    bits = [float(s >= 0) for s in scores]
                for bit, j in zip(bits, seen, strict=True):
                    y[sample, i, part] += bit * v[sample, j, part]
    return y


def _made(attention: Attended, embed_dim: int = 12, heads: int = 3) -> AttentionMethod:
    method = attention(embed_dim, heads).eval()
    if isinstance(method, ElasticAttention):
        for number, operand in enumerate((method.queries, method.keys, method.values)):
            assert operand.shift is not None
            nn.init.uniform_(operand.shift, -0.5, 0.5)
            nn.init.constant_(operand.scale, 0.5 + 0.25 * number)
        nn.init.constant_(method.probabilities.scale, 0.35)
    return method


@every_attention
@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_loops(attention: type[AttentionMethod], causal: bool) -> None:
    """Texts of 7, 3, 1 and 0 words; exact zeros among operands; scores that are 0, for heads have 4 features."""
    torch.manual_seed(0)
    method = _made(attention)
    q, k, v = torch.randn(4, 7, 12), torch.randn(4, 7, 12), torch.randn(4, 7, 12)
    q[:, :, ::5], k[:, ::2, 1] = 0.0, -0.0
    hidden = (torch.arange(7) >= torch.tensor([7, 3, 1, 0])[:, None])[:, None, :].expand(4, 7, 7)
    if causal:
        hidden = hidden | torch.ones(7, 7, dtype=torch.bool).triu(1)
    y, weights = method(q, k, v, hidden[:, None])
    expected = _loops(method, q, k, v, hidden)
    assert torch.allclose(y.double(), expected, rtol=1e-6, atol=1e-6)
    assert bool((weights[3] == 0).all()), "nothing is attended to where everything is hidden"
    assert bool((y[3] == 0).all())
    assert set((weights / weights.max()).unique().tolist()) == {0.0, 1.0}
    added = torch.zeros(hidden.shape).masked_fill(hidden, float("-inf"))[:, None]
    assert torch.equal(method(q, k, v, added)[0], y)
    moved = v.clone()
    moved[1, 3:], moved[2, 1:] = -v[1, 3:], float("inf")  # what nobody sees changes nothing
    assert torch.equal(method(q, k, moved, hidden[:, None])[0], y)


@every_attention
def test_attention_of_few(attention: type[AttentionMethod]) -> None:
    """One place, no place to look at, no query, no sample."""
    method = _made(attention)
    for batch, length, source in ((2, 1, 1), (2, 3, 0), (2, 0, 3), (0, 3, 3)):
        x, s = torch.randn(batch, length, 12), torch.randn(batch, source, 12)
        y, weights = method(x, s, s)
        assert y.shape == x.shape
        assert weights.shape == (batch, 3, length, source)
        assert bool(y.isfinite().all())


def test_gradients_of_bi_attention() -> None:
    """One head of one feature: scores are q k = +-1, whose mask lets all gradients through; dV = A^T g."""
    method = BiAttention(1, 1)
    q = torch.tensor([[[0.5], [-2.0]]]).requires_grad_()
    k = torch.tensor([[[1.0], [-0.25]]]).requires_grad_()
    v = torch.tensor([[[0.5], [-3.0]]]).requires_grad_()
    y, weights = method(q, k, v)
    assert weights.flatten().tolist() == [1, 0, 0, 1]
    assert y.flatten().tolist() == [1, -1]
    y.backward(torch.tensor([[[10.0], [1.0]]]))
    assert v.grad is not None
    assert v.grad.flatten().tolist() == [10, 0]  # the second is beyond 1
    # dA = g v^T = [[10, -10], [1, -1]]; dq = dA k = 20, 2, the second beyond 1; dk = dA^T q = 10 - 1, -10 + 1
    assert q.grad is not None
    assert k.grad is not None
    assert q.grad.flatten().tolist() == [20, 0]
    assert k.grad.flatten().tolist() == [9, -9]


def test_gradients_of_elastic_bits() -> None:
    """P = 0.5 for both places and a = 0.8: q = 0.625 counts as 1; da = sum g (1 - 0.625), dP = g / ... = g inside."""
    method = ElasticAttention(1, 1).eval()
    nn.init.constant_(method.probabilities.scale, 0.8)
    scores = torch.zeros(1, 1, 1, 2).requires_grad_()
    bits = method.attend(scores, None, 0.0)
    assert bits.values.flatten().tolist() == [1, 1]
    assert bits.scale is not None
    (bits.values * bits.scale).backward(torch.tensor([[[[3.0, 1.0]]]]))
    assert method.probabilities.scale.grad is not None
    assert method.probabilities.scale.grad.item() == pytest.approx(4 * 0.375 / math.sqrt(2))
    assert scores.grad is not None  # the softmax: P_i (g_i - sum P g)
    assert scores.grad.flatten().tolist() == pytest.approx([0.5 * (3 - 2), 0.5 * (1 - 2)])


def test_scales_start_on_the_first_batch_once_and_a_loaded_state_goes_on() -> None:
    method = ElasticAttention(2, 1)
    q = torch.tensor([[[1.0, -3.0]]])
    method.query(q), method.query(9 * q)
    assert method.queries.scale.item() == 4
    assert bool(method.queries.started)
    assert not bool(method.keys.started)
    method.attend(torch.zeros(1, 1, 1, 4), None, 0.0)
    assert method.probabilities.scale.item() == 1
    other = ElasticAttention(2, 1)
    other.load_state_dict(method.state_dict())
    other.query(5 * q)
    assert other.queries.scale.item() == 4
    assert copy.deepcopy(method).queries.scale.item() == 4


@every_attention
def test_dropout_drops_bits_in_training_alone(attention: type[AttentionMethod]) -> None:
    torch.manual_seed(0)
    module = MultiheadAttention(8, 2, dropout=0.5, batch_first=True, attention=attention)
    x = torch.randn(2, 40, 8)
    _, weights = module(x, x, x, average_attn_weights=False)
    assert weights is not None
    values = weights.unique()
    assert len(values) == 2
    assert values[0] == 0
    module.eval()
    _, kept = module(x, x, x, average_attn_weights=False)
    assert kept is not None
    assert not torch.equal(kept == 0, weights == 0)
    assert torch.equal(module(x, x, x)[0], module(x, x, x)[0])


@every_attention
def test_messages(attention: type[AttentionMethod]) -> None:
    with pytest.raises(ValueError, match=f"{attention.__name__}: num_heads must divide embed_dim; got embed_dim=5"):
        attention(5, 2)
    with pytest.raises(TypeError, match="MultiheadAttention: attention must be an AttentionMethod class"):
        MultiheadAttention(8, 2, attention=nn.Linear)  # type: ignore[arg-type]


# -- products counted from bits


def test_summary_counts_products_of_attention_as_those_of_bits() -> None:
    """q k^T and A v, of 2 heads of 4 features: 2 * 5 * 5 * 4 each, and the op counts as torch's product does."""
    module = MultiheadAttention(8, 2, batch_first=True, attention=BiAttention)

    class SelfAttention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.inner(x, x, x)[0]
            return y

    report = low_bit.summary(SelfAttention(), torch.randn(1, 5, 8))
    assert report.bmac == 2 * 2 * 5 * 5 * 4
    assert report.fmac == 4 * 5 * 8 * 8
    assert low_bit.summary(SelfAttention(), torch.randn(1, 900, 8)).bmac == 2 * 2 * 900 * 900 * 4


def test_large_products_are_counted_from_bits_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    a, b = (torch.randn(2, 150, 200).sign() for _ in range(2))
    counted = []
    monkeypatch.setattr("bittern.ops.sign_products", lambda a, b: counted.append(1) or a @ b.transpose(-2, -1))
    product_of_signs(a, b)
    product_of_signs(a[:, :5], b)
    product_of_signs(a.requires_grad_(), b)
    assert len(counted) == 1
    monkeypatch.undo()
    method = BiAttention(64, 1).eval()
    q, k, v = torch.randn(3, 1, 200, 64)
    with torch.no_grad():
        large = method(q, k, v)[0]
        bits = (torch.where(q >= 0, 1.0, -1.0) @ torch.where(k >= 0, 1.0, -1.0).transpose(1, 2) >= 0).float()
    assert torch.equal(large, bits @ torch.where(v >= 0, 1.0, -1.0))


# -- packed


class Sentences(nn.Module):
    """Attention of bits between low-bit projections, over texts of any length."""

    def __init__(self, attention: Attended, width: int, heads: int) -> None:
        super().__init__()
        real = MultiheadAttention(width, heads, batch_first=True, attention=attention)
        self.attention = low_bit.convert(real, BiBERT, keep=())
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        y, _ = self.attention(x, x, x, key_padding_mask=hidden, need_weights=False)
        logits: Tensor = self.head(y.mean(1))
        return logits


@pytest.mark.parametrize(
    ("attention", "length", "width", "heads"),
    [(ElasticAttention, 5, 12, 3), (BiAttention, 160, 96, 1)],
    ids=["floats", "bits"],
)
def test_packed_equals_trained(attention: type[AttentionMethod], length: int, width: int, heads: int) -> None:
    """Lengths down to 0, at sizes below and above those whose bits are counted."""
    torch.manual_seed(0)
    model = Sentences(attention, width, heads)
    x = torch.randn(3, length, width)
    hidden = torch.arange(length) >= torch.tensor([length, length // 2, 0])[:, None]
    F.cross_entropy(model(x, hidden), torch.arange(3)).backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad if p.grad is not None else 0.0
    packed = pack(model.eval(), (x, hidden))
    report = verify(packed, model, (x, hidden))
    assert report.logits_identical
    names = [str(node.attrs.get("operator")) for node in packed.program.nodes]
    assert names.count("bittern::sign_products.default") == (2 if length > 100 else 0)


def test_an_encoder_of_texts_packs_and_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    make = partial(text_encoder, BiT, 4, 20, width=16, heads=2, blocks=1, attention=ElasticAttention)
    tokens = torch.tensor([[3, 5, 7, 9, 2, 4], [3, 5, 0, 0, 0, 0], [0] * 6, [7, 0, 0, 0, 0, 0]])
    model = make(context=6)
    model(tokens).sum().backward()  # starts the scales
    shorter = make(context=2)
    state = {name: t[:2] if name == "places.weight" else t for name, t in model.state_dict().items()}
    shorter.load_state_dict(state)
    model, shorter = model.eval(), shorter.eval()
    with torch.no_grad():
        assert bool(model(tokens).isfinite().all())
        assert torch.allclose(model(tokens[1:]), shorter(tokens[1:, :2]), atol=1e-5)
    assert verify(pack(model, tokens), model, tokens).logits_identical


def test_a_vision_transformer_of_bits_packs() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 1, 8, 8)
    model = vit_small(BiBERT, 3, 1, input_size=8, width=16, heads=2, depth=1, attention=BiAttention).eval()
    assert verify(pack(model, images), model, images).logits_identical
