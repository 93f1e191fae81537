# SPDX-License-Identifier: Apache-2.0
"""Expert convolutions: several weights of signs, of which each sample takes one (2010.03558)."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.estimators import Clip, binarize, straight_through
from bittern.nn.conv import BinaryConv2d
from bittern.start import TorchUniform

REDUCTION = 8
"""Channels over those of the hidden layer of the factors, as in the authors' code."""


class ExpertConv2d(nn.Module):
    """x [batch, in_channels, height, width] -> [batch, out_channels, ...]: each sample has a low-bit weight of its own.

    With m = mean of x over its pixels: p = sigmoid(select(m)) [batch, experts], n the first largest of p,
        y = alpha * conv(sign(x), sign(W_n)) * sigmoid(widen(relu(narrow(m)))),  alpha [out_channels], 1 at the start.
    Backward: sign has 1{|v| <= 1}, of inputs and weights. The choice e, 1 at n and 0 elsewhere, counts as p: with
    W = sum e_k W_k the sample's weight, dp_k = <dL/dW, W_k>. Of W alone W_n is left, which gets dL/dW.
    Start: W as torch's convolutions.

    only_first: the first expert serves all samples, as in the authors' first stages; `expand` then copies it to all.
    Eval mode computes all experts and keeps one, in layers that pack; sums of signs are whole numbers in both modes.
    Differences: where several of p are largest, the code adds their weights. The mask is that of `BNN`.
    Raises: ValueError for fewer than two experts, and outputs that have no eighth.
    Source: arXiv 2010.03558; 1adrianb/expert-binary-networks models/ebconv.py, main.py; the text of the
    paper was not read.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        *,
        experts: int = 4,
        only_first: bool = False,
    ) -> None:
        from bittern.binary import BNN  # the networks of other methods load without all of them

        super().__init__()
        if experts < 2:
            raise ValueError(f"ExpertConv2d: needs at least 2 experts; got {experts}; use a BinaryConv2d for one")
        if out_channels < REDUCTION:
            raise ValueError(f"ExpertConv2d: out_channels must be at least {REDUCTION}; got {out_channels}")
        sizes = (in_channels, out_channels, kernel_size, stride, padding, 1, groups)
        signs = functools.partial(BNN, clip_latent=None)
        made = [BinaryConv2d(*sizes, method=signs) for _ in range(experts)]
        for expert in made:
            TorchUniform()(expert.weight)
        self.experts = nn.ModuleList(made)
        self.select = nn.Linear(in_channels, experts)
        self.narrow = nn.Linear(in_channels, out_channels // REDUCTION, bias=False)
        self.widen = nn.Linear(out_channels // REDUCTION, out_channels, bias=False)
        self.scale = nn.Parameter(torch.ones(out_channels))
        """alpha [out_channels]."""
        self.stride, self.padding, self.groups = stride, padding, groups
        self.only_first = only_first

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3))
        choice = self._choice(mean)
        y = self._chosen_weights(x, choice) if self.training else self._all_of(x, choice)
        factors = torch.sigmoid(self.widen(F.relu(self.narrow(mean))))
        result: Tensor = y * self.scale.view(1, -1, 1, 1) * factors[:, :, None, None]
        return result

    def expand(self) -> None:
        """Give every expert the weight of the first, and samples their choice."""
        first, *others = self._weights()
        with torch.no_grad():
            for other in others:
                other.copy_(first)
        self.only_first = False

    def _weights(self) -> list[Tensor]:
        return [expert.get_parameter("weight") for expert in self.experts]

    def _choice(self, mean: Tensor) -> Tensor:
        """e [batch, experts]."""
        shares = torch.sigmoid(self.select(mean))
        places = torch.arange(len(self.experts), device=mean.device)
        best = torch.zeros_like(shares[:, :1]).long() if self.only_first else shares.argmax(1, keepdim=True)
        picked = (places == best).to(shares.dtype)
        return picked if self.only_first else straight_through(picked, shares)

    def _chosen_weights(self, x: Tensor, choice: Tensor) -> Tensor:
        """One convolution with as many groups as samples, each with its own weight."""
        weights = torch.stack(self._weights())
        batch, shape = len(x), weights.shape[1:]
        own = (choice @ weights.flatten(1)).view(batch * shape[0], *shape[1:])
        signs, inputs = binarize(own, Clip(1.0)), binarize(x, Clip(1.0))
        joined = inputs.reshape(1, batch * x.shape[1], *x.shape[2:])
        y = F.conv2d(joined, signs, None, self.stride, self.padding, groups=batch * self.groups)
        return y.view(batch, shape[0], *y.shape[2:])

    def _all_of(self, x: Tensor, choice: Tensor) -> Tensor:
        """Every expert's product, of which one is left."""
        first, *others = (choice[:, place, None, None, None] * expert(x) for place, expert in enumerate(self.experts))
        result: Tensor = sum(others, first)
        return result
