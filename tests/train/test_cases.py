# SPDX-License-Identifier: Apache-2.0
"""Several optimizers in one run: who moves what, resume to the bit, weights that pack; what is watched meanwhile."""

from __future__ import annotations

import copy
import csv
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern import deploy
from bittern.binary import BNN, SignWeights
from bittern.nn import BinaryLinear, is_latent_free, is_latent_weight, sign_latent_weights
from bittern.optim import SGD, AdamW, BayesBiNN, Bop, Case, CaseOptimizer, Cases
from bittern.quantizer import Method
from bittern.train import Constant, Linear, Recipe, Steps, train

BOP = Cases(Case(partial(Bop, threshold=1e-6), is_latent_free, lr=1e-2), Case(torch.optim.Adam))
BAYES = Cases(
    Case(partial(BayesBiNN, train_set_size=96, samples=2, temperature=0.5, strength=0.25), is_latent_free, lr=0.1),
    Case(partial(AdamW, min_8bit_size=0)),
)


def net(method: Method = SignWeights) -> nn.Sequential:
    """Signs from the first to the last layer, with norms in between, so that nothing else can learn."""
    torch.manual_seed(0)
    layers = (BinaryLinear(16, 48, bias=False, method=method), nn.BatchNorm1d(48))
    return nn.Sequential(*layers, BinaryLinear(48, 3, bias=False, method=method), nn.BatchNorm1d(3))


def data(count: int = 96) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(count, 16, generator=generator)
    teacher = torch.randn(16, 3, generator=generator)
    dataset = torch.utils.data.TensorDataset(x, (x.sign() @ teacher).argmax(1))
    return dataset, dataset


def recipe(optimizer: Any, epochs: int = 2) -> Recipe:
    return Recipe(epochs=epochs, batch_size=32, learning_rate=1e-2, optimizer=optimizer, schedule=Linear())


def run(folder: Path | None, optimizer: Any, **arguments: Any) -> tuple[nn.Module, Any]:
    model = net()
    return model, train(model, data(), recipe(optimizer), folder=folder, progress=False, **arguments)


def signs(model: nn.Module) -> Tensor:
    return torch.cat([m.weight.detach().flatten() for m in model.modules() if isinstance(m, BinaryLinear)])


@pytest.mark.parametrize("optimizer", [BOP, BAYES], ids=["Bop", "BayesBiNN"])
def test_a_run_goes_on_to_the_bit_and_its_weights_pack(optimizer: Cases, tmp_path: Path) -> None:
    whole, history = run(tmp_path / "whole", optimizer, watch_weights=True)

    class Stopped(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        run(tmp_path / "parts", optimizer, watch_weights=True, checkpoint_steps=1, on_step=stop)
    resumed, found = run(tmp_path / "parts", optimizer, watch_weights=True, resume=True)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert [row.watched for row in found.epochs] == [row.watched for row in history.epochs]
    assert not torch.equal(signs(whole), signs(net()))
    assert set(signs(whole).unique().tolist()) == {-1.0, 1.0}
    if optimizer is BOP:
        x = data()[0].tensors[0][:7]
        assert deploy.verify(deploy.pack(whole, x), whole, x).exact


def test_a_weight_off_the_grid_is_refused_by_its_layers_name() -> None:
    model = net()
    with torch.no_grad():
        model[2].weight[0, 3] = 0.25
    with pytest.raises(deploy.PackError, match="layer '2': SignWeights gave weights off its grid"):
        deploy.pack(model.eval(), torch.randn(2, 16))
    with pytest.raises(ValueError, match=r"layer '0': SignWeights: weights must be -1 or \+1; got .*let optim\.Bop"):
        train(net(), data(), recipe(torch.optim.Adam), progress=False)
    sign_latent_weights(model)
    assert model[2].weight[0, 3] == 1.0
    with pytest.raises(ValueError, match="no layer has a method whose weights are signs"):
        sign_latent_weights(net(BNN))


def test_every_parameter_has_one_owner() -> None:
    model = net()
    with pytest.raises(ValueError, match=r"parameter '0\.weight' is claimed by case 0 \(.*Bop.*\) and case 1"):
        CaseOptimizer(model, (Case(Bop, is_latent_free), Case(Bop, is_latent_weight), Case(torch.optim.Adam)))
    with pytest.raises(ValueError, match=r"parameter '1\.weight' is claimed by none of 1 cases; add a Case"):
        CaseOptimizer(model, (Case(Bop, is_latent_free),))
    with pytest.raises(ValueError, match=r"case 0 \(.*is_latent_free.*\) claims no parameter"):
        CaseOptimizer(net(BNN), (Case(Bop, is_latent_free), Case(torch.optim.Adam)))
    with pytest.raises(ValueError, match="claims=None for one at most; got 2 cases, 2 with None"):
        Cases(Case(Bop), Case(torch.optim.Adam))


def test_cases_are_one_optimizer_to_its_user() -> None:
    """Rates, schedulers, states and state_dict; a file that does not fit changes nothing."""
    model = net()
    optimizer = BOP(lr=0.5, model=model)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-2, 0.5]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)

    def step() -> None:
        optimizer.zero_grad()
        model(torch.ones(4, 16) + torch.arange(4.0)[:, None]).square().sum().backward()
        optimizer.step()

    step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [5e-3, 0.25]
    assert set(optimizer.state) == set(model.parameters())
    saved = optimizer.state_dict()
    assert sorted(saved["state"]) == [0, 1, 2, 3, 4, 5]
    twin = BOP(lr=9.0, model=net())
    twin.load_state_dict(saved)
    assert [group["lr"] for group in twin.param_groups] == [5e-3, 0.25]
    damaged = {**saved, "state": {**saved["state"], 0: {"exp_avg": torch.ones(2)}}}
    with pytest.raises(ValueError, match="does not fit a parameter"):
        twin.load_state_dict(damaged)
    assert torch.equal(twin.state_dict()["state"][0]["exp_avg"], saved["state"][0]["exp_avg"])
    with pytest.raises(RuntimeError, match="groups belong to its cases"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    words = repr(Cases(Case(partial(Bop, threshold=1e-6), is_latent_free, schedule=Constant()), Case(torch.optim.Adam)))
    assert words == (
        "Cases(Case(bittern.optim.bop.Bop(threshold=1e-06), bittern.nn.parameters.is_latent_free, "
        "schedule=Constant(warmup=0.0)), Case(torch.optim.adam.Adam, rest))"
    )


def test_others_step_by_the_mean_gradient_over_the_samples() -> None:
    model = net()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    bayes = partial(BayesBiNN, train_set_size=9, samples=3, temperature=0.5, strength=0.5, seed=4)
    momentum = partial(SGD, momentum=0.9, state_bits=8, min_8bit_size=0)
    optimizer = CaseOptimizer(model, (Case(bayes, is_latent_free), Case(momentum)), lr=0.25)
    x, seen = data()[0].tensors[0], []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(x)[:, 0].sigmoid().mean()
        loss.backward()
        seen.append((float(loss.detach()), model[3].weight.grad.clone()))
        return loss

    found = optimizer.step(closure)
    assert len(seen) == 3
    assert float(found) == pytest.approx(sum(loss for loss, _ in seen) / 3)
    mean = (seen[0][1] + seen[1][1] + seen[2][1]) / 3
    assert torch.allclose(model[3].weight.detach(), before["3.weight"] - 0.25 * mean)
    assert not torch.equal(seen[0][1], seen[1][1])
    twin = CaseOptimizer(net(), (Case(bayes, is_latent_free), Case(momentum)), lr=0.25)
    twin.load_state_dict(optimizer.state_dict())
    assert twin.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        copy.deepcopy(optimizer)


def test_each_case_has_its_schedule() -> None:
    seen: list[list[float]] = []

    class Spy(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            seen[-1].append(self.param_groups[0]["lr"])
            return super().step(closure)

    class SpyBop(Bop):
        def update(self, key: Any, group: dict[str, Any], params: Any) -> None:
            seen.append([group["lr"]])
            super().update(key, group, params)

    own = Steps(((0.5, 0.1),))
    cases = Cases(Case(SpyBop, is_latent_free, lr=1e-3, schedule=own), Case(Spy))
    train(net(), data(64), recipe(cases), progress=False)
    assert [rates[0] for rates in seen] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    assert [rates[1] for rates in seen] == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3])


def test_watched_shares_are_those_of_the_weights(tmp_path: Path) -> None:
    """Against values copied by hand at every step; BNN's clipped weights are dead at their limit too."""
    model = net(BNN)
    with torch.no_grad():
        model[0].weight.mul_(1.2).clamp_(-1, 1)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, BinaryLinear)}
    at = [{name: m.weight.detach().clone() for name, m in layers.items()}]
    dead: list[dict[str, int]] = []

    def record(step: int, loss: float) -> None:
        before = at[-1]
        dead.append({})
        for name, m in layers.items():
            g = m.weight.grad
            assert g is not None
            pinned = (before[name].abs() == 1.0) & (g.sign() == -before[name].sign())
            dead[-1][name] = int(((g == 0) | pinned).sum())
        at.append({name: m.weight.detach().clone() for name, m in layers.items()})

    sgd = partial(torch.optim.SGD, momentum=0.0)
    settings = Recipe(learning_rate=2.0, schedule=Constant(), optimizer=sgd, epochs=2, batch_size=32)
    history = train(model, data(), settings, folder=tmp_path, progress=False, watch_weights=True, on_step=record)
    total = sum(m.weight.numel() for m in layers.values())
    for epoch, row in enumerate(history.epochs):
        found, steps = dict(row.watched), range(3 * epoch, 3 * epoch + 3)
        sums = dict.fromkeys(layers, 0)
        for name, m in layers.items():
            sums[name] = sum(int((at[i][name].ge(0) != at[i + 1][name].ge(0)).sum()) for i in steps)
            assert found[f"flips/{name}"] == pytest.approx(sums[name] / 3 / m.weight.numel())
            of_layer = sum(dead[i][name] for i in steps)
            assert found[f"dead/{name}"] == pytest.approx(of_layer / 3 / m.weight.numel())
            moved = (at[3 * epoch][name].ge(0) != at[3 * epoch + 3][name].ge(0)).float().mean()
            assert found[f"epoch_flips/{name}"] == pytest.approx(float(moved))
        assert found["flips"] == pytest.approx(sum(sums.values()) / 3 / total)
        assert found["flips"] > 0.0
        assert found["dead"] > 0.0
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["flips"]) for row in rows] == [dict(row.watched)["flips"] for row in history.epochs]
    assert "dead/2" in rows[0]
    with pytest.raises(ValueError, match="watch_weights needs weights of few bits"):
        train(nn.Linear(16, 3), data(), recipe(sgd), progress=False, watch_weights=True)


def test_the_watch_changes_nothing(tmp_path: Path) -> None:
    watched, with_rows = run(None, BOP, watch_weights=True)
    plain, rows = run(tmp_path, BOP)
    assert torch.equal(signs(watched), signs(plain))
    assert [row.watched for row in rows.epochs] == [(), ()]
    assert with_rows.final.train_loss == rows.final.train_loss
    assert (tmp_path / "log.csv").read_text().splitlines()[0].endswith(",seconds")
