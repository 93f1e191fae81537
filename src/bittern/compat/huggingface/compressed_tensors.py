# SPDX-License-Identifier: Apache-2.0
"""compressed-tensors' checkpoints, as LLM Compressor writes them: "pack-quantized"; MXFP4 is in `mxfp4`.

Of a layer [rows, columns] of b bits with G groups, where a number q is stored as q + 2^(b - 1):
    weight_packed      int32 [rows, columns b / 32 rounded up]: the codes of a row in its words, the lowest bits first
    weight_scale       [rows, G]
    weight_zero_point  int32 [rows b / 32 rounded up, G], packed down the columns; absent: 0
    weight_g_idx       int32 [columns], the group of each input, with actorder "group"
    weight_shape       [2]: rows, columns; newer files may leave it out
    W[o, i] = weight_scale[o, g] * (q[o, i] - zero[o, g])
3 bits are not read: versions of the package pack them differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from bittern.compat.huggingface.format import SCALES, Part, flag, group_size, number, order_of, unpack
from bittern.compat.huggingface.integers import Codes, IntegerFormat
from bittern.compat.huggingface.mxfp4 import MxPackQuantized

STRATEGIES = ("group", "channel")
"""A scale for each group of inputs, or for each output."""
UNUSED = ("input_activations", "output_activations")
"""What a group of layers may say about activations, which stay real here."""


def of_config(config: Mapping[str, Any]) -> PackQuantized | MxPackQuantized:
    """Raises: ValueError for what is not read."""
    form = config.get("format")
    if form not in ("pack-quantized", MxPackQuantized.name):
        raise ValueError(f"format must be 'pack-quantized' or {MxPackQuantized.name!r}; got {form!r}; it is not read")
    for key in ("sparsity_config", "transform_config", "kv_cache_scheme"):
        if config.get(key):
            raise ValueError(f"{key} must be empty; got {config[key]!r}; it is not read")
    layers = config.get("config_groups")
    if not isinstance(layers, dict) or len(layers) != 1 or not isinstance(one := next(iter(layers.values())), dict):
        raise ValueError(f"config_groups must hold one group; got {layers!r}; quantize all layers alike")
    for key in UNUSED:
        if one.get(key):
            raise ValueError(f"{key} must be null: activations stay real; got {one[key]!r}")
    kind, weights = "int" if form == "pack-quantized" else "float", one.get("weights")
    if not isinstance(weights, dict) or weights.get("type", "int") != kind:
        raise ValueError(f"weights must be of the type {kind!r}; got {weights!r}; they are not read")
    return (PackQuantized if kind == "int" else MxPackQuantized).of_weights(weights)


class PackQuantized(IntegerFormat):
    """act_order: groups are no neighbours, so that weight_g_idx must be there."""

    marker = "weight_packed"

    def __init__(self, bits: int, group: int | None, symmetric: bool, act_order: bool) -> None:
        super().__init__(bits, group, symmetric)
        self.act_order = act_order

    @classmethod
    def of_weights(cls, weights: Mapping[str, Any]) -> Self:
        """Raises: ValueError for what is not read."""
        bits, strategy = number(weights, "num_bits"), weights.get("strategy")
        if bits not in (2, 4, 8):
            raise ValueError(f"num_bits must be 2, 4 or 8; got {bits}; quantize anew")
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy must be 'group' or 'channel'; got {strategy!r}; quantize anew")
        group = group_size(weights) if strategy == "group" else None
        return cls(bits, group, flag(weights, "symmetric", True), weights.get("actorder") == "group")

    def parts(self, rows: int, columns: int) -> tuple[Part, ...]:
        each, groups = 32 // self.bits, self.groups(columns)
        return (
            Part("weight_packed", (torch.int32,), (rows, -(-columns // each))),
            Part("weight_scale", SCALES, (rows, groups)),
            Part("weight_zero_point", (torch.int32,), (-(-rows // each), groups), needed=not self.symmetric),
            Part("weight_g_idx", (torch.int32, torch.int64), (columns,), needed=self.act_order),
            Part("weight_shape", (torch.int32, torch.int64), (2,), needed=False),
        )

    def codes(self, rows: int, columns: int, tensors: Mapping[str, Tensor]) -> Codes:
        shape = tensors.get("weight_shape")
        if shape is not None and shape.tolist() != [rows, columns]:
            raise ValueError(f"weight_shape must be {[rows, columns]}; got {shape.tolist()}; build the saved model")
        scale, zero = tensors["weight_scale"], tensors.get("weight_zero_point")
        index = tensors.get("weight_g_idx")
        codes = unpack(tensors["weight_packed"].t(), self.bits).t()[:, :columns]
        points = torch.full_like(scale, 2 ** (self.bits - 1), dtype=torch.uint8)
        return Codes(
            codes,
            scale,
            points if zero is None else unpack(zero, self.bits)[:rows],
            None if index is None else order_of(index, self.group),
        )
