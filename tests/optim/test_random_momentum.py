# SPDX-License-Identifier: Apache-2.0
"""A momentum of 4 bits that is rounded at random, of rules that need no counter of steps or have no native step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern import optim
from optim._training import goes_on_from_a_file, parameters, same, train

FIXTURES = Path(__file__).with_name("fixtures")
RULES: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9}, "Muon": {"momentum": 0.9}, "Adafactor": {"momentum": 0.9}}
MATRIX = (64, 128)
SHAPES = ((70, 90), (40, 5))


def make(name: str, params: list[nn.Parameter], **options: Any) -> Any:
    return getattr(optim, name)(params, **{"lr": 1e-2, "state_bits": 4, "min_8bit_size": 300} | RULES[name] | options)


def momentum(optimizer: Any) -> Tensor:
    """Of the first parameter, as the next step reads it."""
    twin = type(optimizer)([nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]])
    twin.param_groups[0]["momentum"] = 0.9
    twin.param_groups[0]["state_bits"] = 32
    twin.load_state_dict(optimizer.state_dict(), requantize=True)
    state = twin.state[twin.param_groups[0]["params"][0]]
    found: Tensor = state["exp_avg" if "exp_avg" in state else "momentum_buffer"]
    return found


@pytest.mark.parametrize("name", RULES)
def test_a_momentum_falls_where_nearest_codes_keep_it(name: str) -> None:
    """One gradient of 0.1, then none, beside an element of each block whose gradient goes on; lr is 0."""
    ends: dict[str, Tensor] = {}
    for storage in ("32", "stochastic", "nearest"):
        p = nn.Parameter(torch.ones(MATRIX))
        bits = {"state_bits": 32} if storage == "32" else {"state_rounding": storage}
        optimizer = make(name, [p], lr=0.0, **bits)
        for step in range(12):
            p.grad = torch.full(MATRIX, 0.1 if step == 0 else 0.0)
            p.grad[:, 0] = 0.2
            optimizer.step()
        ends[storage] = momentum(optimizer)[:, 1:].double()
    error = ends["stochastic"] - ends["32"]
    spread = 5 * float(error.std()) / error.numel() ** 0.5
    assert abs(float(error.mean())) < spread < 0.1 * float(ends["32"].mean())
    assert float((ends["nearest"] - ends["32"]).mean().abs()) > 3 * spread


def test_torch_operations_draw_the_bits_of_the_native_step() -> None:
    """Lion's mean is Muon's momentum, but for its last bit before it is rounded."""
    seen = []
    for cls, options in ((optim.Muon, {"momentum": 0.9}), (optim.Lion, {"betas": (0.0, 0.9)})):
        params = parameters([MATRIX, MATRIX])
        optimizer = cls(params, state_bits=4, **options)  # type: ignore[operator]
        for p in params:
            p.grad = torch.randn(MATRIX, generator=torch.Generator().manual_seed(0))
        optimizer.step()
        key = "exp_avg" if cls is optim.Lion else "momentum_buffer"
        seen.append([optimizer.state[p][key].flatten() for p in params])
    for ours, native in zip(*seen, strict=True):
        assert (ours == native).double().mean() > 0.999
    assert (seen[0][0] == seen[0][1]).double().mean() < 0.9


@pytest.mark.parametrize("name", RULES)
def test_a_run_goes_on_from_a_file(name: str) -> None:
    saved = goes_on_from_a_file(lambda p: make(name, p), parameters(SHAPES), parameters(SHAPES), 3, 3)
    key = "exp_avg" if name == "Adafactor" else "momentum_buffer"
    assert saved["state"][0]["step"] == 6
    assert saved["state"][0].keys() >= {f"{key}_4bit", f"{key}_absmax"}
    assert ("step" in saved["state"][1]) == (name == "Adafactor")  # small ones have 32 bits and are not counted
    nearest = make(name, params := parameters(SHAPES), state_rounding="nearest")
    train(nearest, params, 3)
    assert ("step" in nearest.state_dict()["state"][0]) == (name == "Adafactor")


@pytest.mark.parametrize("name", ["sgd", "muon", "adafactor"])
def test_files_of_before_go_on_at_random_and_have_made_a_step(name: str) -> None:
    saved = torch.load(FIXTURES / f"{name}4.pt", weights_only=True)
    cls = {"sgd": "SGD", "muon": "Muon", "adafactor": "Adafactor"}[name]
    ends = []
    for _ in range(2):
        params = [nn.Parameter(p.clone()) for p in saved["parameters"]]
        optimizer = make(cls, params, min_8bit_size=100)
        optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))
        assert optimizer.param_groups[0]["state_rounding"] == "stochastic"
        before, old = optimizer.state_dict()["state"][0], saved["optimizer"]["state"][0]
        key = "exp_avg" if name == "adafactor" else "momentum_buffer"
        assert torch.equal(before[f"{key}_4bit"], old[key])
        assert before["step"] == (3 if name == "adafactor" else 1)
        train(optimizer, params, 2, start=3)
        ends.append(optimizer.state_dict()["state"])
    assert same(*ends)
    assert ends[0][0]["step"] == (5 if name == "adafactor" else 3)


def test_dampening_spares_the_first_step_alone_whatever_counts_it() -> None:
    """Of torch's files, of a storage that is changed, and of a parameter that joins later."""
    ones = torch.ones(256)

    def stepped(optimizer: Any, p: nn.Parameter, gradient: float = 1.0) -> float:
        p.grad = torch.full_like(p, gradient)
        optimizer.step()
        return float(momentum_of(optimizer, p))

    def momentum_of(optimizer: Any, p: nn.Parameter) -> Tensor:
        states = optim.to_torch(optimizer.state_dict(), optimizer.param_groups)["state"]
        found: Tensor = states[optimizer.number_of(p)]["momentum_buffer"][0]
        return found

    options: dict[str, Any] = {"lr": 0.0, "momentum": 0.5, "dampening": 0.75}
    first, second, third = 1.0, 0.5 + 0.25, 0.375 + 0.25
    theirs = torch.optim.SGD([p := nn.Parameter(ones.clone())], **options)
    p.grad = ones.clone()
    theirs.step()
    for bits in (32, 4):
        p, late = nn.Parameter(ones.clone()), nn.Parameter(ones.clone())
        optimizer = optim.SGD([p, late], **options, state_bits=bits, min_8bit_size=0)
        assert [stepped(optimizer, p) for _ in range(3)] == [first, second, third]
        assert [stepped(optimizer, late) for _ in range(2)] == [first, second]
        loaded = optim.SGD([p], **options, state_bits=bits, min_8bit_size=0)
        loaded.load_state_dict(theirs.state_dict(), requantize=True)
        assert stepped(loaded, p) == second
    changed = optim.SGD([p], **options, state_bits=8, min_8bit_size=0)
    assert stepped(changed, p) == first
    changed.param_groups[0]["state_bits"] = 4
    assert stepped(changed, p) == second
    assert changed.state[p]["step"] == 2


def test_without_a_momentum_nothing_is_kept() -> None:
    optimizer = make("SGD", params := parameters(SHAPES), momentum=0.0)
    train(optimizer, params, 2)
    assert not any(optimizer.state_dict()["state"].values())


def test_what_has_no_gradient_never_moves_and_bad_gradients_change_nothing() -> None:
    for name in RULES:
        p = nn.Parameter(torch.ones(MATRIX))
        optimizer = make(name, [p], weight_decay=0.0)
        dead = torch.arange(MATRIX[1]) % 3 == 0
        for step in range(4):
            p.grad = torch.randn(MATRIX, generator=torch.Generator().manual_seed(step)).masked_fill(dead, 0.0)
            p.grad[0, step] = float("nan")
            before = p.detach().clone()
            optimizer.step()
            assert p[0, step] == before[0, step]
        assert (momentum(optimizer)[:, dead] == 0).all()
        assert p.isfinite().all()
