# SPDX-License-Identifier: Apache-2.0
"""Products of bits of one node: of two planes, and the sum of those of all planes."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.kinds.bits import Planes
from bittern.deploy.kinds.kind import Step, integer, integers, pair
from bittern.deploy.kinds.node_codes import input_code, paddings, weight_factors
from bittern.deploy.program import Node


def runner(node: Node, words: Tensor, epilogue: Tensor | None, device: torch.device, pad_value: int) -> Step:
    """The product of a plane of bits with one plane of weights, words [out, taps, words of a group], on one device.

    pad_value: of that plane of bits. -> int32, or float32 where there is an epilogue.
    """
    channels, groups = integer(node, "channels"), integer(node, "groups")
    on_cpu = device.type == "cpu"
    if integer(node, "dims") == 0:
        if on_cpu:
            return ops.PreparedMatmul(words[:, 0], channels, epilogue)
        b = words[:, 0].to(device)
        return lambda x: ops.binary_matmul(x, b, channels, epilogue)
    kernel = pair(integers(node, "kernel"), 1)
    stride = pair(integers(node, "stride"), 1)
    padding = pair(integers(node, "padding"), 0)
    dilation = pair(integers(node, "dilation"), 1)
    w = words.reshape(words.shape[0], *kernel, words.shape[-1])
    if on_cpu:
        return ops.PreparedConv2d(w, channels, stride, padding, dilation, groups, pad_value, epilogue)
    w = w.to(device)
    return lambda x: ops.binary_conv2d(x, w, channels, stride, padding, dilation, groups, pad_value, epilogue)


class PlaneSum:
    """sum_i sum_j g_i f_j product(B_j, W_i), int32, over the planes W_i of the weight and B_j of the input."""

    def __init__(self, node: Node, words: list[Tensor], device: torch.device) -> None:
        padded = paddings(node)
        runners = [{p: runner(node, plane, None, device, p) for p in set(padded)} for plane in words]
        self._pairs = [
            (i, run[p], f * g)
            for f, run in zip(weight_factors(node), runners, strict=True)
            for i, (g, p) in enumerate(zip(input_code(node).plane_factors, padded, strict=True))
        ]

    def __call__(self, planes: Planes) -> Tensor:
        parts = [cast(Tensor, run(planes[i])) * factor for i, run, factor in self._pairs]
        return torch.stack(parts).sum(0, dtype=torch.int32)
