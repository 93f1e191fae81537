# SPDX-License-Identifier: Apache-2.0
"""A model in mixed precision: what `Recipe.precision` means."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from bittern.quantizer import Quantizer
from bittern.train.recipe import Recipe

COMPUTED: dict[str, torch.dtype] = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""The type that autocast computes in."""
LEAST_SCALE = 2.0**-24
"""The smallest number of float16. Gradients that overflow even times this are not finite at all."""


class Mixed(nn.Module):
    """`model` under autocast to `dtype`, its floating outputs in float32.

    Convolutions, linear layers and matrix products of torch compute in `dtype`; low-bit layers in the type of their
    weights, so that signs and codes are those that their inputs have without autocast.
    """

    def __init__(self, model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.device_type = device.type
        self.dtype = dtype

    def forward(self, *inputs: Any) -> Any:
        with torch.autocast(self.device_type, self.dtype):
            outputs = self.model(*inputs)
        # inside another autocast of any kind torch would keep the weights of this step for the next one
        torch.clear_autocast_cache()
        return tree_map(_widened, outputs)


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def loss_scaler(recipe: Recipe, device: torch.device) -> torch.amp.GradScaler:
    """torch's scaler of the loss, with its own constants, for float16; one that scales nothing otherwise."""
    return torch.amp.GradScaler(device.type, enabled=recipe.precision == "16-mixed")


def check_precision(model: nn.Module, recipe: Recipe) -> None:
    """Refuse a scaled loss where gradients do not follow it. Raises: ValueError."""
    if recipe.precision != "16-mixed":
        return
    for name, module in model.named_modules():
        if isinstance(module, Quantizer) and not module.follows_loss_scale:
            raise ValueError(
                f'train: precision "16-mixed" scales the loss, and the gradients of {type(module).__name__} in '
                f'{name!r} are not proportional to it; use "bf16-mixed"'
            )
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype == torch.float16:
            raise ValueError(
                f'train: precision "16-mixed" trains weights of float32, which autocast rounds; got {name!r} in '
                "float16; call model.float() first"
            )
    if getattr(recipe.loss, "error_bits", None) is not None:
        raise ValueError(
            f'train: precision "16-mixed" scales the loss, and the gradients of {recipe.loss!r} do not follow it; use '
            '"bf16-mixed"'
        )
