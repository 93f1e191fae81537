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
_SIMILARITIES = 5
"""Of bases in succession, over which Q-GaLore takes the mean."""
_KEYS = ("projector", "projector_codes", "projector_scales")


class GaLoreAdamW(LowRank):
    """GaLore with AdamW; states `exp_avg`, `exp_avg_sq` of the projected gradient in state_bits.

    B: the `rank` first singular vectors of the smaller side of G, taken anew every update_proj_gap steps;
    R = B G or G B^T; m, v <- Adam's means of R; N = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps);
    p <- p (1 - lr weight_decay) - lr scale B^T N (or N B). Other parameters than matrices with both sides above `rank`
    step as AdamW; rank=None makes that so for all of a group.
    projector_bits: 32, or 8 or 4 for even codes in blocks of 256 (Q-GaLore, arXiv 2407.08296).
    lazy: a threshold such as Q-GaLore's 0.4, for each matrix by itself: where |cos| between the first vectors of a
    basis and the next one is on average at least that over the last five pairs, the gap doubles from there on.
    The basis, its gap and similarities are part of the state_dict. An element whose gradient is not finite keeps its
    value and counts as 0. The authors decay weights after the update, by the new ones; those of Q-GaLore take the
    cosine before rounding and with its sign, which singular vectors do not have, and multiples of gaps as steps.
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
        lazy: float | None = None,
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
            "lazy": lazy,
            "maximize": maximize,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        if group["projector_bits"] not in (32, 8, 4):
            raise ValueError(f"GaLoreAdamW: projector_bits must be 32, 8 or 4; got {group['projector_bits']!r}")
        if group["lazy"] is not None and not 0 <= group["lazy"] <= 1:
            raise ValueError(f"GaLoreAdamW: lazy must be a cosine from 0 to 1, or None; got {group['lazy']!r}")

    def direction(self, p: Tensor, group: Group, state: StateDict, gradient: Tensor) -> Tensor:
        if _is_due(state, group):
            before = _basis(state, group["rank"], min(p.shape))[0] if _has_basis(state) else None
            for key in _KEYS:
                state.pop(key, None)
            state |= _stored(_singular(gradient, group["rank"]), group["projector_bits"])
            if group["lazy"] is not None:
                _plan(state, group, before, _basis(state, group["rank"], min(p.shape))[0])
        basis = _basis(state, group["rank"], min(p.shape))
        low = self.normalized(p, group, state, project(basis, gradient))
        return float(group["scale"]) * project_back(basis, low, p.shape)

    def take_others(self, subject: str, p: Tensor, group: Group, found: dict[str, Any]) -> StateDict:
        if not is_low_rank(p, group):
            return {}
        shape = group["rank"], min(p.shape)
        return _take_plan(subject, p, group, found) | self._take_basis(subject, p, shape, found)

    def _take_basis(self, subject: str, p: Tensor, shape: tuple[int, int], found: dict[str, Any]) -> StateDict:
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


def _has_basis(state: StateDict) -> bool:
    return any(key in state for key in _KEYS)


def _is_due(state: StateDict, group: Group) -> bool:
    """Whether this step, not counted yet, takes a new basis."""
    if not _has_basis(state):
        return True
    step = int(state["step"])
    if group["lazy"] is None or "projector_gap" not in state:
        return bool(step % group["update_proj_gap"] == 0)
    return step >= int(state["projector_step"] + state["projector_gap"])


def _plan(state: StateDict, group: Group, before: Tensor | None, first: Tensor) -> None:
    """Notes the similarity of the first vectors of the last basis and this one, and how long this one stays."""
    gap: Tensor = state.get("projector_gap", torch.tensor(float(group["update_proj_gap"])))
    found = state.get("projector_similarities", torch.empty(0))
    if before is not None:
        cosine = torch.nn.functional.cosine_similarity(before, first, dim=0).abs().cpu()
        found = torch.cat([found, cosine.view(1)])[-_SIMILARITIES:]
    if len(found) == _SIMILARITIES and found.mean() >= group["lazy"]:
        gap = (2 * gap).clamp(max=check.MOST_STEPS)
    state |= {"projector_gap": gap, "projector_step": state["step"].clone(), "projector_similarities": found}


def _take_plan(subject: str, p: Tensor, group: Group, found: dict[str, Any]) -> StateDict:
    """The lazy updates of a saved state; without the option they are dropped, for nothing would go on with them."""
    taken: StateDict = {}
    for name in ("projector_gap", "projector_step"):
        if name in found:
            value = check.counter(subject, name, found.pop(name), check.MOST_STEPS)
            taken[name] = value
    if "projector_similarities" in found:
        value = found.pop("projector_similarities")
        count = min(_SIMILARITIES, value.numel()) if isinstance(value, Tensor) else _SIMILARITIES
        taken["projector_similarities"] = check.check_floats(
            f"{subject}.projector_similarities", value, p, (count,), signed=False
        ).to("cpu", torch.float32, copy=True)
    if taken and len(taken) < 3:
        raise ValueError(f"{subject} has only {', '.join(taken)} of its lazy updates; save and load states whole")
    return taken if group["lazy"] is not None else {}


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
