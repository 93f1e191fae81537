# SPDX-License-Identifier: Apache-2.0
"""GaLore (arXiv 2403.03507): AdamW in the space of the gradient's largest singular vectors."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from bittern.ops import codebooks, dequantize_4bit, dequantize_blockwise, quantize_4bit, quantize_blockwise
from bittern.optim import _loaded as check
from bittern.optim._low_rank import LowRank, is_low_rank, project, project_back
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options
from bittern.optim._state import StateDict

_BLOCK = 256
"""Entries of a basis that share a scale, as Q-GaLore has it."""
_KEYS = ("projector", "projector_codes", "projector_scales")


class GaLoreAdamW(LowRank):
    """GaLore with AdamW; states `exp_avg`, `exp_avg_sq` of the projected gradient in state_bits.

    B: the `rank` first singular vectors of the smaller side of G, taken anew every update_proj_gap steps;
    R = B G or G B^T; m, v <- Adam's means of R; N = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps);
    p <- p (1 - lr weight_decay) - lr scale B^T N (or N B). Other parameters than matrices with both sides above `rank`
    step as AdamW; rank=None makes that so for all of a group.
    projector_bits: 32, or 8 or 4 for even codes in blocks of 256 (Q-GaLore, arXiv 2407.08296; without its lazy
    updates). The basis is part of the state_dict. An element whose gradient is not finite keeps its value and counts
    as 0. The authors decay weights after the update, by the new ones.
    Projections are torch operations, one matrix at a time. Errors: TypeError for DTensors; ValueError for rounding and
    offload; see `LowBitOptimizer`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        rank: int | None = 128,
        update_proj_gap: int = 200,
        scale: float = 0.25,
        projector_bits: int = 32,
        maximize: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "rank": rank,
            "update_proj_gap": update_proj_gap,
            "scale": scale,
            "projector_bits": projector_bits,
            "maximize": maximize,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        if group["projector_bits"] not in (32, 8, 4):
            raise ValueError(f"GaLoreAdamW: projector_bits must be 32, 8 or 4; got {group['projector_bits']!r}")

    def direction(self, p: Tensor, group: Group, state: StateDict, gradient: Tensor) -> Tensor:
        if not any(key in state for key in _KEYS) or int(state["step"]) % group["update_proj_gap"] == 0:
            for key in _KEYS:
                state.pop(key, None)
            state |= _stored(_singular(gradient, group["rank"]), group["projector_bits"])
        basis = _basis(state, group["rank"], min(p.shape))
        low = self.normalized(p, group, state, project(basis, gradient))
        return float(group["scale"]) * project_back(basis, low, p.shape)

    def take_others(self, subject: str, p: Tensor, group: Group, found: dict[str, Any]) -> StateDict:
        if not is_low_rank(p, group):
            return {}
        shape = group["rank"], min(p.shape)
        if "projector" in found:
            basis = check.check_floats(f"{subject}.projector", found.pop("projector"), p, shape, signed=True)
            return {"projector": basis.to(p.device, torch.float32, copy=True)}
        if not {"projector_codes", "projector_scales"} <= found.keys():
            raise ValueError(f"{subject} has no projector; load a state_dict of GaLoreAdamW with this rank")
        codes = check.check_tensor(f"{subject}.projector_codes", found.pop("projector_codes"), p)
        scales = check.check_absmax(f"{subject}.projector_scales", found.pop("projector_scales"), p)
        count = shape[0] * shape[1]
        sizes = (count, -(-count // 2))
        fits = codes.dtype == torch.uint8 and codes.ndim == 1 and len(codes) in sizes
        if not fits or scales.shape != (-(-count // _BLOCK),):
            raise ValueError(
                f"{subject}.projector_codes must be uint8, a byte or half of one for each of {count} entries, with a "
                f"scale for every {_BLOCK}; got {codes.dtype} {list(codes.shape)} and {list(scales.shape)}"
            )
        return {"projector_codes": codes.to(p.device, copy=True), "projector_scales": scales.to(p.device, copy=True)}


def _singular(gradient: Tensor, rank: int) -> Tensor:
    """The first singular vectors of the smaller side, [rank, smaller side]."""
    scale = gradient.abs().amax().clamp(min=torch.finfo(torch.float32).tiny)  # squares of large ones overflow
    left, _, right = torch.linalg.svd(gradient / scale, full_matrices=False)
    found: Tensor = right[:rank] if gradient.shape[0] >= gradient.shape[1] else left[:, :rank].T
    return found.contiguous()


def _stored(basis: Tensor, bits: int) -> StateDict:
    if bits == 32:
        return {"projector": basis}
    table = codebooks.linear(signed=True, bits=bits).to(basis.device)
    codes, scales = (quantize_4bit if bits == 4 else quantize_blockwise)(basis.flatten(), table, _BLOCK)
    return {"projector_codes": codes, "projector_scales": scales}


def _basis(state: StateDict, rank: int, side: int) -> Tensor:
    """float32 [rank, side]."""
    if "projector" in state:
        basis: Tensor = state["projector"]
        return basis
    codes, scales = state["projector_codes"].contiguous(), state["projector_scales"]
    bits = 8 if len(codes) == rank * side else 4
    table = codebooks.linear(signed=True, bits=bits).to(codes.device)
    if bits == 4:
        return dequantize_4bit(codes, scales, table, _BLOCK, [rank, side])
    return dequantize_blockwise(codes, scales, table, _BLOCK).view(rank, side)
