# SPDX-License-Identifier: Apache-2.0
"""The interface of methods that give the two products of attention operands of one bit.

The arithmetic (docs/numerics.md, "Attention"), with q, k, v quantized to signs of one scale each:

    acc    = q.values k.values^T                                an exact integer
    scores = acc * (q.scale * k.scale * head_dim^-0.5) + mask   of what a mask hides, only the place is told
    bits   = attend(scores, hidden)                             {0, 1} with one scale; 0 wherever hidden
    y      = (bits.values v.values) * (bits.scale * v.scale)    the product again an exact integer

So a place that is hidden changes nothing, and a row of which everything is hidden gives 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bittern import ops
from bittern._autocast import in_own_precision
from bittern.ops.sign_products import LEAST_COUNTED
from bittern.quantizer import Quantized


class AttentionMethod(nn.Module, ABC):
    """How queries, keys, values and what is attended to become bits. Subclasses take (embed_dim, num_heads) first.

    Scales have 0 dimensions; None means 1.
    """

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                f"{type(self).__name__}: num_heads must divide embed_dim; got embed_dim={embed_dim}, "
                f"num_heads={num_heads}"
            )
        self.embed_dim, self.num_heads = embed_dim, num_heads

    @in_own_precision
    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """q [batch, length, embed_dim], k and v [batch, source, embed_dim] -> mixed, like q, and the weights.

        mask: broadcastable to the weights [batch, heads, length, source]; bool (True: not attended to) or floating
        point (added; -inf: not attended to).
        """
        q_q, k_q, v_q = self.query(q), self.key(k), self.value(v)
        left, right, values = (_heads(x.values, self.num_heads) for x in (q_q, k_q, v_q))
        hidden, added = _parts(mask)
        scale, factor = _times(q_q.scale, k_q.scale), left.shape[-1] ** -0.5
        scores = product_of_signs(left, right) * (factor if scale is None else scale * factor)
        bits = self.attend(scores if added is None else scores + added, hidden, dropout)
        mixed = _attended(bits.values, values)
        scale = _times(bits.scale, v_q.scale)
        mixed = mixed if scale is None else mixed * scale
        weights = bits.values if bits.scale is None else bits.values * bits.scale
        return mixed.transpose(1, 2).reshape(q.shape), weights

    @abstractmethod
    def query(self, q: Tensor) -> Quantized:
        """Signs of queries [batch, length, embed_dim]."""

    @abstractmethod
    def key(self, k: Tensor) -> Quantized:
        """Signs of keys [batch, source, embed_dim]."""

    @abstractmethod
    def value(self, v: Tensor) -> Quantized:
        """Signs of values [batch, source, embed_dim]."""

    @abstractmethod
    def attend(self, scores: Tensor, hidden: Tensor | None, dropout: float) -> Quantized:
        """{0, 1} of scores [batch, heads, length, source]; 0 where `hidden`, bool and broadcastable, is True.

        dropout: the share that becomes 0, drawn from torch's default generator.
        """

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}"


Attended = Callable[[int, int], AttentionMethod]
"""An `AttentionMethod` class, or a partial of one: called with (embed_dim, num_heads)."""


def made_by(owner: str, attention: Attended, embed_dim: int, num_heads: int) -> AttentionMethod:
    """The method that `attention` makes for a module. Raises: TypeError."""
    method = attention(embed_dim, num_heads) if callable(attention) else attention
    if not isinstance(method, AttentionMethod):
        raise TypeError(
            f"{owner}: attention must be an AttentionMethod class, as bittern.binary.attention.BiAttention, or a "
            f"partial of one; got {attention!r}"
        )
    return method


def product_of_signs(a: Tensor, b: Tensor) -> Tensor:
    """a [..., m, k] b [..., n, k]^T of signs -> [..., m, n]: of bits where none asks for a gradient and they are many.

    The same numbers either way: all sums are integers that the type holds.
    """
    return ops.sign_products(a, b) if _is_counted(a, b) else a @ b.transpose(-2, -1)


def _attended(bits: Tensor, signs: Tensor) -> Tensor:
    """bits [..., m, n] of {0, 1} times signs [..., n, k]: half of what signs 2 bits - 1 give, and the signs' sum."""
    turned = signs.transpose(-2, -1)
    if not _is_counted(bits, turned):
        return bits @ signs
    return (ops.sign_products(bits - 0.5, turned) + signs.sum(-2, keepdim=True)) * 0.5


def _is_counted(a: Tensor, b: Tensor) -> bool:
    """Whether bits are counted; sizes that a call chooses are left to the op, which looks at every call."""
    differentiated = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    if a.dtype != torch.float32 or (differentiated and not torch.compiler.is_exporting()):
        return False
    sizes = (a.shape[-2], b.shape[-2], a.shape[-1])
    known = [size for size in sizes if isinstance(size, int)]
    return len(known) < len(sizes) or known[0] * known[1] * known[2] >= LEAST_COUNTED


def _heads(x: Tensor, heads: int) -> Tensor:
    """[batch, length, embed_dim] -> [batch, heads, length, head_dim]."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(1, 2)


def _parts(mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """What a mask hides, and what it adds elsewhere."""
    if mask is None or mask.dtype == torch.bool:
        return mask, None
    hidden = mask == float("-inf")
    return hidden, mask.masked_fill(hidden, 0.0)


def _times(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a * b
