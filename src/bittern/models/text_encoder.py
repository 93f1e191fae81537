# SPDX-License-Identifier: Apache-2.0
"""A small encoder of texts with low-bit projections, in the manner of BERT (Devlin et al. 2018, arXiv 1810.04805)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.attention_method import Attended, made_by
from bittern.models._layers import check_arguments, linear
from bittern.quantizer import Method

PADDING = 0
"""The token behind the end of a text."""
SPREAD = 0.02
"""Standard deviation of embeddings at the start, BERT's."""


class Attention(nn.Module):
    """Attention of several heads over the visible tokens: x [batch, time, width] and visible [batch, 1, 1, time].

    head(q, k, v) = softmax(norm(q) norm(k)^T / sqrt(width / heads)) v;   y = norm(project(norm(concat heads))).
    With an `AttentionMethod` the two products are those of `bittern.attention_method`, of norm(q), norm(k), norm(v).
    """

    def __init__(self, width: int, heads: int, method: Method | None, attention: Attended | None) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (linear(width, width, method) for _ in range(3))
        self.query_norm, self.key_norm = nn.LayerNorm(width // heads), nn.LayerNorm(width // heads)
        self.mixed_norm = nn.LayerNorm(width)
        self.project = linear(width, width, method)
        self.norm = nn.LayerNorm(width)
        # drawn, and called, here alone, so that an encoder without it starts as ever
        self.products = None if attention is None else made_by("text_encoder", attention, width, heads)
        self.value_norm = None if attention is None else nn.LayerNorm(width // heads)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        if self.products is None:
            q, k, v = self._heads(q), self._heads(k), self._heads(v)
            mixed = F.scaled_dot_product_attention(self.query_norm(q), self.key_norm(k), v, attn_mask=visible)
            mixed = mixed.transpose(1, 2).flatten(2)
        else:
            assert self.value_norm is not None
            q, k, v = self._normed(q, self.query_norm), self._normed(k, self.key_norm), self._normed(v, self.value_norm)
            mixed, _ = self.products(q, k, v, ~visible)
        y: Tensor = self.norm(self.project(self.mixed_norm(mixed)))
        return y

    def _normed(self, x: Tensor, norm: nn.Module) -> Tensor:
        """A norm of each head of x [batch, time, width]."""
        y: Tensor = norm(x.view(*x.shape[:2], self.heads, -1)).flatten(2)
        return y

    def _heads(self, x: Tensor) -> Tensor:
        """[batch, time, width] -> [batch, heads, time, width / heads]."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Perceptron(nn.Module):
    """y = norm(down(norm(gelu(up(x)))))."""

    def __init__(self, width: int, method: Method | None) -> None:
        super().__init__()
        self.up = linear(width, 4 * width, method)
        self.hidden_norm = nn.LayerNorm(4 * width)
        self.down = linear(4 * width, width, method)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.down(self.hidden_norm(F.gelu(self.up(x)))))
        return y


class EncoderBlock(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x))."""

    def __init__(self, width: int, heads: int, method: Method | None, attention: Attended | None) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, heads, method, attention)
        self.perceptron_norm, self.perceptron = nn.LayerNorm(width), Perceptron(width, method)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), visible)
        y: Tensor = x + self.perceptron(self.perceptron_norm(x))
        return y


class TextEncoder(nn.Module):
    """tokens int64 [batch, context] -> logits [batch, num_classes].

    Embeddings of words and places, blocks, and a linear layer on the mean over the visible tokens. A token is visible
    unless it is PADDING; the first one always is, so that an empty text has an answer too. What stands at a place that
    is not visible changes nothing.

    Float: embeddings, norms, the last layer, and without `attention` the products of attention. All other layers are
    low-bit. Different from BERT: a norm stands in front of each low-bit layer, where it centres what a sign is taken
    of, and behind each, since some methods have no scale; layers have no bias, which the norms have.

    word_width: of the embeddings of words, which a float matrix then brings to `width`, as ALBERT has it (Lan et al.
    2019, arXiv 1909.11942): most bytes of a small encoder are its words. None: they have the width, and no matrix.
    """

    def __init__(
        self,
        method: Method | None,
        words: int,
        num_classes: int,
        *,
        context: int,
        width: int,
        heads: int,
        blocks: int,
        word_width: int | None = None,
        attention: Attended | None = None,
    ) -> None:
        super().__init__()
        self.context = context
        self.words, self.places = nn.Embedding(words, word_width or width), nn.Embedding(context, width)
        for embedding in (self.words, self.places):
            nn.init.normal_(embedding.weight, std=SPREAD)
        # drawn here alone, so that an encoder without it starts as ever
        self.widen = None if word_width is None else nn.Linear(word_width, width, bias=False)
        self.blocks = nn.ModuleList(EncoderBlock(width, heads, method, attention) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def feature_maps(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """What leaves each block, [batch, context, width]; the last behind the norm. Padding has values, too."""
        return self._encoded(tokens, self._visible(tokens))

    def forward(self, tokens: Tensor) -> Tensor:
        visible = self._visible(tokens)
        last = self._encoded(tokens, visible)[-1]
        shown = visible.unsqueeze(2).to(last.dtype)
        logits: Tensor = self.head((last * shown).sum(1) / shown.sum(1))
        return logits

    def _visible(self, tokens: Tensor) -> Tensor:
        """bool [batch, context]."""
        if tokens.ndim != 2 or tokens.shape[1] != self.context:
            raise ValueError(f"TextEncoder: needs tokens [batch, {self.context}]; got {list(tokens.shape)}")
        places = torch.arange(self.context, device=tokens.device)
        return (tokens != PADDING) | (places == 0)

    def _encoded(self, tokens: Tensor, visible: Tensor) -> tuple[Tensor, ...]:
        x = self.words(tokens)
        if self.widen is not None:
            x = self.widen(x)
        x = x + self.places.weight
        maps = []
        for block in self.blocks:
            x = block(x, visible[:, None, None, :])
            maps.append(x)
        return (*maps[:-1], self.norm(x))


def text_encoder(
    method: Method | None = None,
    num_classes: int = 2,
    words: int = 5000,
    *,
    context: int = 32,
    width: int = 128,
    heads: int = 4,
    blocks: int = 2,
    word_width: int | None = None,
    attention: Attended | None = None,
) -> TextEncoder:
    """TextEncoder for tokens [batch, context], numbers below `words`.

    method: a Quantizer class or a partial of one; None: the same network with float layers.
    word_width: numbers of a word, fewer than `width`; None: as many.
    attention: an AttentionMethod class, as `bittern.binary.attention.ElasticAttention`, which gives the products of
        attention operands of one bit; None: they stay real.

    Raises: TypeError when `method` is no class; ValueError for a size below 1, or a width that is no multiple of heads.
    """
    check_arguments(
        "text_encoder",
        method,
        num_classes=num_classes,
        words=words,
        context=context,
        width=width,
        heads=heads,
        blocks=blocks,
        word_width=width if word_width is None else word_width,
    )
    if width % heads:
        raise ValueError(f"text_encoder: width must be a multiple of heads; got {width} and {heads}")
    return TextEncoder(
        method,
        words,
        num_classes,
        context=context,
        width=width,
        heads=heads,
        blocks=blocks,
        word_width=word_width,
        attention=attention,
    )
