# SPDX-License-Identifier: Apache-2.0
"""What `load_state_dict` takes can be stepped, and what it refuses changes nothing: bad and random state_dicts."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern import optim
from optim._training import parameters, same, train

SHAPES = ((37, 53), (20,))
RULES: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9},
    "AdamW": {"amsgrad": True},
    "NAdam": {},
    "RMSprop": {"centered": True, "momentum": 0.9},
    "Adafactor": {"momentum": 0.9},
    "Muon": {},
    "AdEMAMix": {"t_alpha": 10, "t_beta3": 10},
    "Adan": {},
}


def _make(name: str, bits: int, steps: int = 1, **extra: Any) -> tuple[Any, list[nn.Parameter]]:
    params = parameters(SHAPES[:1] if name == "Muon" else SHAPES)
    optimizer = getattr(optim, name)(params, state_bits=bits, min_8bit_size=100, **RULES.get(name, {}) | extra)
    train(optimizer, params, steps)
    return optimizer, params


def _first(state_dict: dict[str, Any], key: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    changed = copy.deepcopy(state_dict)
    changed["state"][0][key] = change(changed["state"][0][key])
    return changed


@pytest.mark.parametrize(
    ("name", "bits", "key", "change", "message"),
    [
        ("AdamW", 8, "exp_avg_absmax", Tensor.half, "must be float32; got torch.float16"),
        ("AdamW", 8, "exp_avg_absmax", lambda x: x[:-1], "it does not fit a parameter"),
        ("AdamW", 8, "exp_avg_absmax", lambda x: x * float("nan"), "not finite"),
        ("AdamW", 8, "exp_avg_absmax", lambda x: -x, "at least 0"),
        ("AdamW", 8, "exp_avg_absmax", Tensor.tolist, "must be a tensor; got list"),
        ("AdamW", 8, "exp_avg_8bit", Tensor.float, "it does not fit"),
        ("AdamW", 8, "exp_avg_8bit", lambda x: x[:, :-1], "it does not fit"),
        ("AdamW", 8, "exp_avg_8bit", lambda x: x.to("meta"), "with contents"),
        ("AdamW", 8, "exp_avg_8bit", Tensor.to_sparse, "must be a dense real tensor"),
        ("AdamW", 4, "exp_avg_4bit_ratio", lambda x: x[:, 1:], "it does not fit"),
        ("AdamW", 32, "exp_avg", lambda x: x + 1j, "must be a dense real tensor"),
        ("AdamW", 32, "exp_avg", lambda x: x.double() * 1e300, "not finite"),
        ("AdamW", 32, "exp_avg_sq", lambda x: -x, "at least 0"),
        ("AdamW", 32, "step", lambda x: -x, "whole number from 0"),
        ("AdamW", 32, "step", lambda x: x + 0.5, "whole number from 0"),
        ("AdamW", 32, "step", lambda x: torch.ones(2), "one number"),
        ("AdamW", 32, "step", lambda x: "1", "one number; got str"),
        ("NAdam", 8, "mu_product", lambda x: x + 1, "from 0 to 1"),
        ("Adafactor", 8, "row_var", lambda x: x.flatten()[:-2], r"floats \[37, 1\]"),
        ("Adafactor", 8, "col_var", lambda x: -x, "at least 0"),
        ("Adafactor", 8, "col_var", lambda x: None, "'col_var' is missing"),
    ],
)
def test_bad_states(name: str, bits: int, key: str, change: Callable[[Any], Any], message: str) -> None:
    optimizer, _ = _make(name, bits)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(_first(before, key, change), requantize=True)
    assert same(optimizer.state_dict(), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("state"), "needs 'state'"),
        (lambda d: d.update(param_groups=3), "needs 'param_groups'"),
        (lambda d: d["param_groups"].append(3), r"param_groups\[1\] of a state_dict must be a dictionary"),
        (lambda d: d["param_groups"][0].pop("params"), "with a list 'params'"),
        (lambda d: d["param_groups"][0].update(params=[0, 0]), "different numbers"),
        (lambda d: d["state"].update({0: 5}), "state 0 must be a dictionary of tensors; got int"),
        (lambda d: d["state"][0].pop("exp_avg_absmax"), "without their scales"),
        (lambda d: d["state"][0].update(exp_avg=d["state"][0]["exp_avg_8bit"]), "'exp_avg' twice"),
        (lambda d: d["state"][0].update(exp_avg_4bit=d["state"][0].pop("exp_avg_8bit")), "named as codes of 4 bits"),
        (lambda d: d["state"][0].update(other=1), "no 'other'"),
        (lambda d: d["param_groups"][0].update(lr="0.1"), "lr must be of the kind of"),
        (lambda d: d["param_groups"][0].update(lr=10**400), "lr must be of the kind of"),
        (lambda d: d["param_groups"][0].update(lr=float("nan")), "lr must be of the kind of"),
        (lambda d: d["param_groups"][0].update(lr=-1.0), "lr must be at least 0"),
        (lambda d: d["param_groups"][0].update(betas=(0.9,)), "betas must be of the kind of"),
        (lambda d: d["param_groups"][0].update(betas=(0.9, 1.0)), "must be in"),
        (lambda d: d["param_groups"][0].update(nonfinite="ignore"), "nonfinite must be one of"),
        (lambda d: d["param_groups"][0].update(differentiable=True), "differentiable=True is not supported"),
    ],
)
def test_bad_dictionaries(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    optimizer, _ = _make("AdamW", 8)
    before = copy.deepcopy(optimizer.state_dict())
    changed = copy.deepcopy(before)
    change(changed)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(changed)
    assert same(optimizer.state_dict(), before)


def test_states_of_16_bits_are_widened() -> None:
    """torch.optim.Adafactor keeps the means of a bfloat16 parameter in bfloat16."""
    params = [nn.Parameter(p.bfloat16()) for p in parameters(SHAPES)]
    theirs = torch.optim.Adafactor(params)
    train(theirs, params, 1)
    ours = optim.Adafactor(params)
    ours.load_state_dict(theirs.state_dict())
    assert ours.state[params[0]]["row_var"].dtype == torch.float32
    train(ours, params, 1)


VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**40, 10**400, 0.5, float("nan"), float("inf"), "x", [], [1, 2], (0.5, 0.5), {}, object()),
    *(torch.zeros(()), torch.zeros(3), torch.full((37, 53), float("nan")), torch.zeros(37, 53, dtype=torch.uint8)),
    *(torch.zeros(37, 53, dtype=torch.complex64), torch.zeros(37, 53, device="meta"), torch.zeros(0)),
)


def _tensor_changes(draw: random.Random, x: Tensor) -> Any:
    changes: tuple[Callable[[Tensor], Any], ...] = (
        *(Tensor.half, Tensor.double, Tensor.float, Tensor.byte, Tensor.flatten, lambda x: x.mT, Tensor.tolist),
        *(lambda x: x[..., :-1], lambda x: x[:1], lambda x: x[None], lambda x: x[..., ::2], lambda x: -x.float()),
        *(lambda x: x * 3, lambda x: x.clone().fill_(0), lambda x: x.expand(2, *x.shape), lambda x: x.to_sparse()),
        lambda x: x.reshape(-1)[:1].expand(x.shape),
    )
    try:
        return draw.choice(changes)(x)
    except (RuntimeError, IndexError):
        return draw.choice(VALUES)


def _mutated(draw: random.Random, state_dict: dict[str, Any]) -> dict[str, Any]:
    """One to three changes anywhere: a value replaced, removed, renamed or bent."""
    changed = copy.deepcopy(state_dict)
    for _ in range(draw.randint(1, 3)):
        groups = changed.get("param_groups")
        places = [changed, *(g for g in (groups if isinstance(groups, list) else ()) if isinstance(g, dict))]
        if isinstance(changed.get("state"), dict):
            places += [changed["state"], *(4 * [s for s in changed["state"].values() if isinstance(s, dict)])]
        place = draw.choice([p for p in places if p] or [changed])
        if not place:
            break
        key = draw.choice(list(place))
        what = draw.randrange(4)
        if what == 0:
            place[key] = draw.choice(VALUES)
        elif what == 1:
            del place[key]
        elif what == 2:
            place[
                draw.choice([*place, "exp_avg", "exp_avg_8bit", "exp_avg_4bit", "exp_avg_4bit_ratio", "compensation"])
            ] = place.pop(key)
        elif isinstance(place[key], Tensor):
            place[key] = _tensor_changes(draw, place[key])
    return changed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("requantize", [False, True])
@pytest.mark.parametrize("bits", [32, 8, 4])
@pytest.mark.parametrize("name", RULES)
def test_random_changes(name: str, bits: int, requantize: bool) -> None:
    optimizer, params = _make(name, bits)
    original = copy.deepcopy(optimizer.state_dict())
    values = [p.detach().clone() for p in params]
    draw = random.Random(f"{name}{bits}{requantize}")
    refused = 0
    for _ in range(60):
        changed = _mutated(draw, original)
        try:
            optimizer.load_state_dict(changed, requantize=requantize)
        except ValueError:
            refused += 1
            assert same(optimizer.state_dict()["state"], original["state"])
            continue
        train(optimizer, params, 1)
        optimizer.state_dict()
        for p, value in zip(params, values, strict=True):
            p.data.copy_(value)
        optimizer.load_state_dict(original, requantize=True)
    assert 0 < refused < 60
