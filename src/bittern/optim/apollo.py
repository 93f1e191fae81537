# SPDX-License-Identifier: Apache-2.0
"""APOLLO (arXiv 2412.05270): SGD scaled, per channel or per matrix, as AdamW would in a random space."""

from __future__ import annotations

import math
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from bittern.optim import _loaded as check
from bittern.optim._low_rank import LowRank, is_low_rank, project
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options
from bittern.optim._state import StateDict

_GROWTH = 1.01
"""Of the norm of an update from step to step, at most (equation 4)."""
_TINY = 1e-8
"""Added to norms that divide, as the authors do."""
_PRIME = 1_000_003
"""From the seed of a matrix to that of the next."""


class APOLLOAdamW(LowRank):
    """APOLLO; states `exp_avg`, `exp_avg_sq` of the projected gradient in state_bits, and the norm of an update.

    B: normal numbers with variance 1 / rank, drawn anew every update_proj_gap steps from seed, the number of the
    parameter and of the draw; R = B G or G B^T; N as `GaLoreAdamW`; s = |N| / |R| for every channel of the larger side
    (scale_type "channel") or for the matrix ("tensor"); U = s G, divided by what its norm exceeds 1.01 times the last
    one's by (a norm of 0 limits nothing: the authors' next steps would start at 1e-8);
    p <- p (1 - lr weight_decay) - lr sqrt(scale) U. APOLLO-Mini is rank=1, scale=128, scale_type="tensor".
    Other parameters than matrices with both sides above `rank` step as AdamW; rank=None makes that so for all.
    No state_dict holds the basis, for seed and step give it again; in memory it stays from draw to draw, float32.
    Elements, differences, errors: as `GaLoreAdamW`.
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
        scale: float = 1.0,
        scale_type: Literal["channel", "tensor"] = "channel",
        seed: int = 0,
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
            "scale_type": scale_type,
            "seed": seed,
            "maximize": maximize,
        }
        super().__init__(params, defaults, options)
        self._bases: dict[Tensor, tuple[tuple[Any, ...], Tensor]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._bases = {}

    def check_group(self, group: Group) -> None:
        super().check_group(group)
        if group["scale_type"] not in ("channel", "tensor"):
            raise ValueError(f'APOLLOAdamW: scale_type must be "channel" or "tensor"; got {group["scale_type"]!r}')
        if not isinstance(group["seed"], int) or group["seed"] < 0:
            raise ValueError(f"APOLLOAdamW: seed must be a whole number from 0; got {group['seed']!r}")

    def direction(self, p: Tensor, group: Group, state: StateDict, gradient: Tensor) -> Tensor:
        draw = int(state["step"]) // group["update_proj_gap"]
        basis = self._basis(p, group, draw)
        low = project(basis, gradient)
        axis = None
        if group["scale_type"] == "channel":
            axis = 1 if p.shape[0] >= p.shape[1] else 0
        found = self.normalized(p, group, state, low)
        new, old = (torch.linalg.vector_norm(x, dim=axis, keepdim=True) for x in (found, low))
        scaled: Tensor = gradient * (new / (old + _TINY))
        norm = torch.linalg.vector_norm(scaled)
        if "scaled_norm" in state:
            before = state["scaled_norm"]
            excess = (norm / (before + _TINY)).clamp(min=_GROWTH) / _GROWTH
            excess = torch.where((before > 0) & norm.isfinite(), excess, 1.0)
            scaled, norm = scaled / excess, norm / excess
        state["scaled_norm"] = torch.where(norm.isfinite(), norm, 0.0)
        factor: float = math.sqrt(group["scale"])
        return scaled * factor

    def take_others(self, subject: str, p: Tensor, group: Group, found: dict[str, Any]) -> StateDict:
        if not is_low_rank(p, group):
            return {}
        if "scaled_norm" not in found:
            raise ValueError(f"{subject} has no scaled_norm; load a state_dict of APOLLOAdamW with this rank")
        norm = check.check_floats(f"{subject}.scaled_norm", found.pop("scaled_norm"), p, (), signed=False)
        return {"scaled_norm": norm.to(p.device, torch.float32, copy=True)}

    def _basis(self, p: Tensor, group: Group, draw: int) -> Tensor:
        """[rank, smaller side], drawn on the CPU, so that every device has the same; kept until another one is due."""
        seed = (group["seed"] + _PRIME * (self.number_of(p) + 1) + draw * 2**32) % 2**63
        due = (seed, group["rank"], min(p.shape), p.device)
        known, basis = self._bases.get(p, (None, None))
        if basis is None or known != due:
            numbers = torch.randn(group["rank"], min(p.shape), generator=torch.Generator().manual_seed(seed))
            basis = (numbers / math.sqrt(group["rank"])).to(p.device)
            self._bases[p] = due, basis
        return basis
