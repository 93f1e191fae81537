# SPDX-License-Identifier: Apache-2.0
"""BiT's attention of bits: elastic signs, and elastic bits of what the softmax gives (2205.13016)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.attention_method import AttentionMethod
from bittern.binary._elastic import Elastic
from bittern.quantizer import Quantized


class ElasticAttention(AttentionMethod):
    """Signs of queries, keys and values with a learned scale each; bits {0, a} of the softmax of their scores.

    Forward: Q_q = a_Q sign(Q + b_Q), likewise K and V; P = dropout(softmax(Q_q K_q^T / sqrt(d) + mask)), 0 where
    hidden; y = a_P round_half_even(clip(P / a_P, 0, 1)) V_q. So a place is attended to where P > a_P / 2.
    Backward: of `bittern.binary.BiT`, signed and unsigned; the softmax has its own derivative.
    Start: on the first batch in training a = 2 mean |x| for signs, a_P = 4 mean P; b = 0.

    Differences: the authors' code computes x + b of queries, keys and values and then goes on without b; here it
    counts, as the paper has it. P has no b, in their code too: it would attend to what is hidden. A row of which
    everything is hidden gives 0 here; there the mask is -10000, so that such a row attends to everything alike.
    Errors: ValueError for heads that do not divide the width.
    Source: arXiv 2205.13016; facebookresearch/bit transformer/modeling_bert_quant.py, utils_quant.py.
    """

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__(embed_dim, num_heads)
        self.queries, self.keys, self.values = (Elastic(embed_dim) for _ in range(3))
        self.probabilities = Elastic()

    def query(self, q: Tensor) -> Quantized:
        signs: Quantized = self.queries(q)
        return signs

    def key(self, k: Tensor) -> Quantized:
        signs: Quantized = self.keys(k)
        return signs

    def value(self, v: Tensor) -> Quantized:
        signs: Quantized = self.values(v)
        return signs

    def attend(self, scores: Tensor, hidden: Tensor | None, dropout: float) -> Quantized:
        if hidden is not None:  # -inf alone would make NaN of a row that is hidden as a whole
            scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        shares = torch.softmax(scores, dim=-1)
        if hidden is not None:
            shares = shares.masked_fill(hidden, 0.0)
        bits: Quantized = self.probabilities(F.dropout(shares, dropout) if dropout else shares)
        return bits
