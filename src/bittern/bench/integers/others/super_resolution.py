# SPDX-License-Identifier: Apache-2.0
"""ESRGAN-slim of UpscalerJS, put together from the list of its Keras layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

EVERY_LAYER = ("Conv2D", "Activation", "Concatenate", "Add", "UpSampling2D")


class Layers(nn.Module):
    """Layers by name; x [batch, 3, height, width] in 0 ... 1 -> the same, larger."""

    def __init__(self, listed: list[dict[str, Any]]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        self._steps: list[tuple[str, str, list[str]]] = []
        self._first = listed[0]["name"]
        channels = {self._first: 3}
        for entry in listed[1:]:
            name, kind, own = entry["name"], entry["class_name"], entry["config"]
            inputs = [node[0] for node in entry["inbound_nodes"][0]]
            before = [channels[value] for value in inputs]
            channels[name] = sum(before) if kind == "Concatenate" else before[0]
            if kind == "Conv2D":
                channels[name] = own["filters"]
                size = own["kernel_size"][0]
                self.layers[name] = nn.Conv2d(before[0], own["filters"], size, 1, size // 2)
            elif kind == "Activation":
                self.layers[name] = nn.ReLU()
            elif kind == "UpSampling2D":
                self.layers[name] = nn.Upsample(scale_factor=float(own["size"][0]))
            elif kind not in EVERY_LAYER:
                raise ValueError(f"ESRGAN-slim: layer {name!r} is {kind}; there are {', '.join(EVERY_LAYER)}")
            self._steps.append((name, kind, inputs))

    def forward(self, x: Tensor) -> Tensor:
        values = {self._first: x}
        for name, kind, inputs in self._steps:
            given = [values[value] for value in inputs]
            if kind == "Concatenate":
                values[name] = torch.cat(given, 1)
            elif kind == "Add":
                values[name] = given[0] + given[1]
            else:
                values[name] = self.layers[name](given[0])
        return values[self._steps[-1][0]]


def esrgan_slim(folder: Path, factor: int) -> nn.Module:
    """With the weights of a safetensors file, as Keras lays them. Raises: OSError; KeyError, RuntimeError."""
    listed = json.loads((folder / f"esrgan_slim_x{factor}.layers.json").read_text(encoding="utf-8"))
    model, weights = Layers(listed), load_file(folder / f"esrgan_slim_x{factor}.safetensors")
    state = {}
    for name, layer in model.layers.items():
        if isinstance(layer, nn.Conv2d):
            state[f"layers.{name}.weight"] = weights[f"{name}/kernel"].permute(3, 2, 0, 1)
            state[f"layers.{name}.bias"] = weights[f"{name}/bias"]
    model.load_state_dict(state)
    return model.eval()
