# SPDX-License-Identifier: Apache-2.0
"""What the tests of the binary methods share: the methods by name, and gradients as the papers state them."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bittern import binary
from bittern.binary import EWGS, HORQ, ABCNet, AdaBin, BiT, BMXNet, DoReFa, XNORNet, XNORNetPlusPlus
from bittern.quantizer import InputScale, LayerShape, Method, Quantizer

METHODS: dict[str, Method] = {cls.__name__: cls for cls in binary.ALL} | {
    "DoReFa-w2a2": partial(DoReFa, weight_bits=2, input_bits=2),
    "DoReFa-w3a3": partial(DoReFa, weight_bits=3, input_bits=3),
    "DoReFa-w4a4g6": partial(DoReFa, weight_bits=4, input_bits=4, gradient_bits=6),
    "XNORNet-per-sample": partial(XNORNet, input_scale=InputScale.PER_SAMPLE, gradient="full", centering="per_filter"),
    "XNORNet-released": partial(
        XNORNet,
        input_scale=InputScale.NONE,
        gradient="released",
        input_gradient="released",
        centering="per_tap_in_channel",
        clip_latent=1.0,
    ),
    "HORQ-3-per-sample": partial(HORQ, order=3, input_scale=InputScale.PER_SAMPLE),
    "ABCNet-per-filter": partial(ABCNet, bases=2, activations=1, per_filter=True),
    "AdaBin-released": partial(AdaBin, offset="released"),
    "XNORNetPlusPlus-1": partial(XNORNetPlusPlus, case=1),
    "XNORNetPlusPlus-2": partial(XNORNetPlusPlus, case=2),
    "XNORNetPlusPlus-3": partial(XNORNetPlusPlus, case=3),
    "BMXNet-w2a3": partial(BMXNet, weight_bits=2, input_bits=3),
    "EWGS-w2a3": partial(EWGS, weight_bits=2, input_bits=3),
    "BiT-unsigned": partial(BiT, inputs="unsigned"),
}
"""Every method with its defaults, and the variants whose arithmetic differs."""

SPECIAL = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 0.5, -0.5, 2.5, -2.5, float("inf"), float("-inf")])
"""Where a sign, a mask or a rounding could go wrong."""


def scaled_weight_gradient(method: Quantizer, w: Tensor, g: Tensor) -> Tensor:
    """dL/dw when the gradient of the scaled weight, values * scale, is g."""
    w = w.clone().requires_grad_()
    q = method.weight(w)
    real = q.values if q.scale is None else q.values * q.scale
    (found,) = torch.autograd.grad(real, w, g)
    return found


def scaled_input_gradient(method: Quantizer, x: Tensor, g: Tensor) -> Tensor:
    """dL/dx when the gradient of the quantized input, values (* its constant scale), is g."""
    x = x.clone().requires_grad_()
    q = method.input(x)
    real = q.values if q.scale is None or q.scale.ndim else q.values * q.scale
    (found,) = torch.autograd.grad(real, x, g)
    return found


def shape_of(w: Tensor, groups: int = 1) -> LayerShape:
    return LayerShape(tuple(w.shape), groups)
