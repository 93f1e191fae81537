# SPDX-License-Identifier: Apache-2.0
"""Linear layers with an 8-bit weight (LLM.int8(), arXiv:2208.07339)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.compat.bitsandbytes._matmul import MatmulLtState, matmul
from bittern.compat.bitsandbytes.nn.params import Int8Params

ROW_FORMAT = 0
"""The number of the row-major layout, the only one, in the state_dict's weight_format."""


class Linear8bitLt(nn.Linear):
    """nn.Linear whose weight takes 8 bits by rows; x [..., input_features] -> [..., output_features] of x's dtype.

    has_fp16_weights=False: `.to(device)` quantizes the weight for good, also `.to("cpu")`. True: it stays floating
    point, is quantized at each call and has a gradient. In eval mode x is quantized by rows too, but for columns with a
    value of at least `threshold` (0: none). In training mode the decoded weight is multiplied in x's dtype. A plain
    nn.Parameter in the place of the weight, tied to an embedding for example, is never quantized: the layer is then
    nn.Linear in x's dtype.
    Errors: ValueError for index, which reordered weights in layouts that no longer exist.
    """

    weight: nn.Parameter

    def __init__(
        self,
        input_features: int,
        output_features: int,
        bias: bool = True,
        has_fp16_weights: bool = True,
        threshold: float = 0.0,
        index: Any = None,
        device: torch.device | str | None = None,
    ) -> None:
        if index is not None:
            raise ValueError("Linear8bitLt: there is no reordering of weights; leave index out")
        super().__init__(input_features, output_features, bias, device)
        self.index = index  # always None: adapters read it to build layers of the same kind
        self.state = MatmulLtState()
        self.state.threshold = threshold
        self.state.has_fp16_weights = has_fp16_weights
        self.state.use_pool = threshold > 0.0 and not has_fp16_weights
        self.weight = Int8Params(self.weight.data, has_fp16_weights=has_fp16_weights, requires_grad=has_fp16_weights)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        scales = self.weight.SCB if isinstance(self.weight, Int8Params) else None
        if not self.state.has_fp16_weights and scales is not None:
            destination[f"{prefix}SCB"] = scales if keep_vars else scales.detach()
            destination[f"{prefix}weight_format"] = torch.tensor(ROW_FORMAT, dtype=torch.uint8)

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
        layout = state_dict.get(f"{prefix}weight_format", ROW_FORMAT)
        if layout not in (ROW_FORMAT, "row"):
            raise ValueError(f"Linear8bitLt: weight_format must be {ROW_FORMAT}, rows; got {layout}")
        scales = state_dict.get(f"{prefix}SCB")
        if scales is not None and not isinstance(self.weight, Int8Params):
            raise RuntimeError(
                "Linear8bitLt: Loading a quantized checkpoint into non-quantized Linear8bitLt is not possible: its "
                "weight is a plain nn.Parameter, tied to another one for example; load first and tie then"
            )
        if scales is not None:
            device = torch.device("cpu") if self.weight.device.type == "meta" else self.weight.device
            codes = torch.empty(self.weight.shape, dtype=torch.int8, device=device)
            self.weight = Int8Params(codes, requires_grad=False, SCB=scales.to(device, copy=True))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        ours = (f"{prefix}SCB", f"{prefix}weight_format")
        unexpected_keys[:] = [key for key in unexpected_keys if key not in ours]

    def init_8bit_state(self) -> None:
        """Shows `state` the weight's codes and scales."""
        if isinstance(self.weight, Int8Params):
            self.state.CB, self.state.SCB = self.weight.CB, self.weight.SCB

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(self.weight, Int8Params):
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return F.linear(x, self.weight.to(x.dtype), bias)
        self.state.is_training = self.training
        if self.weight.CB is not None:
            self.init_8bit_state()
        return matmul(x, self.weight, bias=self.bias, state=self.state)
