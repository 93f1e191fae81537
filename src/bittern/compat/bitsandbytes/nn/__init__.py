# SPDX-License-Identifier: Apache-2.0
"""`bitsandbytes.nn`: layers with 8-bit and 4-bit weights, and embeddings whose optimizer states stay in 32 bits."""

from __future__ import annotations

from bittern.compat.bitsandbytes.nn import modules, parametrize
from bittern.compat.bitsandbytes.nn.modules import (
    Embedding,
    Embedding4bit,
    Embedding8bit,
    EmbeddingFP4,
    EmbeddingNF4,
    Int8Params,
    Linear4bit,
    Linear8bitLt,
    LinearFP4,
    LinearNF4,
    Params4bit,
    StableEmbedding,
)

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
    "modules",
    "parametrize",
]
