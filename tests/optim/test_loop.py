# SPDX-License-Identifier: Apache-2.0
"""What a training loop does with an optimizer: schedulers, closures, scalers, hooks, compile, the backward pass."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from bittern import optim
from optim._training import parameters, train


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 3))


def _loss(model: nn.Module, step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 20, generator=generator)
    return nn.functional.cross_entropy(model(x), x[:, :3].argmax(1))


def _run(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 10, scheduler: Any = None) -> list[float]:
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = _loss(model, step)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(float(loss.detach()))
    return losses


def _equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("tensor", [False, True])
def test_schedulers_move_the_learning_rate(tensor: bool) -> None:
    models = [_model(), _model()]
    lr = torch.tensor(1e-2) if tensor else 1e-2
    ours = optim.AdamW(models[0].parameters(), lr=lr, state_bits=32)
    theirs = torch.optim.AdamW(models[1].parameters(), lr=1e-2)
    for model, optimizer in zip(models, (ours, theirs), strict=True):
        _run(model, optimizer, 10, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10))
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-4, atol=1e-5)


def test_one_cycle_moves_the_betas() -> None:
    model = _model()
    optimizer = optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=10)
    losses = _run(model, optimizer, 10, scheduler)
    assert losses[-1] < losses[0]


def test_a_closure_is_called_with_gradients_and_its_loss_returned() -> None:
    model = _model()
    optimizer = optim.SGD(model.parameters(), momentum=0.9)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = _loss(model, 0)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    before = float(closure().detach())
    assert float(optimizer.step(closure).detach()) == before
    assert float(closure().detach()) < before


def test_grad_scaler_skips_steps_that_overflowed() -> None:
    model, twin = _model(), _model()
    a, b = optim.AdamW(model.parameters()), optim.AdamW(twin.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(4):
        a.zero_grad()
        scaler.scale(_loss(model, step)).backward()
        if step == 2:
            next(model.parameters()).grad[0, 0] = float("inf")  # type: ignore[index]
        scaler.step(a)
        scaler.update()
        if step != 2:
            b.zero_grad()
            _loss(twin, step).backward()  # type: ignore[no-untyped-call]
            b.step()
    assert all(int(a.state[p]["step"]) == 3 for p in model.parameters())
    assert _equal(model, twin)  # scales are powers of two


def test_hooks_and_zero_grad() -> None:
    model = _model()
    optimizer = optim.Lion(model.parameters())
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    _run(model, optimizer, 2)
    assert calls == ["pre", "post"] * 2
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_a_compiled_training_step_updates_the_same() -> None:
    models = [_model(), _model()]
    for index, model in enumerate(models):
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)

        def step(x: torch.Tensor, model: nn.Module = model, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

        run = torch.compile(step, backend="eager") if index == 0 else step
        for seed in range(3):
            run(torch.randn(8, 20, generator=torch.Generator().manual_seed(seed)))
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)


def test_autograd_notices_that_a_parameter_changed() -> None:
    p = nn.Parameter(torch.ones(10))
    optimizer = optim.SGD([p], lr=0.1)
    loss = (p * p).sum()
    p.grad = torch.ones(10)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", ["AdamW", "SGD", "LAMB"])
def test_steps_in_the_backward_pass_equal_steps_after_it(name: str) -> None:
    models = [_model(), _model()]
    losses = []
    for index, model in enumerate(models):
        groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 3e-3}]
        extra: dict[str, Any] = {"momentum": 0.9} if name == "SGD" else {}
        optimizer = getattr(optim, name)(groups, lr=1e-2, **extra)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        if index == 0:
            optim.fuse_into_backward(model, optimizer)
        losses.append(_run(model, optimizer, 6, scheduler))
        if index == 0:
            assert all(p.grad is None for p in model.parameters())
    assert losses[0] == losses[1]
    assert _equal(*models)


def test_steps_in_the_backward_pass_can_be_removed() -> None:
    model = _model()
    optimizer = optim.AdamW(model.parameters())
    with optim.fuse_into_backward(model, optimizer):
        with pytest.raises(RuntimeError, match="already steps"):
            optim.fuse_into_backward(model, optimizer)
        with pytest.raises(RuntimeError, match="takes no closure"):
            optimizer.step(lambda: 0.0)
        scaler = torch.amp.GradScaler("cpu")
        scaler.scale(torch.ones(()))
        with pytest.raises(RuntimeError, match="before GradScaler can unscale them"):
            scaler.step(optimizer)
        _loss(model, 0).backward()  # type: ignore[no-untyped-call]
        with pytest.raises(ValueError, match="no parameter has a gradient"):
            optim.clip_grad_percentile_(model.parameters(), optim.GradientNorms(), 5)
    _loss(model, 0).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in model.parameters())
    optimizer.step()
    assert all(int(optimizer.state[p]["step"]) == 2 for p in model.parameters())


def test_steps_in_the_backward_pass_refuse_to_refuse_whole_steps() -> None:
    model = _model()
    with pytest.raises(ValueError, match='nonfinite="raise" refuses a whole step'):
        optim.fuse_into_backward(model, optim.AdamW(model.parameters(), nonfinite="raise"))


def test_fuse_into_backward_wants_every_parameter_and_our_optimizer() -> None:
    model = _model()
    with pytest.raises(ValueError, match=r"'2\.weight' is not in the optimizer"):
        optim.fuse_into_backward(model, optim.AdamW(model[0].parameters()))
    with pytest.raises(TypeError, match="got Adam"):
        optim.fuse_into_backward(model, torch.optim.Adam(model.parameters()))  # type: ignore[arg-type]


def test_percentile_clipping_follows_the_last_hundred_norms() -> None:
    p = nn.Parameter(torch.zeros(4))
    history = optim.GradientNorms()
    norms = [3.0, 1.0, 2.0, 5.0, 4.0]
    ring = [9.0] * 100
    for step, norm in enumerate(norms * 30):
        p.grad = torch.tensor([norm, 0.0, 0.0, 0.0])
        ring[step % 100] = norm**2
        limit = sorted(ring)[30] ** 0.5
        found = optim.clip_grad_percentile_([p], history, 30)
        assert float(found) == norm
        assert float(p.grad.norm()) == pytest.approx(min(norm, limit))
    again = optim.GradientNorms()
    again.load_state_dict(history.state_dict())
    for one in (history, again):
        p.grad = torch.tensor([50.0, 0.0, 0.0, 0.0])
        optim.clip_grad_percentile_(p, one, 30)
        assert float(p.grad.norm()) == pytest.approx(limit)
    assert torch.equal(history.squared, again.squared)  # type: ignore[arg-type]
    before = history.squared.clone()  # type: ignore[union-attr]
    p.grad = torch.full((4,), float("nan"))
    optim.clip_grad_percentile_(p, history, 30)
    assert torch.equal(history.squared, before)  # type: ignore[arg-type]
    assert p.grad.isnan().all()
    for bad in (0, 100, 5.5):
        with pytest.raises(ValueError, match="from 1 to 99"):
            optim.clip_grad_percentile_(p, history, bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be"):
        history.load_state_dict({"count": 1, "squared": torch.zeros(7)})


def test_param_groups_ask_per_parameter() -> None:
    model = nn.Sequential(nn.Embedding(50, 100), nn.Linear(100, 100), nn.LayerNorm(100))
    model[2].weight.requires_grad_(False)
    model.append(nn.Linear(100, 100))
    model[3].weight = model[1].weight
    model[0].optimizer_state_bits = 32

    def override(name: str, module: nn.Module, p: torch.Tensor) -> dict[str, Any] | None:
        return {"weight_decay": 0.0} if name.endswith("bias") else None

    groups = optim.param_groups(model, override)
    assert [(len(g["params"]), {k: v for k, v in g.items() if k != "params"}) for g in groups] == [
        (1, {"state_bits": 32}),
        (1, {}),
        (3, {"weight_decay": 0.0}),
    ]
    optimizer = optim.AdamW(groups)
    train(optimizer, [p for g in groups for p in g["params"]], 1)
    assert optimizer.state[model[0].weight]["exp_avg"].dtype == torch.float32
    assert optimizer.state[model[1].weight]["exp_avg"].dtype == torch.uint8
    with pytest.raises(TypeError, match="mapping or None"):
        optim.param_groups(model, lambda *_: 3)  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match='not "params"'):
        optim.param_groups(model, lambda *_: {"params": []})


def test_importing_optim_is_cheap_and_loads_no_distributed_tensor() -> None:
    code = (
        "import torch, sys; before = set(sys.modules); import bittern.optim; "
        "print(*(m for m in set(sys.modules) - before if m.startswith(('torch.distributed', 'sklearn', 'torchao'))))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


def test_the_same_parameters_in_two_orders_of_calls() -> None:
    """Two optimizers, and interleaved subsets, never share a counter."""
    params = parameters()
    a, b = optim.SGD(params, momentum=0.9), optim.Adam(params)
    train(a, params, 1)
    train(b, params, 2)
    assert all(int(b.state[p]["step"]) == 2 for p in params)
