# SPDX-License-Identifier: Apache-2.0
"""Linear layers with a frozen 4-bit weight (QLoRA, arXiv:2305.14314)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bittern.compat.bitsandbytes._matmul import matmul_4bit
from bittern.compat.bitsandbytes._quant_state import QuantState
from bittern.compat.bitsandbytes.nn.params import Params4bit


class Linear4bit(nn.Linear):
    """nn.Linear whose weight is quantized to 4 bits by the first `.to(device)`, also `.to("cpu")`.

    x [..., input_features] -> [..., output_features] of x's dtype. compute_dtype: the type of the product; None is
    x's. compress_statistics: the scales are quantized too. The weight has no gradient; x and bias have.
    Errors: RuntimeError for a forward before the weight was quantized.
    """

    weight: Params4bit

    def __init__(
        self,
        input_features: int,
        output_features: int,
        bias: bool = True,
        compute_dtype: torch.dtype | None = None,
        compress_statistics: bool = True,
        quant_type: str = "fp4",
        quant_storage: torch.dtype = torch.uint8,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(input_features, output_features, bias, device)
        self.weight = Params4bit(
            self.weight.data,
            compress_statistics=compress_statistics,
            quant_type=quant_type,
            quant_storage=quant_storage,
        )
        self.compute_dtype = compute_dtype
        self.quant_storage = quant_storage

    @property
    def quant_state(self) -> QuantState | None:
        """The weight's state, None before it was quantized."""
        return self.weight.quant_state

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.quant_state is not None:
            for key, value in self.quant_state.as_dict(packed=True).items():
                destination[f"{prefix}weight.{key}"] = value if keep_vars else value.detach()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        start = f"{prefix}weight."
        stats = {key: value for key, value in state_dict.items() if key.startswith(start)}
        if stats:
            self.weight = Params4bit.from_prequantized(
                state_dict[f"{prefix}weight"].clone(),
                {key: value.clone() for key, value in stats.items()},
                device="cpu" if self.weight.device.type == "meta" else self.weight.device,
            )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        unexpected_keys[:] = [key for key in unexpected_keys if key not in stats]

    def forward(self, x: Tensor) -> Tensor:
        state = self.quant_state
        if state is None:
            raise RuntimeError(f"{type(self).__name__}: the weight is not quantized yet; call .to(device) first")
        product = matmul_4bit(
            x if self.compute_dtype is None else x.to(self.compute_dtype), self.weight, state, bias=self.bias
        )
        return product.to(x.dtype)


class LinearFP4(Linear4bit):
    """`Linear4bit` in FP4."""

    def __init__(
        self,
        input_features: int,
        output_features: int,
        bias: bool = True,
        compute_dtype: torch.dtype | None = None,
        compress_statistics: bool = True,
        quant_storage: torch.dtype = torch.uint8,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(
            input_features, output_features, bias, compute_dtype, compress_statistics, "fp4", quant_storage, device
        )


class LinearNF4(Linear4bit):
    """`Linear4bit` in NF4."""

    def __init__(
        self,
        input_features: int,
        output_features: int,
        bias: bool = True,
        compute_dtype: torch.dtype | None = None,
        compress_statistics: bool = True,
        quant_storage: torch.dtype = torch.uint8,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(
            input_features, output_features, bias, compute_dtype, compress_statistics, "nf4", quant_storage, device
        )
