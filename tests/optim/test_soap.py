# SPDX-License-Identifier: Apache-2.0
"""SOAP against its algorithm in float64; files, storages, learning, what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern.optim import SOAP, AdamW
from bittern.optim._eigenbasis import SIDES, basis_of, sides_in
from optim._training import goes_on_from_a_file, parameters, relative_error, train

SHAPES = ((40, 24), (24, 40), (17, 17), (12, 90), (20, 3, 2, 3), (300,), (0, 5))
"""Tall, wide, square, with a side that is too long, a convolution; a vector, and nothing."""
LONGEST, EVERY, LR = 64, 2, 1e-2
MATRICES = SHAPES[:5]


def _make(params: list[nn.Parameter], **extra: Any) -> SOAP:
    options = {"max_precond_dim": LONGEST, "precondition_frequency": EVERY, "state_bits": 32, "min_8bit_size": 64}
    return SOAP(params, lr=LR, **{"weight_decay": 0.1, **options, **extra})  # type: ignore[arg-type]


def _bases(state: dict[str, Any], shape: tuple[int, int]) -> list[Tensor]:
    """Those of a state, and the identity where a side has none."""
    there = zip(SIDES, shape, sides_in(state), strict=True)
    return [(basis_of(state, side, d) if has else torch.eye(d)).double() for side, d, has in there]


def _products(g: Tensor) -> tuple[Tensor, Tensor]:
    return g @ g.T, g.T @ g


class _Plain:
    """Algorithm 3 with the power iteration of algorithm 4, for one matrix, everything in the original space."""

    def __init__(self, p: Tensor, first: Tensor, bases: list[Tensor], betas: tuple[float, float], beta: float) -> None:
        self.p, self.m, self.v = p.double(), 0 * p.double(), 0 * p.double()
        self.bases, self.t, self.betas, self.beta = bases, 0, betas, beta
        self.covariances = [(1 - beta) * product for product in _products(first)]

    def step(self, g: Tensor) -> None:
        (left, right), (beta1, beta2) = self.bases, self.betas
        self.t += 1
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * (left.T @ g @ right) ** 2
        seen = left.T @ self.m @ right / (1 - beta1**self.t)
        n = seen / ((self.v / (1 - beta2**self.t)).sqrt() + 1e-8)
        self.p = self.p * (1 - LR * 0.1) - LR * left @ n @ right.T
        self.covariances = [self.beta * c + (1 - self.beta) * x
                            for c, x in zip(self.covariances, _products(g), strict=True)]  # fmt: skip
        if self.t % EVERY == 0:
            for dim, (c, q) in enumerate(zip(self.covariances, self.bases, strict=True)):
                if len(q) <= LONGEST:
                    order = (q.T @ c @ q).diagonal().argsort(descending=True)
                    self.v = self.v.index_select(dim, order)
                    self.bases[dim] = torch.linalg.qr(c @ q[:, order])[0]


@pytest.mark.parametrize("shampoo_beta", [None, 0.8])
def test_matrices_follow_the_paper_and_others_adamw(shampoo_beta: float | None) -> None:
    """The first basis comes from the state: where G G^T is singular, its eigenvectors are not unique; nor is QR.

    So three gradients, which there are before the first turn, fill the rank of L and R.
    """
    params, betas = parameters(SHAPES), (0.9, 0.95)
    optimizer = _make(params, betas=betas, shampoo_beta=shampoo_beta)
    twins = parameters(SHAPES)[5:]
    adamw = torch.optim.AdamW(twins, lr=LR, betas=betas, weight_decay=0.1)
    start = [p.detach().clone() for p in params]
    exact: list[_Plain] = []
    draw = torch.Generator().manual_seed(1)
    for t in range(8):
        for p in params:
            p.grad = torch.randn(p.shape, generator=draw)
        for q, p in zip(twins, params[5:], strict=True):
            q.grad = p.grad
        optimizer.step()
        adamw.step()
        for i, p in enumerate(params[:5]):
            assert p.grad is not None
            g = p.grad.double().reshape(len(p), -1)
            if t > 0:
                exact[i].step(g)
                continue
            bases = _bases(optimizer.state[p], tuple(g.shape))  # type: ignore[arg-type]
            for q, c in zip(bases, _products(g), strict=True):
                found = q.T @ c @ q
                torch.testing.assert_close(q.T @ q, torch.eye(len(q)).double(), rtol=0, atol=1e-5)
                if len(q) <= LONGEST:
                    assert (found - found.diagonal().diag()).abs().max() < 1e-4 * found.diagonal()[0]
                    assert found.diagonal().argmax() == 0
            exact.append(_Plain(p.detach().reshape(g.shape), g, bases, betas, shampoo_beta or betas[1]))
            assert torch.equal(p, start[i])
    for p, q, s in zip(params[:5], exact, start, strict=False):
        assert relative_error([p.detach() - s], [(q.p.view(p.shape) - s).float()]) < 1e-4
    assert sides_in(optimizer.state[params[3]]) == [True, False]
    for p, twin in zip(params[5:], twins, strict=True):
        torch.testing.assert_close(p, twin, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "extra", [{}, {"state_bits": 8}, {"state_bits": 4}, {"state_bits": 8, "preconditioner_bits": 4}]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_files_go_on_exactly_in_every_storage(extra: dict[str, Any], dtype: torch.dtype) -> None:
    """Saved between two turns of the bases."""
    params, twins = parameters(SHAPES, dtype), parameters(SHAPES, dtype)
    end = goes_on_from_a_file(lambda some: _make(some, **extra), params, twins, EVERY + 2, EVERY + 1)
    coded = any(key.endswith("basis_codes") for key in end["state"][0])
    assert coded == bool(extra)


@pytest.mark.parametrize("bits", [8, 4])
def test_few_bits_keep_the_bases_orthonormal(bits: int) -> None:
    """And take as many bytes: codes of Q and of A, a scale for every 128, A's diagonal."""
    params = parameters([(70, 90)])
    optimizer = _make(params, max_precond_dim=100, preconditioner_bits=bits)
    train(optimizer, params, 12)
    state = optimizer.state[params[0]]
    for side, d in zip(SIDES, (70, 90), strict=True):
        basis = basis_of(state, side, d)
        torch.testing.assert_close(basis.T @ basis, torch.eye(d), rtol=0, atol=1e-5)
        stored = [state[f"{side}_{part}"] for part in ("basis_codes", "covariance_codes", "basis_scales",
                                                       "covariance_scales", "eigenvalues")]  # fmt: skip
        blocks = -(-d * d // 128)
        assert [x.nbytes for x in stored] == [d * d * bits // 8, d * d * bits // 8, 4 * blocks, 4 * blocks, 4 * d]
    assert not {f"{side}_{part}" for side in SIDES for part in ("basis", "covariance")} & state.keys()


def test_bits_may_change_under_way() -> None:
    """What was stored in other bits goes away once it is written anew."""
    params = parameters([(70, 90)])
    optimizer = _make(params, preconditioner_bits=8, max_precond_dim=100)
    train(optimizer, params, EVERY + 1)
    for bits, ends in ((32, ["basis", "covariance"]), (4, [])):
        optimizer.param_groups[0]["preconditioner_bits"] = bits
        train(optimizer, params, EVERY)
        assert [key for key in optimizer.state[params[0]] if key in [f"left_{end}" for end in ends]] == [
            f"left_{end}" for end in ends
        ]
        assert ("left_basis_codes" in optimizer.state[params[0]]) == (bits == 4)


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_it_learns_where_inputs_are_correlated(bits: int) -> None:
    """A linear map behind inputs with a condition of 10,000, three seeds: the loss falls to less than a tenth.

    Four bits fail where means beyond the reach of their squares take all codes.
    """
    for seed in range(3):
        torch.manual_seed(seed)
        mix = torch.linalg.qr(torch.randn(24, 24))[0] * torch.logspace(0, -2, 24)
        weight, x = torch.randn(20, 24), torch.randn(200, 24) @ mix.T
        p = nn.Parameter(torch.zeros(20, 24))
        optimizer = SOAP([p], lr=0.2, weight_decay=0.0, state_bits=bits, min_8bit_size=0)
        losses = []
        for _ in range(80):
            optimizer.zero_grad()
            loss = (x @ (p - weight).T).square().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.1 * losses[0], (seed, losses[0], losses[-1])


def test_bad_gradients_keep_their_elements() -> None:
    params = parameters(SHAPES[:1])
    optimizer = _make(params)
    train(optimizer, params, 2)
    before = params[0].detach().clone()
    params[0].grad = torch.randn(SHAPES[0])
    params[0].grad[3, 5] = float("nan")
    optimizer.step()
    assert params[0][3, 5] == before[3, 5]
    assert (params[0] != before).sum() == before.numel() - 1
    assert params[0].isfinite().all()


@pytest.mark.parametrize("bits", [32, 8, 4])
@pytest.mark.parametrize("first", [0.0, 3e38, 1e-30])
def test_huge_and_missing_gradients_do_not_stop_it(bits: int, first: float) -> None:
    params = parameters(MATRICES)
    optimizer = _make(params, state_bits=bits)
    for value in (first, 0.0, 3e38):
        for p in params:
            p.grad = torch.full_like(p, value)
        optimizer.step()
        assert all(p.isfinite().all() for p in params)
    before = [p.detach().clone() for p in params]
    train(optimizer, params, 3)
    assert all((p != b).float().mean() > 0.5 for p, b in zip(params, before, strict=True))
    assert all(p.isfinite().all() for p in params)
    optimizer.load_state_dict(optimizer.state_dict())


def test_refusals() -> None:
    params = parameters(SHAPES)
    for extra, message in (
        ({"precondition_frequency": 0}, "precondition_frequency must be a positive whole number"),
        ({"max_precond_dim": 2.5}, "max_precond_dim must be a positive whole number"),
        ({"shampoo_beta": 1.0}, r"shampoo_beta must be in \[0, 1\), or None"),
        ({"preconditioner_bits": 16}, "preconditioner_bits must be 32, 8, 4 or None"),
        ({"rounding": "kahan"}, "rounding must be 'nearest'"),
        ({"offload": "cpu"}, "offload must be None"),
    ):
        with pytest.raises(ValueError, match=message):
            SOAP(params, **extra)  # type: ignore[arg-type]
    sharded = parameters(SHAPES[:1])
    sharded[0].to_local = lambda: sharded[0].data  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="SOAP: a DTensor has no whole matrix here"):
        train(_make(sharded), sharded, 1)
    adamw = AdamW(params, state_bits=32)
    train(adamw, params, 1)
    optimizer = _make(params, preconditioner_bits=8)
    train(optimizer, params, 1)
    saved = optimizer.state_dict()
    states = copy.deepcopy(saved["state"])
    with pytest.raises(ValueError, match="has no basis"):
        optimizer.load_state_dict({**saved, "state": adamw.state_dict()["state"]})
    del states[0]["left_eigenvalues"]
    with pytest.raises(ValueError, match="has no left_eigenvalues"):
        optimizer.load_state_dict({**saved, "state": states})
    states[0] = saved["state"][0] | {"left_basis_codes": torch.zeros(7, dtype=torch.uint8)}
    with pytest.raises(ValueError, match="left_basis_codes must be uint8"):
        optimizer.load_state_dict({**saved, "state": states})


@pytest.mark.parametrize(("before", "after"), [(LONGEST, 1), (1, LONGEST)])
def test_another_longest_side_is_refused_under_way(before: int, after: int) -> None:
    """Means in a basis would be read as means without one."""
    params = parameters(SHAPES[:1])
    optimizer = _make(params, max_precond_dim=before)
    train(optimizer, params, 2)
    optimizer.param_groups[0]["max_precond_dim"] = after
    with pytest.raises(ValueError, match="had another max_precond_dim when its states began"):
        train(optimizer, params, 1)
