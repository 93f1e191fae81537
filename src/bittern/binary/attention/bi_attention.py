# SPDX-License-Identifier: Apache-2.0
"""Bi-Attention: BiBERT's attention of bits, without a softmax (2203.06390)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.attention_method import AttentionMethod
from bittern.estimators import Clip, binarize, straight_through
from bittern.quantizer import Quantized


class BiAttention(AttentionMethod):
    """Signs of queries, keys and values; a place is attended to where its score is not negative.

    Forward: A = bool(sign(Q) sign(K)^T / sqrt(d) + mask), bool(s) = 1 where s >= 0, else 0, and 0 where hidden;
    y = A sign(V), the sum over what is attended to, which nothing divides.
    Backward: dx = g 1{|x| <= 1} for Q, K, V and the scores alike.
    Dropout: of A, whose other bits stay 1.

    Differences: with d even many scores are 0. The paper's bool(0) is 1, as here; the authors' code has 0 there, for
    torch's sign(0) is 0. Its masks of gradients are strict: 1{|x| < 1}. It drops scores to 0, hence those bits to 0.
    Errors: ValueError for heads that do not divide the width.
    Source: arXiv 2203.06390; htqin/BiBERT transformer/modeling_quant.py, utils_quant.py.
    """

    def query(self, q: Tensor) -> Quantized:
        return Quantized(binarize(q, Clip(1.0)))

    def key(self, k: Tensor) -> Quantized:
        return self.query(k)

    def value(self, v: Tensor) -> Quantized:
        return self.query(v)

    def attend(self, scores: Tensor, hidden: Tensor | None, dropout: float) -> Quantized:
        inside = (scores.detach().abs() <= 1.0).to(scores.dtype)
        bits = straight_through((scores.detach() >= 0.0).to(scores.dtype), scores, inside)
        if hidden is not None:
            bits = bits.masked_fill(hidden, 0.0)
        if dropout:
            bits = bits * (F.dropout(torch.ones_like(bits), dropout) > 0)
        return Quantized(bits)
