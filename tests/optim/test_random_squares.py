# SPDX-License-Identifier: Apache-2.0
"""Squares of 8 bits rounded at random: what asks for it, files of before that do not, and squares that fall again."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern import optim
from bittern.train.optimizer_state import pack_optimizer, unpack_optimizer
from optim._training import parameters, same, train

SQUARES: dict[str, dict[str, Any]] = {
    "AdamW": {},
    "Adam": {"amsgrad": True},
    "Adagrad": {},
    "RMSprop": {"centered": True, "momentum": 0.5},
    "AdEMAMix": {"t_alpha": 10, "t_beta3": 10},
    "Adamax": {},
    "Adadelta": {},
    "Rprop": {},
    "LAMB": {},
    "AdamWScheduleFree": {},
    "GaLoreAdamW": {"rank": 60},
}
RANDOM = {"state_rounding": "stochastic"}


def made(name: str = "AdamW", steps: int = 3, **options: Any) -> tuple[Any, list[nn.Parameter]]:
    params = parameters()
    optimizer = getattr(optim, name)(params, lr=1e-2, min_8bit_size=100, **SQUARES.get(name, {}) | options)
    train(optimizer, params, steps)
    return optimizer, params


def equal(a: list[nn.Parameter], b: list[nn.Parameter]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def from_file(state_dict: Any) -> Any:
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# ---- random bits


@pytest.mark.parametrize("name", SQUARES)
def test_a_run_repeats_on_more_threads_and_goes_on_from_a_file(name: str) -> None:
    first, params = made(name, 6, **RANDOM)
    before = torch.get_num_threads()
    torch.set_num_threads(1 if "GaLore" in name else 3)  # whose projections are products of torch
    try:
        half, others = made(name, 3, **RANDOM)
    finally:
        torch.set_num_threads(before)
    again = parameters()
    for p, q in zip(again, others, strict=True):
        p.data.copy_(q)
    second = getattr(optim, name)(again, lr=1e-2, min_8bit_size=100, **SQUARES[name] | RANDOM)
    second.load_state_dict(from_file(half.state_dict()))
    train(second, again, 3, start=3)
    assert equal(params, again)
    assert same(first.state_dict(), second.state_dict())
    nearest, others = made(name, 6)
    assert not equal(params, others)
    assert not same(first.state_dict()["state"], nearest.state_dict()["state"])


def test_parameters_of_equal_gradients_draw_other_bits() -> None:
    params = [nn.Parameter(torch.zeros(4096)) for _ in range(2)]
    optimizer = optim.AdamW(params, lr=1e-2, state_rounding="stochastic")
    for p in params:
        p.grad = torch.linspace(0.5, 1.5, 4096)
    optimizer.step()
    first, second = (optimizer.state[p] for p in params)
    assert torch.equal(first["exp_avg"], second["exp_avg"])  # means go to nearest
    assert not torch.equal(first["exp_avg_sq"], second["exp_avg_sq"])


# ---- what it is for


def test_squares_fall_again_where_nearest_codes_stay() -> None:
    """Gradients of 1, then of 0.1 beside one that stays 1: v falls towards 0.01 as 0.999^t."""
    for rounding, stuck in (("stochastic", False), ("nearest", True)):
        p = nn.Parameter(torch.zeros(4096))
        optimizer = optim.RMSprop([p], lr=0.0, alpha=0.999, state_rounding=rounding)
        exact = 0.0
        for step in range(600):
            size = 1.0 if step < 100 else 0.1
            p.grad = torch.full((4096,), size)
            p.grad[::256] = 1.0
            optimizer.step()
            exact = 0.999 * exact + 0.001 * size**2
        decoded = optim.to_torch(optimizer.state_dict())["state"][0]["square_avg"].view(-1, 256)
        assert_within(decoded[:, 0], 1 - 0.999**600, 0.04)
        found = decoded[:, 1:].double()
        if stuck:
            assert found.min() > 1.3 * exact
        else:
            assert abs(float(found.mean()) - exact) < 5 * float(found.std()) / found.numel() ** 0.5


def assert_within(found: Tensor, wanted: float, share: float) -> None:
    assert ((found / wanted - 1).abs() < share).all()


@pytest.mark.parametrize("name", ["AdamW", "Adagrad", "Adamax", "Adadelta"])
def test_what_has_no_gradient_never_moves_and_bad_gradients_change_nothing(name: str) -> None:
    p = nn.Parameter(torch.zeros(8192))
    extra = {"initial_accumulator_value": 0.0} if name == "Adagrad" else {}
    optimizer = getattr(optim, name)([p], lr=1e-2, state_rounding="stochastic", **extra)
    draw = torch.Generator().manual_seed(0)
    dead = torch.arange(8192) % 3 == 0
    for step in range(20):
        p.grad = torch.randn(8192, generator=draw).masked_fill(dead, 0.0)
        p.grad[1::50] *= 1e-6  # far below the smallest entry of their block
        bad = (torch.arange(8192) + step) % 97 == 0
        before = p.detach().clone()
        p.grad[bad] = (float("nan"), float("inf"))[step % 2]
        optimizer.step()
        assert torch.equal(p[bad], before[bad])
    assert (p[dead] == 0).all()
    assert (p[~dead] != 0).all()
    assert p.isfinite().all()
    assert float(p.detach().abs().max()) < 20 * 1e-2 * 3 if name != "Adadelta" else True


# ---- what asks for it


def rounding_of(group: dict[str, Any]) -> tuple[str, str]:
    return group["state_rounding"], group["state_rounding_8bit"]


def test_the_argument_is_the_storages_own_default_until_it_is_given() -> None:
    given = [{"params": [p]} for p in parameters()[:3]]
    optimizer = optim.AdamW([given[0], given[1] | {"state_rounding": "stochastic"}])
    optimizer.add_param_group(given[2] | {"state_rounding": "nearest"})
    roundings = [rounding_of(group) for group in optimizer.param_groups]
    assert roundings == [("stochastic", "nearest"), ("stochastic", "stochastic"), ("nearest", "nearest")]
    twin = optim.AdamW([dict(group) for group in optimizer.param_groups])  # groups may be handed on
    assert [rounding_of(group) for group in twin.param_groups] == roundings
    assert rounding_of(optim.AdamW(parameters(), state_rounding=None).param_groups[0]) == ("stochastic", "nearest")


def test_4_bits_are_what_they_were_and_both_may_lie_side_by_side() -> None:
    """Groups of one optimizer: 4 bits by default at random, 8 to nearest."""
    optimizer, params = made(state_bits=4)
    mixed = parameters()
    mixed[1].optimizer_state_bits = 8  # type: ignore[attr-defined]
    other = optim.AdamW(mixed, lr=1e-2, min_8bit_size=100, state_bits=4)
    train(other, mixed, 3)
    plain, eight = made()
    assert torch.equal(mixed[0], params[0])
    assert torch.equal(mixed[1], eight[1])
    explicit = parameters()
    explicit[1].optimizer_state_bits = 8  # type: ignore[attr-defined]
    both = optim.AdamW(explicit, lr=1e-2, min_8bit_size=100, state_bits=4, state_rounding="stochastic")
    train(both, explicit, 3)
    assert torch.equal(explicit[0], params[0])
    assert torch.equal(explicit[1], made(**RANDOM)[1][1])
    assert same(optimizer.state_dict()["state"][0], both.state_dict()["state"][0])
    assert same(plain.state_dict()["state"][1], other.state_dict()["state"][1])


@pytest.mark.parametrize("name", ["Lion", "LARS", "SGD", "Muon"])
def test_rules_without_squares_refuse_what_would_change_nothing(name: str) -> None:
    p = nn.Parameter(torch.zeros(64, 64))
    with pytest.raises(ValueError, match=r"of 8-bit states squares are rounded at random, and this rule has none"):
        getattr(optim, name)([p], lr=1e-2, state_rounding="stochastic")
    getattr(optim, name)([p], lr=1e-2, state_bits=4, state_rounding="stochastic")
    getattr(optim, name)([p], lr=1e-2, state_rounding="nearest")


# ---- checkpoints


def of_before(state_dict: dict[str, Any]) -> dict[str, Any]:
    """As it was written when "stochastic" was the default, whatever the bits."""
    old = copy.deepcopy(state_dict)
    for group in old["param_groups"]:
        group.pop("state_rounding_8bit", None)
        assert group["state_rounding"] == "stochastic"
    return old


def test_a_state_dict_to_nearest_has_the_keys_of_before() -> None:
    """`torch.distributed.checkpoint` misses keys that a file lacks."""
    nearest, at_random = made()[0].state_dict(), made(**RANDOM)[0].state_dict()
    assert same(nearest, of_before(nearest))
    assert at_random["param_groups"][0]["state_rounding_8bit"] == "stochastic"
    assert set(nearest["state"][0]) == set(at_random["state"][0])
    keys = optim.to_torch(at_random)["param_groups"][0]
    assert not {"state_rounding", "state_rounding_8bit"} & set(keys)


def by_loading(old: dict[str, Any], params: list[nn.Parameter]) -> Any:
    optimizer = optim.AdamW(params, lr=1e-2, min_8bit_size=100)
    optimizer.load_state_dict(old)
    return optimizer


def by_unpickling(old: dict[str, Any], params: list[nn.Parameter]) -> Any:
    optimizer = by_loading(old, params)
    groups = [
        {key: value for key, value in group.items() if key != "state_rounding_8bit"} for group in optimizer.param_groups
    ]
    optimizer.__setstate__({"state": optimizer.state, "param_groups": groups, "defaults": optimizer.defaults})
    return optimizer


def by_synchronizing(old: dict[str, Any], params: list[nn.Parameter]) -> Any:
    """ZeroRedundancyOptimizer writes the values of a file into the groups, whatever they are."""
    optimizer = by_loading(old, params)
    for group, saved in zip(optimizer.param_groups, old["param_groups"], strict=False):
        group |= {key: value for key, value in saved.items() if key != "params"}
    return optimizer


@pytest.mark.parametrize("way", [by_loading, by_unpickling, by_synchronizing])
def test_8_bits_of_before_go_on_to_nearest(way: Callable[..., Any]) -> None:
    straight, params = made(steps=6)
    half, halfway = made(steps=3)
    old = from_file(of_before(half.state_dict()))
    again = way(old, halfway)
    train(again, halfway, 3, start=3)
    assert rounding_of(again.param_groups[0]) == ("stochastic", "nearest")
    assert equal(halfway, params)
    assert same(again.state_dict(), straight.state_dict())


def test_a_file_loads_either_way_and_the_option_stays_as_built() -> None:
    nearest, params = made()
    at_random, others = made(**RANDOM)
    at_random.load_state_dict(nearest.state_dict())
    nearest.load_state_dict(made(**RANDOM)[0].state_dict())
    assert rounding_of(at_random.param_groups[0]) == ("stochastic", "stochastic")
    assert rounding_of(nearest.param_groups[0]) == ("stochastic", "nearest")
    train(at_random, others, 1, start=3)
    train(nearest, params, 1, start=3)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_checkpoints_of_trainings_go_on_as_they_were(rounding: str) -> None:
    """A file of before lacks the key; one of now has it and says how its run goes on."""
    model = nn.Linear(70, 90)
    optimizer = optim.AdamW(model.parameters(), state_rounding=rounding)  # type: ignore[arg-type]
    train(optimizer, list(model.parameters()), 1)
    tensors, packed = pack_optimizer(optimizer, model)
    plain = optim.AdamW(model.parameters())
    assert unpack_optimizer(plain, model, tensors, packed)["param_groups"][0]["state_rounding_8bit"] == rounding
    del packed["groups"][0]["options"]["state_rounding_8bit"]
    for built in (optimizer, plain):
        found = unpack_optimizer(built, model, tensors, packed)["param_groups"][0]
        assert found["state_rounding_8bit"] == "nearest"


def test_none_in_a_group_is_the_default_again() -> None:
    """As ZeroRedundancyOptimizer writes it into a group that was added with it."""
    optimizer, params = made(state_bits=4)
    optimizer.param_groups[0]["state_rounding"] = None
    train(optimizer, params, 3, start=3)
    assert rounding_of(optimizer.param_groups[0]) == ("stochastic", "nearest")
    assert equal(params, made(steps=6, state_bits=4)[1])
