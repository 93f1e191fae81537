# SPDX-License-Identifier: Apache-2.0
"""Methods that give the two products of attention operands of one bit, one paper a file: each is a
`bittern.attention_method.AttentionMethod` that `nn.MultiheadAttention` and models take as `attention=`."""

from __future__ import annotations

from bittern.attention_method import AttentionMethod
from bittern.binary.attention.bi_attention import BiAttention
from bittern.binary.attention.elastic import ElasticAttention

ALL: tuple[type[AttentionMethod], ...] = (BiAttention, ElasticAttention)
"""Every method: BiBERT's and BiT's."""

__all__ = ["ALL", "BiAttention", "ElasticAttention"]
