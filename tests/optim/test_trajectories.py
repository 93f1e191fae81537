# SPDX-License-Identifier: Apache-2.0
"""Every rule against torch.optim or against its paper's formula in float64, in 32, 8 and 4 bits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from bittern import optim
from optim._training import moved, parameters, relative_error, train

RULES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adam", {"weight_decay": 0.01}),
    ("Adam", {"amsgrad": True, "betas": (0.8, 0.9)}),
    ("Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {"weight_decay": 0.1, "eps": 1e-3}),
    ("AdamW", {"amsgrad": True, "maximize": True}),
    ("NAdam", {"weight_decay": 0.01}),
    ("NAdam", {"decoupled_weight_decay": True, "weight_decay": 0.1, "momentum_decay": 0.1}),
    ("RAdam", {"weight_decay": 0.01}),
    ("RAdam", {"decoupled_weight_decay": True, "weight_decay": 0.1, "betas": (0.9, 0.99)}),
    ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.1, "weight_decay": 0.01}),
    ("RMSprop", {"weight_decay": 0.01}),
    ("RMSprop", {"momentum": 0.9}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "maximize": True}),
    ("Adafactor", {"weight_decay": 0.01, "d": 1.5, "beta2_decay": -0.7}),
    ("Adadelta", {"weight_decay": 0.01, "rho": 0.8}),
    ("Adamax", {"weight_decay": 0.01, "maximize": True}),
    ("Rprop", {"etas": (0.6, 1.3)}),
    ("ASGD", {"lambd": 0.01, "t0": 10, "weight_decay": 0.01}),
]
FLOATS = ("ASGD", "SGDScheduleFree")
"""Rules without a state in few bits; Adadelta takes 8."""


@pytest.mark.parametrize(("name", "options"), RULES)
def test_32_bits_follow_torch_optim(name: str, options: dict[str, Any]) -> None:
    ours = moved(lambda p: getattr(optim, name)(p, lr=1e-3, state_bits=32, **options))
    theirs = moved(lambda p: getattr(torch.optim, name)(p, lr=1e-3, **options))
    # a few roundings of float32 per step, and the movement is about a hundredth of the parameter it is rounded into
    assert relative_error(ours, theirs) < 50 * torch.finfo(torch.float32).eps * 10


@pytest.mark.parametrize(("name", "options"), RULES)
@pytest.mark.parametrize(("bits", "limit"), [(8, 0.02), (4, 0.35)])
def test_low_bits_stay_close(name: str, options: dict[str, Any], bits: int, limit: float) -> None:
    cls = getattr(optim, name)
    if name in FLOATS or (name, bits) == ("Adadelta", 4):
        with pytest.raises(ValueError, match="state_bits must be 32"):
            cls(parameters(), state_bits=bits)
        return
    if name == "Rprop":  # a step is 1.2 or 0.5 times that before: roundings grow as in chaos, but it learns alike
        limit = 0.8
    low = moved(lambda p: cls(p, lr=1e-3, state_bits=bits, min_8bit_size=0, **options))
    full = moved(lambda p: cls(p, lr=1e-3, state_bits=32, **options))
    assert relative_error(low, full) < limit


def _lion(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    m = s.get("m", 0.0 * p)
    s["m"] = 0.99 * m + 0.01 * g
    return p * (1 - 1e-3 * 0.1) - 1e-3 * torch.sgn(0.9 * m + 0.1 * g)


def _adam_moments(g: Any, s: dict[str, Any]) -> tuple[Any, Any]:
    s["m"] = 0.9 * s.get("m", 0.0 * g) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0.0 * g) + 0.001 * g * g
    return s["m"], s["v"]


def _lamb(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    m, v = _adam_moments(g, s)
    u = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-6) + 0.01 * p
    return p - 1e-3 * min(0.5 * float(p.norm() / u.norm()), 5.0) * u


def _lars(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    local = 0.02 * p.norm() / (g.norm() + 0.01 * p.norm() + 1e-8)
    s["m"] = 0.9 * s.get("m", 0.0 * p) + 1e-1 * local * (g + 0.01 * p)
    return p - s["m"]


def _ademamix(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    m, v = _adam_moments(g, s)
    done = min(t / 40, 1.0)
    b1, b3 = torch.tensor(0.9).double().log(), torch.tensor(0.9999).double().log()
    beta3 = min(float((b1 * b3 / ((1 - done) * b3 + done * b1)).exp()), 0.9999)
    s["slow"] = beta3 * s.get("slow", 0.0 * p) + (1 - beta3) * g
    alpha = min(t * 5.0 / 40, 5.0)
    update = (m / (1 - 0.9**t) + alpha * s["slow"]) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return p * (1 - 1e-3 * 0.01) - 1e-3 * update


def _adan(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    d = g - s.get("g", g)
    s["m"] = 0.98 * s.get("m", 0.0 * p) + 0.02 * g
    s["w"] = 0.92 * s.get("w", 0.0 * p) + 0.08 * d
    s["n"] = 0.99 * s.get("n", 0.0 * p) + 0.01 * (g + 0.92 * d) ** 2
    s["g"] = g
    step = s["m"] / (1 - 0.98**t) + 0.92 * s["w"] / (1 - 0.92**t)
    return (p - 1e-3 * step / ((s["n"] / (1 - 0.99**t)).sqrt() + 1e-8)) / (1 + 1e-3 * 0.1)


def _sequences(p: Any, u: Any, s: dict[str, Any], t: int, lr: float, beta: float) -> Any:
    """arXiv 2405.15682, equations 3 to 5, with x itself; the parameter is y."""
    lr, weight = lr * min(1, t / 5), (lr * min(1, t / 5)) ** 2 * t**0.5
    s["sum"] = s.get("sum", 0.0) + weight
    z = s.get("z", p) - lr * u
    x = s.get("x", p)
    s["z"], s["x"] = z, x + weight / s["sum"] * (z - x)
    return (1 - beta) * z + beta * s["x"]


def _adamw_schedule_free(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    s["v"] = 0.999 * s.get("v", 0.0 * g) + 0.001 * g * g
    u = g / ((s["v"] / (1 - 0.999**t)).sqrt() + 1e-8) + 0.1 * p
    return _sequences(p, u, s, t, 1e-3, 0.9)


def _sgd_schedule_free(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    return _sequences(p, g + 0.1 * p, s, t, 1e-2, 0.8)


PAPERS = [
    (_lion, lambda p, bits: optim.Lion(p, 1e-3, weight_decay=0.1, state_bits=bits, min_8bit_size=0)),
    (
        _lamb,
        lambda p, bits: optim.LAMB(
            p, weight_decay=0.01, trust_coefficient=0.5, max_trust=5.0, state_bits=bits, min_8bit_size=0
        ),
    ),
    (
        _lars,
        lambda p, bits: optim.LARS(
            p, 1e-1, weight_decay=0.01, trust_coefficient=0.02, state_bits=bits, min_8bit_size=0
        ),
    ),
    (_ademamix, lambda p, bits: optim.AdEMAMix(p, t_alpha=40, t_beta3=40, state_bits=bits, min_8bit_size=0)),
    (_adan, lambda p, bits: optim.Adan(p, weight_decay=0.1, state_bits=bits, min_8bit_size=0)),
    (
        _adamw_schedule_free,
        lambda p, bits: optim.AdamWScheduleFree(
            p, 1e-3, weight_decay=0.1, warmup_steps=5, r=0.5, state_bits=bits, min_8bit_size=0
        ),
    ),
    (
        _sgd_schedule_free,
        lambda p, bits: optim.SGDScheduleFree(p, 1e-2, 0.8, weight_decay=0.1, warmup_steps=5, r=0.5),
    ),
]


@pytest.mark.parametrize(("bits", "limit"), [(32, 1e-4), (8, 0.06), (4, 0.6)])
@pytest.mark.parametrize(("formula", "make"), PAPERS, ids=lambda x: getattr(x, "__name__", ""))
def test_rules_without_a_torch_twin_follow_their_papers(formula: Any, make: Any, bits: int, limit: float) -> None:
    params = [torch.nn.Parameter(p.detach()) for p in parameters()[:2]]
    exact = [p.detach().double() for p in params]
    states: list[dict[str, Any]] = [{} for _ in params]
    start = [p.detach().clone() for p in params]
    optimizer = make(params, bits)
    generator = torch.Generator().manual_seed(3)
    for t in range(1, 51):
        for i, p in enumerate(params):
            p.grad = 0.1 * torch.randn(p.shape, generator=generator) + 0.05
            exact[i] = formula(exact[i], p.grad.double(), states[i], t)
        optimizer.step()
    ours = [p.detach() - b for p, b in zip(params, start, strict=True)]
    theirs = [(e - b).float() for e, b in zip(exact, start, strict=True)]
    assert relative_error(ours, theirs) < limit


def test_a_parameter_without_gradient_stays_where_it_is() -> None:
    for name in ("SGD", "Adam", "Lion", "RMSprop", "AdEMAMix"):
        extra: dict[str, Any] = {"momentum": 0.9} if name == "SGD" else {}
        if name == "AdEMAMix":
            extra["weight_decay"] = 0.0
        p = torch.nn.Parameter(torch.ones(8192))
        optimizer = getattr(optim, name)([p], lr=1e-2, **extra)
        for _ in range(20):
            p.grad = torch.zeros(8192)
            p.grad[::2] = torch.randn(4096)
            optimizer.step()
        assert torch.equal(p.detach()[1::2], torch.ones(4096)), name
        assert (p.detach()[::2] != 1).any()


def test_groups_have_their_own_arguments_and_bits() -> None:
    ours, theirs = parameters(), parameters()
    groups = [{"lr": 1e-2, "weight_decay": 0.1}, {"betas": (0.5, 0.9), "state_bits": 32}]
    a = optim.AdamW(
        [{"params": ours[:2], **groups[0]}, {"params": ours[2:4], **groups[1]}], lr=1e-3, state_bits=8, min_8bit_size=0
    )
    torch_groups = [{k: v for k, v in group.items() if k != "state_bits"} for group in groups]
    b = torch.optim.AdamW(
        [{"params": theirs[:2], **torch_groups[0]}, {"params": theirs[2:4], **torch_groups[1]}], lr=1e-3
    )
    a.add_param_group({"params": ours[4:], "state_bits": 4})
    b.add_param_group({"params": theirs[4:]})
    train(a, ours, 20)
    train(b, theirs, 20)
    assert a.state[ours[0]]["exp_avg"].dtype == torch.uint8
    assert a.state[ours[2]]["exp_avg"].dtype == torch.float32
    assert relative_error([p.detach() for p in ours], [p.detach() for p in theirs]) < 1e-3
    assert torch.allclose(ours[2], theirs[2], rtol=1e-5, atol=1e-6)


def test_parameters_may_miss_gradients_and_return() -> None:
    ours, theirs = parameters(), parameters()
    a, b = optim.Adam(ours, state_bits=32), torch.optim.Adam(theirs)
    for step in range(12):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            gone = (step + i) % 3 == 0
            p.grad = None if gone else torch.full_like(p, 0.1 * (i + 1))
            q.grad = None if gone else torch.full_like(q, 0.1 * (i + 1))
        a.step()
        b.step()
    for p, q in zip(ours, theirs, strict=True):
        assert torch.allclose(p, q, rtol=1e-5, atol=1e-6)
        assert a.state[p]["step"] == b.state[q]["step"]


def test_a_copy_continues_like_the_original() -> None:
    params = parameters()
    optimizer = optim.AdamW(params, min_8bit_size=0)
    train(optimizer, params, 5)
    twin, twins = copy.deepcopy((optimizer, params))
    train(optimizer, params, 5, start=5)
    train(twin, twins, 5, start=5)
    assert all(torch.equal(p, q) for p, q in zip(params, twins, strict=True))
