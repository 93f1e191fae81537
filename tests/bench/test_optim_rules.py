# SPDX-License-Identifier: Apache-2.0
"""Optimizers beside each other: the search of a rate, what is judged, that a report resumes and what its table says."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from bittern import data, optim
from bittern.bench.optim import rules as bench
from bittern.bench.optim.rules import Rule, RuleRun, RulesReport, RuleTask, search_rate
from bittern.bench.optim.training import gpt_task
from bittern.models import GPTShape

TEXT = data.characters(data.sample_text(300))
WHERE = RuleTask(TEXT, partial(gpt_task, steps=3, shape=GPTShape(1, 32, 1, 16), batch=4))


@pytest.mark.parametrize("power", [-3, -1, 0, 2])
def test_the_search_walks_to_the_best_rate(power: int) -> None:
    """The best one has a worse one on both sides; one that diverges is worse than any."""
    best = 0.01 * bench.FACTOR**power

    def loss(rate: float) -> float | None:
        return None if rate > 3 * best * bench.FACTOR else abs(torch.tensor(rate / best).log().item())

    found, rate = search_rate(loss, 0.01)
    assert rate == pytest.approx(best)
    rates = list(found)
    assert rates == sorted(rates)
    assert 0 < rates.index(rate) < len(rates) - 1


def test_the_search_leaves_rates_that_diverge() -> None:
    found, rate = search_rate(lambda rate: None if rate > 0.01 else -rate, 0.3)
    assert (rate, found[rate]) == (pytest.approx(0.3 / 10**1.5), -rate)


def test_the_search_ends() -> None:
    found, rate = search_rate(lambda rate: -rate, 1.0)
    assert len(found) == bench.MOST_RATES
    assert rate == max(found)
    with pytest.raises(ValueError, match=r"every rate from 1.0 on diverges"):
        search_rate(lambda _: None, 1.0)


def test_a_rate_is_searched_on_training_text_alone() -> None:
    search = WHERE.search()
    task = WHERE.task(TEXT)
    draw = torch.Generator().manual_seed(0)
    kept = round(len(TEXT.train) * 0.9)
    whole = WHERE.task(data.TextData(TEXT.train[:kept], TEXT.train[kept:], TEXT.vocabulary))
    model = task.make_model().eval()
    with torch.no_grad():
        assert search.evaluate(model) == whole.evaluate(model) != task.evaluate(model)
    assert torch.equal(search.batch(draw)[0], whole.batch(torch.Generator().manual_seed(0))[0])


def test_the_average_of_asgd_is_judged() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.ASGD(model.parameters(), lr=0.1, t0=0)
    for _ in range(3):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
    before = model.weight.detach().clone()
    with bench.averaged(optimizer, model):
        assert torch.equal(model.weight, optimizer.state[model.weight]["ax"])
        assert not torch.equal(model.weight, before)
    assert torch.equal(model.weight, before)


def test_a_report_goes_on_where_it_stopped(tmp_path: Path) -> None:
    out = tmp_path / "rules.json"
    told: list[RuleRun] = []
    rules = [Rule("soap", optim.SOAP), Rule("free", partial(optim.SGDScheduleFree, lr=0.1))]
    one = bench.run([WHERE], rules[:1], command="test", out=out, seeds=(0, 1), falling=True, on_run=told.append)
    two = bench.run([WHERE], rules, command="test", out=out, seeds=(0, 1), falling=True, on_run=told.append)
    assert [run.rule for run in told] == ["soap", "free"]
    assert two.runs[:1] == one.runs
    assert len(two.runs[0].rates) == len(two.runs[0].losses) >= 3
    assert "| GPT, characters | 3 | soap |" in two.page()
    assert "half a cosine" in two.page()


def test_a_divergence_is_said() -> None:
    run = RuleRun("GPT", "loss", 3, "rule", (0.1,), (1.0,), 0.1, (0, 1), (1.5, None), 1_000_000)
    assert "| diverged | 1.500, diverged | 1.00 MB |" in RulesReport("x", bench.this_machine(), False, (run,)).page()
