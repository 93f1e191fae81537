# SPDX-License-Identifier: Apache-2.0
"""Multi-head attention with four projections that are layers of their own, so that each can become low-bit."""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.attention_method import Attended, made_by
from bittern.nn._check import check_tensor

OWNER = "MultiheadAttention"

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


class MultiheadAttention(nn.Module):
    """Attention of several heads, as torch.nn.MultiheadAttention computes it, whose projections are called as layers.

    query [length, batch, embed_dim], key [source, batch, kdim], value [source, batch, vdim] (with `batch_first` the
    batch comes first; without a batch each has two dimensions) -> output like query, and the weights
    [batch, length, source], the mean over heads, or [batch, heads, length, source], or None without `need_weights`.

        head(q, k, v) = dropout(softmax(q k^T / sqrt(head_dim) + mask)) v,   output = out_proj(concat heads)

    q_proj, k_proj, v_proj and out_proj are nn.Linear; any module of the same sizes may take the place of each. The
    products between them stay real. key_padding_mask: [batch, source]; attn_mask: [length, source] or
    [batch * heads, length, source]; bool (True: not attended to) or floating point (added).
    attention: a method that gives both products operands of one bit, as `bittern.binary.attention.BiAttention`;
    `bittern.attention_method` has the arithmetic. It may be set later, too: `module.attention = method(64, 4)`.
    Differences: no bias_k and bias_v, no add_zero_attn. A state_dict of torch's (in_proj_weight) is taken too.
    Errors: ValueError for sizes and masks that do not fit, and is_causal without attn_mask.
    Reference: Attention Is All You Need (arXiv:1706.03762).
    """

    in_proj_weight: None = None
    in_proj_bias: None = None
    """None, as torch's where there is no such parameter: so the encoder layers of torch call this module."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        attention: Attended | None = None,
    ) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: num_heads must divide embed_dim; got embed_dim={embed_dim}, num_heads={num_heads}"
            )
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.dropout, self.batch_first = dropout, batch_first
        self.q_proj: nn.Module = nn.Linear(embed_dim, embed_dim, bias)
        self.k_proj: nn.Module = nn.Linear(self.kdim, embed_dim, bias)
        self.v_proj: nn.Module = nn.Linear(self.vdim, embed_dim, bias)
        self.out_proj: nn.Module = nn.Linear(embed_dim, embed_dim, bias)
        self.attention = None if attention is None else made_by("MultiheadAttention", attention, embed_dim, num_heads)
        self.reset_parameters()

    @property
    def _qkv_same_embed_dim(self) -> bool:
        """Asked by the encoder layers of torch."""
        return self.kdim == self.vdim == self.embed_dim

    def reset_parameters(self) -> None:
        """Draw the projections as torch's attention does: Glorot's for queries, keys and values, biases 0."""
        # one weight [3 embed_dim, embed_dim] where the sizes are the same, three otherwise
        together = (3 + 1) / 2 if self._qkv_same_embed_dim else 1.0
        for name in PROJECTIONS:
            layer = self.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            if name != "out_proj":
                nn.init.xavier_uniform_(layer.weight, gain=together**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    @classmethod
    def from_torch(cls, attention: nn.MultiheadAttention) -> Self:
        """The same attention, with copies of the weights of `attention`. Raises: ValueError naming what it lacks."""
        problem = why_not(attention)
        if problem:
            raise ValueError(f"MultiheadAttention: {problem}")
        old = attention
        sizes = (old.embed_dim, old.num_heads, old.dropout, old.in_proj_bias is not None, old.kdim, old.vdim)
        with torch.device("meta"):  # draws no random numbers
            new = cls(*sizes, batch_first=old.batch_first)
        new.to(dtype=old.out_proj.weight.dtype).to_empty(device=old.out_proj.weight.device)
        new.load_state_dict(old.state_dict())
        trains = {name: parameter.requires_grad for name, parameter in old.named_parameters()}
        for name, parameter in new.named_parameters():
            parameter.requires_grad_(next(trains[other] for other in _names_in_torch(name) if other in trains))
        return new.train(old.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The output and the weights. is_causal: a promise that attn_mask is causal; the mask itself is what counts."""
        if is_causal and attn_mask is None:
            raise ValueError("MultiheadAttention: is_causal says of attn_mask that it is causal; pass the mask too")
        self._check(query, key, value)
        batched, across = query.ndim == BATCHED, not self.batch_first and query.ndim == BATCHED
        operands = [x.transpose(0, 1) if across else x for x in (query, key, value)]
        operands = [x if batched else x.unsqueeze(0) for x in operands]
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (project(x) for project, x in zip(projections, operands, strict=True))
        if key_padding_mask is not None and not batched:
            key_padding_mask = key_padding_mask.unsqueeze(0)
        mask = _merged(attn_mask, key_padding_mask, (q.shape[0], self.num_heads, q.shape[1], k.shape[1]), q)
        mixed, weights = self._mixed(q, k, v, mask, need_weights)
        y = self.out_proj(mixed)
        y = y.transpose(0, 1) if across else y
        if weights is not None and average_attn_weights:
            weights = weights.mean(dim=1)
        if batched:
            return y, weights
        return y.squeeze(0), None if weights is None else weights.squeeze(0)

    def _mixed(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """What is attended to, [batch, length, embed_dim], and the weights where they are asked for."""
        dropout = self.dropout if self.training else 0.0
        if self.attention is not None:
            mixed, weights = self.attention(q, k, v, mask, dropout)
            return mixed, weights if need_weights else None
        q, k, v = self._heads(q), self._heads(k), self._heads(v)
        if not need_weights:
            return F.scaled_dot_product_attention(q, k, v, mask, dropout).transpose(1, 2).flatten(2), None
        scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
        weights = F.dropout(torch.softmax(scores if mask is None else scores + mask, dim=-1), dropout)
        return (weights @ v).transpose(1, 2).flatten(2), weights

    def _heads(self, x: Tensor) -> Tensor:
        """[batch, length, embed_dim] -> [batch, heads, length, head_dim]."""
        return x.reshape(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

    def _check(self, *operands: Tensor) -> None:
        sizes = (self.embed_dim, self.kdim, self.vdim)
        for name, x, size in zip(("query", "key", "value"), operands, sizes, strict=True):
            check_tensor("MultiheadAttention", x)
            if x.ndim not in (BATCHED - 1, BATCHED) or x.ndim != operands[0].ndim or x.shape[-1] != size:
                raise ValueError(
                    f"MultiheadAttention: {name} must be [length, {size}] or, like the others, in batches of it; "
                    f"got {list(x.shape)}"
                )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """As torch, and what torch's attention keeps in one parameter is taken apart."""
        _take_apart(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, dropout={self.dropout}, batch_first={self.batch_first}"


BATCHED = 3
"""Dimensions of an input with a batch."""


def why_not(attention: nn.MultiheadAttention) -> str:
    """Why `MultiheadAttention` cannot compute what `attention` does; "" when it can."""
    if type(attention) is not nn.MultiheadAttention:
        return f"class {type(attention).__name__} may compute something else than nn.MultiheadAttention"
    if attention.bias_k is not None or attention.bias_v is not None:
        return "add_bias_kv=True has no counterpart"
    if attention.add_zero_attn:
        return "add_zero_attn=True has no counterpart"
    return ""


def _merged(attn_mask: Tensor | None, padding: Tensor | None, shape: tuple[int, ...], like: Tensor) -> Tensor | None:
    """What is added to the scores, broadcastable to `shape` [batch, heads, length, source]. Raises: ValueError."""
    batch, heads, length, source = shape
    masks = []
    if attn_mask is not None:
        if tuple(attn_mask.shape) not in ((length, source), (batch * heads, length, source)):
            raise ValueError(
                f"MultiheadAttention: attn_mask must be [{length}, {source}] or [{batch * heads}, {length}, {source}]; "
                f"got {list(attn_mask.shape)}"
            )
        added = _added("attn_mask", attn_mask, like)
        masks.append(added if added.ndim == 2 else added.reshape(shape))
    if padding is not None:
        if tuple(padding.shape) != (batch, source):
            raise ValueError(
                f"MultiheadAttention: key_padding_mask must be [{batch}, {source}]; got {list(padding.shape)}"
            )
        masks.append(_added("key_padding_mask", padding, like)[:, None, None, :])
    return sum(masks[1:], masks[0]) if masks else None


def _added(name: str, mask: Tensor, like: Tensor) -> Tensor:
    """A mask of bool as what is added to scores: -inf where it is True."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))
    if not mask.is_floating_point():
        raise TypeError(f"MultiheadAttention: {name} must be bool or floating point; got {mask.dtype}")
    return mask.to(like.dtype)


def _names_in_torch(name: str) -> tuple[str, ...]:
    """Parameters of torch's attention that hold, or are, the parameter `name` of ours."""
    layer, _, kind = name.rpartition(".")
    return name, f"in_proj_{kind}", f"{layer}_{kind}"


def _take_apart(state: dict[str, Any], prefix: str) -> None:
    """Give the parameters of torch's attention in `state` the names that they have here."""
    for kind in ("weight", "bias"):
        together = state.pop(f"{prefix}in_proj_{kind}", None)
        parts = [None] * 3 if together is None else together.chunk(3)
        for letter, part in zip("qkv", parts, strict=True):
            part = state.pop(f"{prefix}{letter}_proj_{kind}", part)
            if part is not None:
                state[f"{prefix}{letter}_proj.{kind}"] = part
