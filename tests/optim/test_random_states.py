# SPDX-License-Identifier: Apache-2.0
"""States of 4 bits that are rounded at random: by the step and the element alone, through files and other storages."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern import optim
from bittern.optim.backward import fuse_into_backward
from optim._training import parameters, relative_error, same, train

WITH_SQUARES: dict[str, dict[str, Any]] = {
    "AdamW": {},
    "Adam": {"amsgrad": True},
    "NAdam": {},
    "RAdam": {},
    "Adagrad": {"initial_accumulator_value": 0.1},
    "RMSprop": {"centered": True, "momentum": 0.5},
    "LAMB": {},
    "AdEMAMix": {"t_alpha": 10, "t_beta3": 10},
    "Adan": {},
    "Adamax": {},
    "AdamWScheduleFree": {},
}
RULES = WITH_SQUARES | {"SGD": {"momentum": 0.9}, "Adafactor": {"momentum": 0.9}}


def made(name: str = "AdamW", bits: int = 4, steps: int = 3, **extra: Any) -> tuple[Any, list[nn.Parameter]]:
    params = parameters()
    optimizer = getattr(optim, name)(params, lr=1e-2, state_bits=bits, min_8bit_size=100, **RULES.get(name, {}) | extra)
    train(optimizer, params, steps)
    return optimizer, params


def floats(optimizer: Any, params: list[nn.Parameter]) -> list[dict[str, Tensor]]:
    """States by torch's names."""
    decoded = optim.to_torch(optimizer.state_dict(), params)["state"]
    return [
        {k: v for k, v in state.items() if isinstance(v, Tensor) and v.ndim} for _, state in sorted(decoded.items())
    ]


@pytest.mark.parametrize("name", [*RULES, "Lion", "LARS"])
def test_random_bits_come_from_the_step_and_the_parameter_alone(name: str) -> None:
    """Not from threads, torch's generator, or how parameters are grouped."""
    first, params = made(name)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    torch.manual_seed(99)
    try:
        second, others = made(name)
    finally:
        torch.set_num_threads(before)
    assert same(first.state_dict(), second.state_dict())
    split = parameters()
    groups = [{"params": split[:2]}, {"params": split[2:]}]
    third = type(first)(groups, lr=1e-2, state_bits=4, min_8bit_size=100, **RULES.get(name, {}))
    train(third, split, 3)
    for p, q, r in zip(params, others, split, strict=True):
        assert torch.equal(p, q)
        assert torch.equal(p, r)


def test_parameters_of_equal_gradients_draw_other_bits() -> None:
    params = [nn.Parameter(torch.zeros(4096)) for _ in range(2)]
    optimizer = optim.AdamW(params, lr=1e-2, state_bits=4, min_8bit_size=0)
    draw = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(3):
        gradient = torch.randn(4096, generator=draw)
        for p in params:
            p.grad = gradient.clone()
        optimizer.step()
        seen.append([optimizer.state[p]["exp_avg"].clone() for p in params])
    assert torch.equal(*seen[0])  # after one step every ratio is the largest or its opposite
    assert not torch.equal(*seen[1])
    assert not torch.equal(*seen[2])


def test_a_step_in_the_backward_pass_draws_the_same() -> None:
    def trained(fused: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(40, 60), nn.Tanh(), nn.Linear(60, 40))
        optimizer = optim.AdamW(model.parameters(), lr=1e-2, state_bits=4, min_8bit_size=100)
        if fused:
            fuse_into_backward(model, optimizer)
        x = torch.randn(8, 40)
        for _ in range(4):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        return list(model.parameters())

    for a, b in zip(trained(False), trained(True), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", WITH_SQUARES)
def test_states_of_32_bits_become_4_and_come_back_near(name: str) -> None:
    exact, params = made(name, 32)
    optimizer = type(exact)(parameters(), lr=1e-2, state_bits=4, min_8bit_size=100, **WITH_SQUARES[name])
    with pytest.raises(ValueError, match="requantize=True"):
        optimizer.load_state_dict(exact.state_dict())
    optimizer.load_state_dict(exact.state_dict(), requantize=True)
    for was, now in zip(floats(exact, params), floats(optimizer, params), strict=True):
        for key, value in was.items():
            if value.numel() < 100:
                assert torch.equal(value, now[key])
            else:
                assert relative_error([now[key]], [value]) < 0.25, key
                assert ((now[key] == 0) | (now[key].sign() == value.sign())).all(), key


def test_states_to_nearest_become_logarithmic_on_request_alone() -> None:
    old, params = made(state_rounding="nearest")
    saved = old.state_dict()
    assert "exp_avg_4bit" in saved["state"][0]
    optimizer = optim.AdamW(parameters(), lr=1e-2, state_bits=4, min_8bit_size=100)
    with pytest.raises(ValueError, match='or build the optimizer with state_rounding="nearest"'):
        optimizer.load_state_dict(saved)
    assert not optimizer.state
    optimizer.load_state_dict(saved, requantize=True)
    assert {"exp_avg_4bit_ratio", "exp_avg_sq_4bit_log"} <= set(optimizer.state_dict()["state"][0])
    for was, now in zip(floats(old, params), floats(optimizer, params), strict=True):
        assert all(relative_error([now[key]], [value]) < 0.25 for key, value in was.items())
    back = optim.AdamW(parameters(), lr=1e-2, state_bits=4, min_8bit_size=100, state_rounding="nearest")
    back.load_state_dict(optimizer.state_dict(), requantize=True)
    train(back, list(back.param_groups[0]["params"]), 1, start=3)


def test_a_changed_option_converts_what_is_there() -> None:
    optimizer, params = made()
    was = floats(optimizer, params)
    optimizer.param_groups[0]["state_rounding"] = "nearest"
    for group in optimizer.param_groups:
        for p in group["params"]:
            optimizer.state_of(p, group)
    assert "exp_avg_sq_4bit" in optimizer.state_dict()["state"][0]
    for a, b in zip(was, floats(optimizer, params), strict=True):
        assert all(relative_error([b[key]], [value]) < 0.5 for key, value in a.items())


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "levels the other way round": (
        lambda s: s.update(exp_avg_sq_absmax=s["exp_avg_sq_absmax"].flip(1)),
        "the largest, then the lowest level",
    ),
    "one level alone": (
        lambda s: s.update(exp_avg_sq_absmax=s["exp_avg_sq_absmax"][:, 0].clone()),
        "does not fit|the largest, then the lowest level",
    ),
    "a level below 0": (lambda s: s.update(exp_avg_sq_absmax=-s["exp_avg_sq_absmax"]), "must be at least 0"),
    "a level that is no number": (
        lambda s: s.update(exp_avg_sq_absmax=s["exp_avg_sq_absmax"] * float("nan")),
        "not finite",
    ),
    "ratios named as entries of a table": (
        lambda s: s.update(exp_avg_4bit=s.pop("exp_avg_4bit_ratio")),
        "do not go with the codes of exp_avg_sq",
    ),
    "a square named as a ratio": (
        lambda s: s.update(exp_avg_sq_4bit_ratio=s.pop("exp_avg_sq_4bit_log")),
        "does not fit|another kind of state",
    ),
    "a mean named as a square": (
        lambda s: s.update(exp_avg_4bit_log=s.pop("exp_avg_4bit_ratio")),
        "does not fit|another kind of state",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_states_are_refused_and_nothing_changes(name: str) -> None:
    damage, message = DAMAGES[name]
    optimizer, _ = made()
    saved = copy.deepcopy(optimizer.state_dict())
    damage(saved["state"][0])
    before = copy.deepcopy(optimizer.state_dict())
    for requantize in (False, True):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(saved, requantize=requantize)
    assert same(before, optimizer.state_dict())


def test_what_has_no_gradient_never_moves_and_bad_gradients_change_nothing() -> None:
    p = nn.Parameter(torch.zeros(8192))
    optimizer = optim.AdamW([p], lr=1e-2, weight_decay=0.0, state_bits=4)
    draw = torch.Generator().manual_seed(0)
    dead = torch.arange(8192) % 3 == 0
    for step in range(30):
        p.grad = torch.randn(8192, generator=draw).masked_fill(dead, 0.0)
        bad = (torch.arange(8192) + step) % 97 == 0
        before = p.detach().clone()
        p.grad[bad] = (float("nan"), float("inf"))[step % 2]
        optimizer.step()
        assert torch.equal(p[bad], before[bad])
    assert (p[dead] == 0).all()
    assert (p[~dead] != 0).all()
    assert p.isfinite().all()


def test_a_matrix_of_blocks_at_rest_and_of_none() -> None:
    p, none = nn.Parameter(torch.zeros(64, 128)), nn.Parameter(torch.zeros(0, 128))
    optimizer = optim.AdamW([p, none], lr=1e-2, state_bits=4, min_8bit_size=0)
    for _ in range(3):
        p.grad, none.grad = torch.zeros(64, 128), torch.zeros(0, 128)
        p.grad[1] = 1e-30  # its square is 0 in float32
        p.grad[2] = 1e18
        optimizer.step()
    assert p.isfinite().all()
    assert (p[0] == 0).all()
    assert (p[2] < 0).all()
    assert same(optim.to_torch(optimizer.state_dict(), [p, none])["state"][0]["exp_avg_sq"][0], torch.zeros(128))
