# SPDX-License-Identifier: Apache-2.0
"""Where a network's attention can be matched: the blocks whose outputs are images."""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = re.compile(r"(.*\.)?blocks\.\d+")
IMAGE_DIMS = 4
"""Of [batch, channels, height, width]; three would be tokens as well as samples of a series."""


def transfer_points(model: nn.Module, inputs: Tensor) -> tuple[str, ...]:
    """Names of the modules "blocks.0", "blocks.1", ... that run once and give images, in their order; of a copy, so
    that the model stays as it is. Empty for networks without such blocks.
    """
    network = copy.deepcopy(model).eval()
    found: dict[str, list[Any]] = {name: [] for name, _ in network.named_modules() if BLOCK.fullmatch(name)}
    for name, module in network.named_modules():
        if name in found:
            module.register_forward_hook(lambda module, args, output, name=name: found[name].append(output))
    with torch.no_grad(), torch.random.fork_rng([]):
        network(inputs)
    return tuple(
        name
        for name, outputs in found.items()
        if len(outputs) == 1 and isinstance(outputs[0], Tensor) and outputs[0].ndim == IMAGE_DIMS
    )
