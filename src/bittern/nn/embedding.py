# SPDX-License-Identifier: Apache-2.0
"""StableEmbedding: an embedding that low-bit optimizers train without divergence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STATE_BITS = 32


class StableEmbedding(nn.Embedding):
    """nn.Embedding with Xavier-uniform weights and a layer norm right after the look-up.

    input: integers, any shape [...] -> [..., embedding_dim] of the weight's dtype; the norm is computed in float32.
    The weight's optimizer states stay in 32 bits: `bittern.optim` reads its attribute `optimizer_state_bits`.
    Words are rare, so their gradients are sparse and large; norm and initialization keep them in one range.
    Errors: those of nn.Embedding; ValueError for sparse=True, which bittern's optimizers refuse.
    Reference: 8-bit Optimizers via Block-wise Quantization (arXiv:2110.02861), section 2.3.
    """

    norm: nn.LayerNorm

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if sparse:
            raise ValueError("StableEmbedding: sparse gradients cannot be stepped by bittern.optim; pass sparse=False")
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            _weight=_weight,
            device=device,
            dtype=dtype,
        )
        self.norm = nn.LayerNorm(embedding_dim, device=device)
        self.optimizer_state_bits = STATE_BITS
        self.weight.optimizer_state_bits = STATE_BITS  # type: ignore[attr-defined]

    def reset_parameters(self) -> None:
        """Xavier-uniform weights, zero for the padding index."""
        nn.init.xavier_uniform_(self.weight)
        if self.padding_idx is not None:
            with torch.no_grad():
                self.weight[self.padding_idx].fill_(0)

    def forward(self, input: Tensor) -> Tensor:
        found = super().forward(input)
        normed = F.layer_norm(
            found.float(), self.norm.normalized_shape, self.norm.weight, self.norm.bias, self.norm.eps
        )
        return normed.to(found.dtype)
