"""`bitsandbytes.nn`: the embeddings whose optimizer states stay in 32 bits."""

from __future__ import annotations

from typing import Any

from torch import nn

from bittern.compat.bitsandbytes.optim import GlobalOptimManager
from bittern.nn import StableEmbedding

__all__ = ["Embedding", "StableEmbedding"]


class Embedding(nn.Embedding):
    """nn.Embedding with Xavier-uniform weights whose optimizer states stay in 32 bits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        GlobalOptimManager.get_instance().register_module_override(self, "weight", {"optim_bits": 32})

    def reset_parameters(self) -> None:
        """Xavier-uniform weights, zero for the padding index."""
        nn.init.xavier_uniform_(self.weight)
        self._fill_padding_idx_with_zero()
