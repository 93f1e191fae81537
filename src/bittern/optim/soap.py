# SPDX-License-Identifier: Apache-2.0
"""SOAP (arXiv 2409.11321): AdamW in the eigenbasis of Shampoo's preconditioner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from bittern.optim._eigenbasis import SIDES, average, basis_of, begin, sides_in, take, turn
from bittern.optim._layout import STATE_BITS_ATTRIBUTE, layout_for
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, scalar
from bittern.optim._state import StateDict, decoded, store, stored_as
from bittern.optim._transformed import TransformedAdamW


class SOAP(TransformedAdamW):
    """SOAP; states `exp_avg`, `exp_avg_sq` of the gradient in the basis in state_bits, and a basis for each side.

    L, R: running means of G G^T and G^T G by shampoo_beta (None: betas[1]); Q_L, Q_R: their eigenvectors.
    G' = Q_L^T G Q_R; m, v <- Adam's means of G'; N = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps);
    p <- p (1 - lr weight_decay) - lr Q_L N Q_R^T; then L, R move on, and every precondition_frequency steps each
    Q <- QR(L Q), its columns by falling eigenvalues, while m keeps its direction and v goes with its columns.
    The first step of a matrix gives it L, R and their exact eigenvectors and moves nothing; it is not counted.
    Sides longer than max_precond_dim have no basis (Q = I). A tensor of more dimensions is the matrix of its first one
    by all others, as merge_dims=True of the authors has it for convolutions. Vectors, and matrices without a side that
    has a basis, step as AdamW from the first step.
    preconditioner_bits: 32, 8 or 4 for each basis Q and for Q^T L Q, None as for the other states; float32 where they
    have less than min_8bit_size elements. In 4-bit states m, which a turn may take beyond what Adam's means come to
    beside v, is cut there. An element whose gradient is not finite keeps its value and counts as 0.
    The authors decay weights after the update, by the new ones, and add eps to sqrt(v) before its correction. Their
    normalize_grads and precondition_1d are left out. Torch operations, one matrix at a time. Errors: TypeError for
    DTensors; ValueError for rounding and offload, and for a max_precond_dim that changes what has a basis later.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        max_precond_dim: int = 10_000,
        *,
        preconditioner_bits: int | None = None,
        maximize: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "shampoo_beta": shampoo_beta,
            "eps": eps,
            "weight_decay": weight_decay,
            "precondition_frequency": precondition_frequency,
            "max_precond_dim": max_precond_dim,
            "preconditioner_bits": preconditioner_bits,
            "maximize": maximize,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        self.check_adamw(group, "precondition_frequency", "max_precond_dim")
        beta = group["shampoo_beta"]
        if beta is not None and not 0 <= beta < 1:
            raise ValueError(f"SOAP: shampoo_beta must be in [0, 1), or None; got {beta}")
        bits = group["preconditioner_bits"]
        if bits not in (None, 32, 8, 4):
            raise ValueError(f"SOAP: preconditioner_bits must be 32, 8, 4 or None; got {bits!r}")

    def transformed_shape(self, p: Tensor, group: Group) -> tuple[int, int] | None:
        if p.ndim < 2 or p.numel() == 0:
            return None
        shape = p.shape[0], p.numel() // p.shape[0]
        return shape if any(_has_basis(length, group) for length in shape) else None

    def update(self, key: Any, group: Group, params: Sequence[Tensor]) -> None:
        for p in params:
            if self.transformed_shape(p, group) is None and any(sides_in(self.state.get(p, {}))):
                raise self._changed(p, group)
        super().update(key, group, params)

    def direction(self, p: Tensor, group: Group, state: StateDict, gradient: Tensor) -> Tensor | None:
        matrix = gradient.reshape(p.shape[0], -1)
        there = sides_in(state)
        if not any(there):
            if state["step"] > 0:
                raise self._changed(p, group)
            self._begin(p, group, state, matrix)
            return None
        left, right = (
            basis_of(state, side, length) if has else None
            for side, length, has in zip(SIDES, matrix.shape, there, strict=True)
        )
        seen = _times(_adjoint(left), matrix, right).contiguous()
        normalized = self.normalized(p, group, state, seen)
        self._average(p, group, state, seen)
        if int(state["step"]) % group["precondition_frequency"] == 0:
            self._turn(p, group, state, (left, right))
        return _times(left, normalized, _adjoint(right)).view(p.shape)

    def _begin(self, p: Tensor, group: Group, state: StateDict, matrix: Tensor) -> None:
        rest = 1 - _shampoo_beta(group)
        for side, g in zip(SIDES, (matrix, matrix.T), strict=True):
            if _has_basis(len(g), group):
                begin(state, side, rest * (g @ g.T), _bits(p, group, len(g)))

    def _average(self, p: Tensor, group: Group, state: StateDict, seen: Tensor) -> None:
        """Q_L^T G G^T Q_L is the product of G' with itself, for Q_R is orthonormal."""
        for side, g, has in zip(SIDES, (seen, seen.T), sides_in(state), strict=True):
            if has:
                average(state, side, g @ g.T, _shampoo_beta(group), _bits(p, group, len(g)))

    def _turn(self, p: Tensor, group: Group, state: StateDict, bases: Sequence[Tensor | None]) -> None:
        """A power iteration of every side, with m in the new coordinates and v in the new order."""
        like, specs = self.stored_like(p, group), self.states(group)
        floats = decoded(state, like, specs)
        mean, square = floats["exp_avg"], floats["exp_avg_sq"]
        for dim, (side, basis) in enumerate(zip(SIDES, bases, strict=True)):
            if basis is not None:
                order, turned = turn(state, side, basis, _bits(p, group, len(basis)))
                mean = mean @ turned if dim else turned.T @ mean
                square = square.index_select(dim, order)
        layout = layout_for(like, group)
        if layout.logarithmic:  # one ratio m / sqrt(v) far beyond all others would leave them no codes
            most = square.sqrt() * _reach(group["betas"])
            mean = torch.minimum(torch.maximum(mean, -most), most)
        floats = {"exp_avg": mean, "exp_avg_sq": square}
        for name, stored in stored_as(like, floats, specs, layout).items():
            store(state, name, stored)

    def take_others(self, subject: str, p: Tensor, group: Group, found: dict[str, Any]) -> StateDict:
        shape = self.transformed_shape(p, group)
        if shape is None:
            return {}
        there = sides_in(found)
        if not any(there):
            raise ValueError(f"{subject} has no basis; load a state_dict of SOAP with this max_precond_dim")
        taken: StateDict = {}
        for side, length, has in zip(SIDES, shape, there, strict=True):
            taken |= take(subject, side, length, p, found) if has else {}
        return taken

    def _changed(self, p: Tensor, group: Group) -> ValueError:
        return ValueError(
            f"SOAP: a parameter {list(p.shape)} had another max_precond_dim when its states began; got "
            f"{group['max_precond_dim']}; give it the old one, or make a new optimizer"
        )


def _has_basis(length: int, group: Group) -> bool:
    """Whether a side of this length is preconditioned; one of 1 has nothing to turn."""
    return bool(1 < length <= group["max_precond_dim"])


def _shampoo_beta(group: Group) -> float:
    beta = group["shampoo_beta"]
    return float(group["betas"][1] if beta is None else beta)


def _bits(p: Tensor, group: Group, length: int) -> int:
    """Of the preconditioner of a side."""
    bits = group["preconditioner_bits"]
    if bits is None:
        bits = getattr(p, STATE_BITS_ATTRIBUTE, group["state_bits"])
    return 32 if length * length < group["min_8bit_size"] else int(bits)


def _reach(betas: Sequence[Number]) -> float:
    """The largest |m| / sqrt(v) that Adam's means come to, by Cauchy and Schwarz; a float's largest where none is."""
    beta1, beta2 = (float(scalar(beta)) for beta in betas)
    if beta1**2 >= beta2:
        return torch.finfo(torch.float32).max
    return (1 - beta1) / math.sqrt((1 - beta2) * (1 - beta1**2 / beta2))


def _adjoint(basis: Tensor | None) -> Tensor | None:
    return None if basis is None else basis.T


def _times(left: Tensor | None, matrix: Tensor, right: Tensor | None) -> Tensor:
    """left matrix right, None being the identity."""
    product = matrix if left is None else left @ matrix
    return product if right is None else product @ right
