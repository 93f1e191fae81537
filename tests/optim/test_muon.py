# SPDX-License-Identifier: Apache-2.0
"""Muon: against torch.optim.Muon, its direction against the singular value decomposition, its errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bittern import optim
from bittern.optim._owners import rounds_of
from bittern.optim.muon import orthogonalize
from optim._training import parameters, relative_error, train

SHAPES = ((70, 90), (90, 50), (64, 64))


def _moved(make: Any) -> list[torch.Tensor]:
    params = parameters(SHAPES)
    start = [p.detach().clone() for p in params]
    train(make(params), params, 10)
    return [p.detach() - s for p, s in zip(params, start, strict=True)]


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
@pytest.mark.parametrize("options", [{}, {"nesterov": False}, {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 3}])
def test_it_follows_torch_optim(options: dict[str, Any]) -> None:
    theirs = _moved(lambda p: torch.optim.Muon(p, lr=1e-2, **options))
    eps = torch.finfo(torch.bfloat16).eps  # the iterations are in bfloat16 and amplify the roundings of their input
    for bits, limit in ((32, 2 * eps), (8, 0.05), (4, 0.4)):
        ours = _moved(lambda p, bits=bits: optim.Muon(p, lr=1e-2, state_bits=bits, min_8bit_size=0, **options))
        assert relative_error(ours, theirs) < limit, bits


@pytest.mark.parametrize("shape", SHAPES)
def test_the_direction_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = torch.linalg.svdvals(orthogonalize(x, (3.4445, -4.7750, 2.0315), 5, 1e-7))
    assert found.max() < 1.3  # the published coefficients leave them between about 0.7 and 1.2
    assert found.median() > 0.6


def test_every_process_owns_one_matrix_a_round_the_largest_first() -> None:
    """Work is rows x columns x the smaller of both: 24, 2, 54, 24 and 16 here; of equal ones the first is first."""
    params = [torch.empty(shape) for shape in ((2, 6), (1, 2), (6, 3), (6, 2), (1, 16))]
    found = rounds_of(params, 3, first=2)
    places = [{owner: [p is q for q in params].index(True) for owner, p in members.items()} for members in found]
    assert places == [{2: 2, 0: 0, 1: 3}, {2: 4, 0: 1}]


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"must be matrices; got \[7\]"):
        optim.Muon(parameters([(7,)]))
    with pytest.raises(ValueError, match="adjust_lr_fn must be one of"):
        optim.Muon(parameters(SHAPES), adjust_lr_fn="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='must be "nearest"'):
        optim.Muon(parameters(SHAPES), rounding="kahan")
