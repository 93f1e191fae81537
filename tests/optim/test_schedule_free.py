# SPDX-License-Identifier: Apache-2.0
"""Schedule-free rules beside their formula: the two modes, files of either mode, the authors' files, the trainer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern import optim
from bittern.optim import AdamWScheduleFree, SGDScheduleFree
from bittern.train.modes import TwoModes, in_eval
from optim._training import parameters, same, train

SHAPES = ((70, 90), (257,), ())


def _made(dtype: torch.dtype = torch.float32, **extra: Any) -> tuple[AdamWScheduleFree, list[nn.Parameter]]:
    params = parameters(SHAPES, dtype)
    return AdamWScheduleFree(params, lr=1e-2, warmup_steps=3, min_8bit_size=100, **extra), params


def _values(params: list[nn.Parameter]) -> list[Tensor]:
    return [p.detach().clone() for p in params]


def test_eval_shows_the_average_of_z() -> None:
    """x = sum of w z / sum of w, with w = lr^2 at its largest so far."""
    params = parameters(SHAPES)
    optimizer = SGDScheduleFree(params, lr=0.1, momentum=0.8, warmup_steps=4)
    sums, total = [0.0 * p.detach().double() for p in params], 0.0
    for t in range(1, 8):
        train(optimizer, params, 1, start=t)
        weight = min(1, t / 4) ** 2
        total += weight
        for s, p in zip(sums, params, strict=True):
            s += weight * optimizer.state[p]["z"].double()
    optimizer.eval()
    for s, p in zip(sums, params, strict=True):
        torch.testing.assert_close(p.detach().double(), s / total, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_train_gives_the_very_weights_back(dtype: torch.dtype) -> None:
    optimizer, params = _made(dtype)
    train(optimizer, params, 6)
    y = _values(params)
    optimizer.eval()
    optimizer.eval()
    x = _values(params)
    assert not torch.equal(x[0], y[0])
    optimizer.train()
    optimizer.train()
    assert all(torch.equal(p, b) for p, b in zip(params, y, strict=True))
    assert "y" not in optimizer.state[params[0]]


def test_other_weights_given_in_eval_mode_are_kept() -> None:
    optimizer, params = _made()
    train(optimizer, params, 6)
    optimizer.eval()
    with torch.no_grad():
        for p in params:
            p.add_(1)
    x = _values(params)
    optimizer.train()
    for p, b in zip(params, x, strict=True):
        torch.testing.assert_close(p.detach(), torch.lerp(b, optimizer.state[p]["z"], 0.1))


def test_a_step_in_eval_mode_is_refused_and_changes_nothing() -> None:
    optimizer, params = _made()
    train(optimizer, params, 2)
    optimizer.eval()
    before, state = _values(params), copy.deepcopy(optimizer.state_dict())
    with pytest.raises(RuntimeError, match=r"the parameters are x now; call train\(\) first"):
        train(optimizer, params, 1)
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
    assert same(optimizer.state_dict(), state)


@pytest.mark.parametrize("bits", [32, 8, 4])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_files_of_either_mode_go_on_exactly(bits: int, mode: str) -> None:
    optimizer, params = _made(torch.bfloat16, state_bits=bits)
    train(optimizer, params, 5)
    getattr(optimizer, mode)()
    twin, twins = _made(torch.bfloat16, state_bits=bits)
    with torch.no_grad():
        for p, q in zip(params, twins, strict=True):
            q.copy_(p)
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert twin.param_groups[0]["train_mode"] == (mode == "train")
    for one, some in ((optimizer, params), (twin, twins)):
        one.train()
        train(one, some, 3, start=5)
        one.eval()
    assert all(torch.equal(p, q) for p, q in zip(params, twins, strict=True))
    assert same(optimizer.state_dict(), twin.state_dict())


def test_files_of_the_authors_package_load() -> None:
    """Their counters belong to groups, and they keep no y."""
    optimizer, params = _made(state_bits=32)
    train(optimizer, params, 5)
    optimizer.eval()
    ours = optimizer.state_dict()
    first = ours["state"][0]
    group = dict(ours["param_groups"][0]) | {"k": 5, "scheduled_lr": 1e-2, "params": [0, 1, 2]}
    group |= {"weight_sum": float(first["weight_sum"]), "lr_max": float(first["lr_max"])}
    state = {i: {"z": s["z"], "exp_avg_sq": s["exp_avg_sq"]} for i, s in ours["state"].items()}
    twin, twins = _made(state_bits=32)
    with torch.no_grad():
        for p, q in zip(params, twins, strict=True):
            q.copy_(p)
    twin.load_state_dict({"state": state, "param_groups": [group]})
    assert "k" not in twin.param_groups[0]
    assert float(twin.state[twins[0]]["step"]) == 5
    for one, some in ((optimizer, params), (twin, twins)):
        one.train()
        train(one, some, 3, start=5)
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q)


def test_bad_files() -> None:
    optimizer, params = _made()
    train(optimizer, params, 2)
    saved = optimizer.state_dict()
    saved["state"][0]["y"] = params[0].detach()
    with pytest.raises(ValueError, match="this one has no 'y'"):  # of training mode
        optimizer.load_state_dict(saved)
    saved["param_groups"][0]["train_mode"] = False
    saved["state"][0]["y"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"y must be floats \[70, 90\]"):
        optimizer.load_state_dict(saved)
    del saved["state"][0]["y"], saved["state"][0]["z"]
    with pytest.raises(ValueError, match="'z' is missing"):
        optimizer.load_state_dict(saved)


def test_the_trainer_asks_any_optimizer_that_has_modes() -> None:
    optimizer, params = _made()
    train(optimizer, params, 2)
    y = _values(params)
    with in_eval(optimizer):
        assert not torch.equal(params[0], y[0])
    assert torch.equal(params[0], y[0])
    assert not isinstance(optim.AdamW(params), TwoModes)
    with in_eval(optim.AdamW(params)):
        assert torch.equal(params[0], y[0])
