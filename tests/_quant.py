# SPDX-License-Identifier: Apache-2.0
"""The methods whose weights alone have few bits, by name, with the variants whose arithmetic differs.

Methods whose inputs have bits too, or are rounded, have tests of their own.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from bittern import quant
from bittern.quant import TWN, ParetoQ
from bittern.quantizer import LayerShape, Method, Quantizer, RealCode, weight_terms

METHODS: dict[str, Method] = {
    cls.__name__: cls
    for cls in quant.ALL
    if isinstance(code := cls(LayerShape((2, 3))).input_code(), RealCode) and not code.rounded
} | {
    "TWN-filter": partial(TWN, scale="filter"),
    **{f"ParetoQ-{levels}": partial(ParetoQ, levels=levels) for levels in (3, 4, 8, 16)},
}


def randomize(method: Quantizer) -> None:
    """Give every learned scale and factor a value of its own, so that none can be forgotten unnoticed."""
    for p in method.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    if isinstance(method, ParetoQ):
        method.started.fill_(True)


def real_weight(method: Quantizer, w: Tensor) -> Tensor:
    """The weight that a method's terms stand for."""
    return sum((t.values if t.scale is None else t.values * t.scale for t in weight_terms(method, w)), torch.zeros(()))


def weight_gradients(method: Quantizer, w: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """Gradients of w and of the method's parameters, where that of the real weight is g."""
    w = w.clone().requires_grad_()
    found = torch.autograd.grad(real_weight(method, w), (w, *method.parameters()), g, allow_unused=True)
    return tuple(torch.zeros(()) if one is None else one for one in found)
