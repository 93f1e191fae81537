# SPDX-License-Identifier: Apache-2.0
"""`bitsandbytes.nn.modules`, where bitsandbytes defines its layers: the same classes as in `nn`."""

from __future__ import annotations

from bittern.compat.bitsandbytes.nn.embedding import (
    Embedding,
    Embedding4bit,
    Embedding8bit,
    EmbeddingFP4,
    EmbeddingNF4,
)
from bittern.compat.bitsandbytes.nn.linear4bit import Linear4bit, LinearFP4, LinearNF4
from bittern.compat.bitsandbytes.nn.linear8bit import Linear8bitLt
from bittern.compat.bitsandbytes.nn.params import Int8Params, Params4bit
from bittern.nn import StableEmbedding

__all__ = [
    "Embedding",
    "Embedding4bit",
    "Embedding8bit",
    "EmbeddingFP4",
    "EmbeddingNF4",
    "Int8Params",
    "Linear4bit",
    "Linear8bitLt",
    "LinearFP4",
    "LinearNF4",
    "Params4bit",
    "StableEmbedding",
]
