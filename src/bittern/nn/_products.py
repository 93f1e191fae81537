# SPDX-License-Identifier: Apache-2.0
"""Multiply-accumulates of the matrix products and convolutions that torch really runs, whatever called them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bittern import ops

aten = torch.ops.aten


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells `note` of the multiply-accumulates of each product that runs inside."""

    def __init__(self, note: Callable[[int], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.note = note

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # nothing in here is compiled, and saying so by torch's default would import all of torch._dynamo
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rule = _RULES.get(func.overloadpacket)
        if rule is None and func is not torch.ops.prim.device.default:
            # a function made of others, which inference mode hands over whole
            with self:
                result = func.decompose(*args, **kwargs)
                if result is not NotImplemented:
                    return result
        result = func(*args, **kwargs)
        if rule is not None:
            self.note(rule(result, *args))
        return result


def _convolution(y: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    """rest: bias, stride, padding, dilation, transposed, ... Taps on the padding count."""
    transposed = rest[4] if len(rest) > 4 else False
    return (x if transposed else y).numel() * math.prod(weight.shape[1:])


def _attention(y: Any, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> int:
    """q k^T and the product with v, for [batch, heads, length, features]."""
    return q.shape[:-1].numel() * k.shape[-2] * (q.shape[-1] + v.shape[-1])


def _trilinear(y: Tensor, x1: Tensor, weight: Tensor, *rest: Any) -> int:
    """nn.Bilinear: each output is x1^T W x2, that is in1 * in2 products with W and in1 with x1."""
    out, _, in2 = weight.shape[-3:]
    return x1.numel() * out * (in2 + 1)


def _recurrent(y: Any, x: Tensor, from_input: Tensor, from_state: Tensor, *rest: Any) -> int:
    """oneDNN's LSTM: x [steps, batch, features] times one weight, the state times the other, at each step."""
    return x.shape[:-1].numel() * (from_input.numel() + from_state.numel())


def _inner(y: Tensor, a: Tensor, *rest: Any) -> int:
    """A product of `a` [..., k], where each element of `y` adds up k."""
    return y.numel() * a.shape[-1]


def _inner_added(y: Tensor, added: Tensor, a: Tensor, *rest: Any) -> int:
    return _inner(y, a)


_RULES: dict[Any, Callable[..., int]] = {
    aten.mm: _inner,
    aten.bmm: _inner,
    aten.mv: _inner,
    aten.dot: _inner,
    aten._int_mm: _inner,
    aten._scaled_mm: _inner,
    aten.linear: _inner,
    aten.addmm: _inner_added,
    aten.baddbmm: _inner_added,
    aten.addbmm: lambda y, added, a, *rest: a.shape[0] * _inner(y, a),
    aten.addmv: _inner_added,
    ops.sign_products.overload.overloadpacket: _inner,
    aten.convolution: _convolution,
    aten._trilinear: _trilinear,
    aten.mkldnn_rnn_layer: _recurrent,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten._scaled_dot_product_efficient_attention: _attention,
    aten._scaled_dot_product_cudnn_attention: _attention,
}
"""Products that each function computes: (result, *arguments) -> multiply-accumulates."""
