# SPDX-License-Identifier: Apache-2.0
"""Embeddings: with optimizer states in 32 bits, and with frozen weights in 8 or 4 bits."""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.compat.bitsandbytes.functional import dequantize_4bit
from bittern.compat.bitsandbytes.nn.params import Int8Params, Params4bit
from bittern.compat.bitsandbytes.optim import GlobalOptimManager
from bittern.ops.linear_8bit.reference import LEVELS

_LOGGER = logging.getLogger(__name__)


class Embedding(nn.Embedding):
    """nn.Embedding with Xavier-uniform weights whose optimizer states stay in 32 bits."""

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
    ) -> None:
        if sparse:
            raise ValueError("Embedding: sparse gradients cannot be stepped by 8-bit optimizers; pass sparse=False")
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            _weight=_weight,
            device=device,
        )
        GlobalOptimManager.get_instance().register_module_override(self, "weight", {"optim_bits": 32})

    def reset_parameters(self) -> None:
        """Xavier-uniform weights, zero for the padding index."""
        nn.init.xavier_uniform_(self.weight)
        self._fill_padding_idx_with_zero()


class Embedding8bit(nn.Embedding):
    """nn.Embedding whose weight is quantized to 8 bits by rows by the first `.to(device)`.

    Errors: RuntimeError for a forward before that; NotImplementedError for state_dict(), as in bitsandbytes.
    """

    weight: Int8Params

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, device=device, dtype=dtype)
        self.dtype = self.weight.dtype
        self.weight = Int8Params(self.weight.data, requires_grad=False)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        raise NotImplementedError("Embedding8bit: there is no file format for it; save the floating-point embedding")

    def forward(self, input: Tensor) -> Tensor:
        scales = self.weight.SCB
        if scales is None:
            raise RuntimeError("Embedding8bit: the weight is not quantized yet; call .to(device) first")
        codes = F.embedding(input, self.weight.data)
        return (codes * (scales[input] / LEVELS).unsqueeze(-1)).to(self.dtype)


class Embedding4bit(nn.Embedding):
    """nn.Embedding whose weight is quantized to 4 bits by the first `.to(device)`.

    Only the rows that are looked up are decoded where rows consist of whole blocks of 64; else the whole weight is, and
    a warning is logged when the layer is made.
    Errors: RuntimeError for a forward before that; NotImplementedError for state_dict(), as in bitsandbytes.
    """

    weight: Params4bit

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        dtype: torch.dtype | None = None,
        quant_type: str = "fp4",
        quant_storage: torch.dtype = torch.uint8,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, device=device, dtype=dtype)
        self.dtype = self.weight.dtype
        self.weight = Params4bit(
            self.weight.data, compress_statistics=None, quant_type=quant_type, quant_storage=quant_storage
        )
        if embedding_dim % self.weight.blocksize:
            _LOGGER.warning(
                "%s: embedding_dim=%d is no multiple of the block size %d, so inference decodes the whole weight for "
                "every look-up; choose a multiple",
                type(self).__name__,
                embedding_dim,
                self.weight.blocksize,
            )

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        raise NotImplementedError("Embedding4bit: there is no file format for it; save the floating-point embedding")

    def forward(self, input: Tensor) -> Tensor:
        state = self.weight.quant_state
        if state is None:
            raise RuntimeError(f"{type(self).__name__}: the weight is not quantized yet; call .to(device) first")
        if self.embedding_dim % state.blocksize:
            return F.embedding(input, dequantize_4bit(self.weight.data, state)).to(self.dtype)
        packed = self.weight.data.view(torch.uint8).view(self.num_embeddings, -1)
        rows = copy.copy(state)
        rows.absmax = state.scales().view(self.num_embeddings, -1)[input].flatten()
        rows.shape = torch.Size((*input.shape, self.embedding_dim))
        rows.state2 = None
        return dequantize_4bit(packed[input].reshape(-1, 1), rows).view(rows.shape).to(self.dtype)


class EmbeddingFP4(Embedding4bit):
    """`Embedding4bit` in FP4."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        dtype: torch.dtype | None = None,
        quant_storage: torch.dtype = torch.uint8,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, dtype, "fp4", quant_storage, device)


class EmbeddingNF4(Embedding4bit):
    """`Embedding4bit` in NF4."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        dtype: torch.dtype | None = None,
        quant_storage: torch.dtype = torch.uint8,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, dtype, "nf4", quant_storage, device)
