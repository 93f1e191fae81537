# SPDX-License-Identifier: Apache-2.0
"""GaLore and APOLLO against their formulas in float64; files, storages, learning, what they refuse."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern.optim import APOLLOAdamW, GaLoreAdamW
from optim._training import goes_on_from_a_file, parameters, relative_error, same, train

SHAPES = ((40, 24), (24, 40), (300,), (3, 9))
"""Tall, wide, a vector, and a matrix that is no larger than the rank."""
RANK, GAP, LR = 4, 3, 1e-2


def _adam(s: dict[str, Any], r: Tensor, t: int) -> Tensor:
    s["m"] = 0.9 * s.get("m", 0.0 * r) + 0.1 * r
    s["v"] = 0.999 * s.get("v", 0.0 * r) + 0.001 * r * r
    return s["m"] / (1 - 0.9**t) / ((s["v"] / (1 - 0.999**t)).sqrt() + 1e-8)


def _galore(p: Tensor, g: Tensor, s: dict[str, Any], t: int, number: int) -> Tensor:
    if t % GAP == 1:
        u, _, vh = torch.linalg.svd(g, full_matrices=False)
        s["B"] = vh[:RANK] if g.shape[0] >= g.shape[1] else u[:, :RANK].T
    if g.shape[0] >= g.shape[1]:
        return 0.5 * _adam(s, g @ s["B"].T, t) @ s["B"]
    return 0.5 * s["B"].T @ _adam(s, s["B"] @ g, t)


def _apollo(p: Tensor, g: Tensor, s: dict[str, Any], t: int, number: int) -> Tensor:
    seed = 7 + 1_000_003 * (number + 1) + (t - 1) // GAP * 2**32
    b = torch.randn(RANK, min(p.shape), generator=torch.Generator().manual_seed(seed)).double() / RANK**0.5
    tall = g.shape[0] >= g.shape[1]
    r = g @ b.T if tall else b @ g
    u = g * (_adam(s, r, t).norm(dim=int(tall), keepdim=True) / (r.norm(dim=int(tall), keepdim=True) + 1e-8))
    if "norm" in s:
        u = u / (max(u.norm() / (s["norm"] + 1e-8), 1.01) / 1.01)
    s["norm"] = u.norm()
    return math.sqrt(2.0) * u


def _make(cls: Any, params: list[nn.Parameter], **extra: Any) -> Any:
    own = {"scale": 0.5} if cls is GaLoreAdamW else {"scale": 2.0, "seed": 7}
    options = {"rank": RANK, "update_proj_gap": GAP, "weight_decay": 0.1, "state_bits": 32, "min_8bit_size": 64}
    return cls(params, lr=LR, **{**options, **own, **extra})


@pytest.mark.parametrize(("cls", "formula"), [(GaLoreAdamW, _galore), (APOLLOAdamW, _apollo)])
def test_matrices_follow_the_paper_and_others_adamw(cls: Any, formula: Any) -> None:
    params, twins = parameters(SHAPES), parameters(SHAPES)
    optimizer, adamw = _make(cls, params), torch.optim.AdamW(twins, lr=LR, weight_decay=0.1)
    start = [p.detach().clone() for p in params]
    exact: list[Tensor] = [p.detach().double() for p in params]
    states: list[dict[str, Any]] = [{} for _ in params]
    draw = torch.Generator().manual_seed(1)
    for t in range(1, 9):
        for i, (p, q) in enumerate(zip(params, twins, strict=True)):
            p.grad = torch.randn(p.shape, generator=draw)
            q.grad = p.grad.clone()
            if i < 2:
                step = formula(exact[i], p.grad.double(), states[i], t, i)
                exact[i] = exact[i] * (1 - LR * 0.1) - LR * step
        optimizer.step()
        adamw.step()
    for p, q, s in zip(params[:2], exact[:2], start[:2], strict=True):
        assert relative_error([p.detach() - s], [(q - s).float()]) < 1e-4
        assert optimizer.state[p]["exp_avg"].numel() == RANK * max(p.shape)
    for p, q in zip(params[2:], twins[2:], strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("extra", [{"state_bits": 8}, {"state_bits": 4}, {"projector_bits": 4}])
@pytest.mark.parametrize("cls", [GaLoreAdamW, APOLLOAdamW])
def test_files_go_on_exactly_in_every_storage(cls: Any, extra: dict[str, Any]) -> None:
    """Saved between two draws of the projection, so that it must come back."""
    if cls is APOLLOAdamW and "projector_bits" in extra:
        extra = {"scale_type": "tensor", "rank": 1}
    make = partial(_make, cls, **extra)
    end = goes_on_from_a_file(make, parameters(SHAPES), parameters(SHAPES), GAP + 2, GAP + 1)
    assert any(key.startswith("exp_avg_") for key in end["state"][0])


@pytest.mark.parametrize(
    ("cls", "extra"),
    [
        (GaLoreAdamW, {"state_bits": 8, "scale": 1.0, "projector_bits": 8}),
        (GaLoreAdamW, {"state_bits": 8, "scale": 1.0, "projector_bits": 4}),
        (APOLLOAdamW, {"state_bits": 8}),
        (APOLLOAdamW, {"state_bits": 4, "rank": 1, "scale": 128.0, "scale_type": "tensor"}),
    ],
)
def test_it_learns(cls: Any, extra: dict[str, Any]) -> None:
    """A linear map of rank 3 from noisy batches: the loss falls to less than a tenth."""
    torch.manual_seed(0)
    weight = torch.randn(32, 3) @ torch.randn(3, 20)
    p = nn.Parameter(torch.zeros(32, 20))
    optimizer = cls([p], lr=0.05, **{"rank": 6, "update_proj_gap": 20, "min_8bit_size": 0, **extra})
    first = 0.0
    for _ in range(300):
        x = torch.randn(16, 20)
        loss = (x @ (p - weight).T).square().mean()
        first = first or float(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1 * first


def _lazy_run(optimizer: Any, params: list[nn.Parameter], steps: range, alike: bool) -> list[list[int]]:
    """The steps in which each of two matrices took a basis."""
    taken: list[list[int]] = [[], []]
    for t in steps:
        draw = torch.Generator().manual_seed(0 if alike else t)
        before = [optimizer.state[p].get("projector_step") for p in params]
        for p in params:
            p.grad = torch.randn(p.shape, generator=draw)
        optimizer.step()
        for i, (p, b) in enumerate(zip(params, before, strict=True)):
            if b is None or b != optimizer.state[p]["projector_step"]:
                taken[i].append(t)
    return taken


@pytest.mark.parametrize("bits", [32, 4])
def test_lazy_gaps_double_while_bases_stay(bits: int) -> None:
    """Five similarities come with the sixth basis, at step 10: a gradient that stays doubles the gap there, and again.

    Unlike gradients, whose first vectors of 24 dimensions have a mean |cos| near 0.16, leave the gap as it is. A file
    goes on with gap and similarities.
    """
    params, twins = parameters(SHAPES[:2]), parameters(SHAPES[:2])
    options = {"update_proj_gap": 2, "lazy": 0.4, "projector_bits": bits}
    optimizer, twin = _make(GaLoreAdamW, params, **options), _make(GaLoreAdamW, twins, **options)
    assert _lazy_run(optimizer, params, range(12), alike=True) == [[0, 2, 4, 6, 8, 10]] * 2
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, some in ((optimizer, params), (twin, twins)):
        assert _lazy_run(one, some, range(12, 40), alike=True) == [[14, 22, 38]] * 2
    assert same(optimizer.state_dict(), twin.state_dict())
    other = parameters(SHAPES[:2])
    assert _lazy_run(_make(GaLoreAdamW, other, **options), other, range(16), alike=False) == [[*range(0, 16, 2)]] * 2
    saved = optimizer.state_dict()
    del saved["state"][0]["projector_gap"]
    with pytest.raises(ValueError, match="has only projector_step, projector_similarities of its lazy updates"):
        optimizer.load_state_dict(saved)


def test_a_basis_is_drawn_once_in_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two matrices, three steps a gap; a group added later has numbers, and so bases, of its own."""
    drawn: list[tuple[int, ...]] = []
    randn = torch.randn

    def counted(*shape: Any, **options: Any) -> Tensor:
        drawn.append(shape)
        return randn(*shape, **options)

    params, later = parameters(SHAPES[:2]), parameters(SHAPES[:1])
    optimizer = _make(APOLLOAdamW, params)
    grads = [randn(p.shape) for p in (*params, *later)]
    for step in range(2 * GAP):
        if step == GAP:
            optimizer.add_param_group({"params": later})
        for p, g in zip((*params, *later), grads, strict=True):
            p.grad = g if any(p is q for q in (*params, *later[: step >= GAP])) else None
        with monkeypatch.context() as patched:
            patched.setattr(torch, "randn", counted)
            optimizer.step()
        assert len(drawn) == (2 if step < GAP else 5)
    assert [optimizer.number_of(p) for p in (*later, *params)] == [2, 0, 1]
    optimizer.param_groups[0]["params"].reverse()
    assert [optimizer.number_of(p) for p in (*later, *params)] == [2, 1, 0]


def test_bad_gradients_keep_their_elements() -> None:
    params = parameters(SHAPES[:1])
    optimizer = _make(GaLoreAdamW, params)
    train(optimizer, params, 2)
    before = params[0].detach().clone()
    params[0].grad = torch.randn(SHAPES[0])
    params[0].grad[3, 5] = float("nan")
    optimizer.step()
    assert params[0][3, 5] == before[3, 5]
    assert (params[0] != before).sum() == before.numel() - 1
    assert params[0].isfinite().all()


@pytest.mark.parametrize("cls", [GaLoreAdamW, APOLLOAdamW])
def test_huge_and_missing_gradients_do_not_stop_it(cls: Any) -> None:
    params = parameters(SHAPES[:2])
    optimizer = _make(cls, params, update_proj_gap=1, state_bits=8)
    for value in (0.0, 3e38):
        for p in params:
            p.grad = torch.full_like(p, value)
        optimizer.step()
        assert all(p.isfinite().all() for p in params)
    before = [p.detach().clone() for p in params]
    train(optimizer, params, 2)
    assert all((p != b).float().mean() > 0.5 for p, b in zip(params, before, strict=True))
    optimizer.load_state_dict(optimizer.state_dict())


def test_refusals() -> None:
    params = parameters(SHAPES)
    for extra, message in (
        ({"rank": 0}, "rank must be a positive whole number"),
        ({"update_proj_gap": 2.5}, "update_proj_gap must be a positive whole number"),
        ({"projector_bits": 16}, "projector_bits must be 32, 8 or 4"),
        ({"lazy": 1.5}, "lazy must be a cosine from 0 to 1, or None"),
        ({"rounding": "kahan"}, "rounding must be 'nearest'"),
        ({"offload": "cpu"}, "offload must be None"),
    ):
        with pytest.raises(ValueError, match=message):
            GaLoreAdamW(params, **extra)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scale_type must be"):
        APOLLOAdamW(params, scale_type="row")  # type: ignore[arg-type]
    optimizer = _make(GaLoreAdamW, params)
    train(optimizer, params, 1)
    saved = optimizer.state_dict()
    del saved["state"][0]["projector"]
    with pytest.raises(ValueError, match="has no projector"):
        optimizer.load_state_dict(saved)
    saved = optimizer.state_dict()
    saved["param_groups"][0]["rank"] = RANK + 1
    with pytest.raises(ValueError, match="does not fit"):
        optimizer.load_state_dict(saved)
