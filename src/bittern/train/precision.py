# SPDX-License-Identifier: Apache-2.0
"""A model in mixed precision: what `Recipe.precision` means."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mixed(nn.Module):
    """`model` under autocast to bfloat16, its inputs in bfloat16 and its outputs in float32."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.model = model
        self.device_type = device.type

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.is_floating_point():
            inputs = inputs.to(torch.bfloat16)
        with torch.autocast(self.device_type, torch.bfloat16):
            outputs: Tensor = self.model(inputs)
        # inside another autocast of any kind torch would keep the weights of this step for the next one
        torch.clear_autocast_cache()
        return outputs.float()
