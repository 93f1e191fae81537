# SPDX-License-Identifier: Apache-2.0
"""capturable: counters and scalars as tensors give the steps that Python numbers give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bittern import optim
from bittern.optim import _rule_optimizer
from optim._training import parameters, relative_error, train

RULES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", {"maximize": True}),
    ("AdamW", {"state_rounding": "stochastic"}),
    ("NAdam", {}),
    ("RAdam", {}),
    ("Adagrad", {"lr_decay": 0.01}),
    ("RMSprop", {"centered": True, "momentum": 0.5}),
    ("Lion", {}),
    ("Adadelta", {}),
    ("Adamax", {}),
    ("Rprop", {}),
    ("ASGD", {"t0": 3}),
    ("LAMB", {}),
    ("LARS", {"momentum": 0.9}),
    ("AdEMAMix", {"t_alpha": 20, "t_beta3": 20}),
    ("Adan", {}),
]


def capturable_rules() -> list[tuple[str, dict[str, Any]]]:
    """Those that take the argument."""
    return [(name, options) for name, options in RULES if "capturable" in getattr(optim, name).__init__.__annotations__]


@pytest.mark.parametrize(("name", "options"), capturable_rules(), ids=lambda value: str(value))
@pytest.mark.parametrize("lr", [1e-2, torch.tensor(1e-2)], ids=["number", "tensor"])
def test_counters_on_the_device(name: str, options: dict[str, Any], lr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the device is the CPU, which is otherwise refused."""
    monkeypatch.setattr(_rule_optimizer, "HOST", "no device")
    params, others = parameters(), parameters()
    before = [p.detach().clone() for p in params]
    train(getattr(optim, name)(params, lr=lr, capturable=True, **options), params, 30)
    train(getattr(optim, name)(others, lr=1e-2, **options), others, 30)
    ours = [p.detach() - b for p, b in zip(params, before, strict=True)]
    theirs = [p.detach() - b for p, b in zip(others, before, strict=True)]
    assert relative_error(ours, theirs) < 1e-3  # a scalar may differ in its last bit, and then a code


def test_most_rules_have_it() -> None:
    assert len(capturable_rules()) >= 9


class NoWaiting(TorchDispatchMode):
    """Refuses what would wait for the device, or copy from the host, were these tensors on one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.name() not in ("aten::_local_scalar_dense", "aten::lift_fresh"), func.name()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "options"), capturable_rules(), ids=lambda value: str(value))
def test_scalars_stay_on_the_device(name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rule_optimizer, "HOST", "no device")
    plain, rows = _rule_optimizer.RuleOptimizer._device_rows, []

    def watched(*arguments: Any) -> torch.Tensor:
        with NoWaiting():
            rows.append(plain(*arguments))
        return rows[-1]

    monkeypatch.setattr(_rule_optimizer.RuleOptimizer, "_device_rows", watched)
    params = parameters()
    train(getattr(optim, name)(params, lr=torch.tensor(1e-2), capturable=True, **options), params, 3)
    assert len(rows) == 3
