# SPDX-License-Identifier: Apache-2.0
"""Bop and BayesBiNN against the papers' formulas in plain loops, and what they refuse."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from bittern import optim
from bittern.optim.bop import flipped


def _signs(*shape: int) -> nn.Parameter:
    generator = torch.Generator().manual_seed(0)
    return nn.Parameter(torch.randint(2, shape, generator=generator) * 2.0 - 1.0)


def _gradients(p: Tensor, steps: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(p.shape, generator=generator) for _ in range(steps)]


def test_bop_is_algorithm_2_of_the_paper() -> None:
    """gamma and tau are powers of two and gradients small integers, so that float32 is exact in the mean."""
    p = _signs(3, 5)
    optimizer = optim.Bop([p], lr=0.5, threshold=0.25)
    w, m = p.detach().double().flatten().tolist(), [0.0] * 15
    flips = 0
    for step in range(9):
        g = torch.tensor([[(7 * i + 3 * step) % 5 - 2.0 for i in range(5 * k, 5 * k + 5)] for k in range(3)])
        p.grad = g
        optimizer.step()
        for i, gradient in enumerate(g.flatten().tolist()):
            m[i] = 0.5 * m[i] + 0.5 * gradient
            if abs(m[i]) > 0.25 and math.copysign(1.0, m[i]) == w[i]:
                w[i], flips = -w[i], flips + 1
        assert p.detach().flatten().tolist() == w
        assert optimizer.state[p]["exp_avg"].flatten().tolist() == m
    assert flips > 20


def test_a_product_that_is_the_threshold_stays_or_becomes_plus_one() -> None:
    w = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    mean = torch.tensor([0.25, -0.25, 0.5, -0.5, -0.5, 0.5, 0.0])
    assert flipped(w, mean, 0.25, "paper").tolist() == [1.0, -1.0, -1.0, 1.0, 1.0, -1.0, 1.0]
    assert flipped(w, mean, 0.25, "released").tolist() == [1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0]
    assert flipped(-w[:1], torch.zeros(1), 0.0, "paper").tolist() == [-1.0]
    assert flipped(-w[:1], torch.zeros(1), 0.0, "released").tolist() == [1.0]


@pytest.mark.parametrize("bits", [32, 8])
def test_bop_goes_on_from_a_file_and_its_codes_follow_the_mean(bits: int) -> None:
    p = _signs(70, 90)
    whole = optim.Bop([p], lr=0.05, threshold=1e-3, state_bits=bits)
    gradients = _gradients(p, 8)
    for g in gradients[:5]:
        p.grad = g
        whole.step()
    twin = nn.Parameter(p.detach().clone())
    resumed = optim.Bop([twin], lr=0.9, state_bits=bits)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for g in gradients[5:]:
        for q, optimizer in ((p, whole), (twin, resumed)):
            q.grad = g
            optimizer.step()
    assert torch.equal(p, twin)
    assert set(p.detach().unique().tolist()) == {-1.0, 1.0}
    exact, start = torch.zeros(70, 90), _signs(70, 90).detach()
    for g in gradients:
        exact = torch.lerp(g, exact, 0.95)
        start = flipped(start, exact, 1e-3, "paper")
    assert (start != p).float().mean() < (0.0 if bits == 32 else 0.05) + 1e-9
    assert p.dtype == torch.float32
    assert (whole.state[p]["exp_avg"].dtype == torch.uint8) == (bits == 8)


def test_bop_keeps_elements_whose_gradient_is_not_finite_and_takes_odd_parameters() -> None:
    p, empty = nn.Parameter(torch.ones(4)), nn.Parameter(torch.empty(0))
    half = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = optim.Bop([p, empty, half], lr=1.0)
    p.grad = torch.tensor([math.nan, math.inf, 1.0, -1.0])
    empty.grad, half.grad = torch.empty(0), torch.tensor([1.0, -1.0, 0.0], dtype=torch.bfloat16)
    optimizer.step()
    assert p.tolist() == [1.0, 1.0, -1.0, 1.0]
    assert half.tolist() == [-1.0, 1.0, 1.0]
    assert optimizer.state[p]["exp_avg"].tolist() == [0.0, 0.0, 1.0, -1.0]
    p.grad = None
    optim.Bop([p], maximize=True).step()


def test_what_bop_refuses() -> None:
    with pytest.raises(ValueError, match=r"must be -1 or \+1; got 0.5 in one of \[2\].*start_latent_weights"):
        optim.Bop([nn.Parameter(torch.tensor([1.0, 0.5]))])
    for options, message in (
        ({"weight_decay": 1e-4}, "weight_decay must be 0"),
        ({"state_bits": 4}, "state_bits must be 32 or 8"),
        ({"tie": "none"}, "tie must be one of"),
        ({"rounding": "kahan"}, "rounding must be \"?'?nearest"),
        ({"threshold": -1.0}, "threshold must be at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            optim.Bop([_signs(3)], **options)  # type: ignore[arg-type]
    odd = _signs(70, 90)
    odd.optimizer_state_bits = 4  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="state_bits must be 32 or 8"):
        optim.Bop([odd])
    p = _signs(3)
    p.grad = torch.ones(3)
    with pytest.raises(ValueError, match=r"at most 1; got 1\.5"):
        optim.Bop([p], lr=1.5).step()


def _bayes(p: nn.Parameter, **options: object) -> optim.BayesBiNN:
    return optim.BayesBiNN([p], 10, lr=0.05, temperature=0.5, strength=0.75, seed=3, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("samples", [0, 1, 3])
def test_bayes_binn_is_the_natural_gradient_of_its_samples(samples: int, momentum: float) -> None:
    """The update in float64, from the samples that the closure saw."""
    p = _signs(2, 3)
    optimizer = _bayes(p, samples=samples, momentum=momentum, kl_weight=0.5)
    target = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
    lam, m = p.detach().double() * 0.75, torch.zeros(2, 3, dtype=torch.float64)
    for step in range(1, 4):
        seen: list[Tensor] = []

        def closure(seen: list[Tensor] = seen) -> Tensor:
            optimizer.zero_grad()
            seen.append(p.detach().double().clone())
            loss = (target * p + 0.5 * p.square()).sum()
            loss.backward()
            return loss

        found = optimizer.step(closure)
        assert len(seen) == max(1, samples)
        assert len({tuple(w.flatten().tolist()) for w in seen}) == len(seen)
        slopes = [target.double() + w for w in seen]
        factors = [(1 - w**2 + 1e-10) / (0.5 * (1 - lam.tanh() ** 2 + 1e-10)) for w in seen]
        if not samples:
            assert torch.allclose(seen[0], lam.tanh(), atol=1e-6)
            factors = [torch.ones_like(lam)]
        mean = sum(s * g for s, g in zip(factors, slopes, strict=True)) / len(seen)
        m = momentum * m + (1 - momentum) * (10 * mean + 0.5 * lam)
        lam = lam - 0.05 * m / (1 - momentum**step)
        assert torch.allclose(optimizer.state[p]["natural"].double(), lam, rtol=1e-4, atol=1e-5)
        assert torch.equal(p.detach(), torch.where(lam >= 0, 1.0, -1.0).float())
        assert float(found) == pytest.approx(
            float(sum((target.double() * w + 0.5 * w**2).sum() for w in seen)) / len(seen), rel=1e-4
        )


def test_samples_are_logistic_and_follow_the_seed() -> None:
    """At temperature 1, atanh(w) - lambda is logistic with scale 1 / 2: mean 0, variance pi^2 / 12."""

    def drawn(seed: int) -> Tensor:
        p = nn.Parameter(torch.ones(20_000))
        optimizer = optim.BayesBiNN([p], 1, lr=0.0, temperature=1.0, strength=0.25, seed=seed)
        seen: list[Tensor] = []

        def closure() -> float:
            p.grad = torch.zeros_like(p)
            seen.append(p.detach().clone())
            return 0.0

        optimizer.step(closure)
        optimizer.step(closure)
        assert not torch.equal(seen[0], seen[1])
        return seen[0]

    first = drawn(1)
    noise = first.double().atanh() - 0.25
    spread = math.pi / math.sqrt(12)
    assert abs(float(noise.mean())) < 5 * spread / math.sqrt(20_000)
    assert float(noise.std()) == pytest.approx(spread, rel=0.03)
    assert torch.equal(drawn(1), first)
    assert abs(float(torch.corrcoef(torch.stack([drawn(2), first]))[0, 1])) < 5 / math.sqrt(20_000)


def test_bayes_binn_goes_on_from_a_file_with_its_prior_and_judges_by_the_mean() -> None:
    p = _signs(70, 90)
    run = _bayes(p, momentum=0.9, evaluate="mean")
    twin = nn.Parameter(p.detach().clone())
    other = optim.BayesBiNN([twin], 10, momentum=0.9, evaluate="mean", seed=99)

    def step(optimizer: optim.BayesBiNN, q: nn.Parameter, shift: float) -> None:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = (q - shift).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)

    step(run, p, 0.5)
    run.keep_as_prior()
    step(run, p, -0.5)
    with torch.no_grad():
        twin.copy_(p)
    other.load_state_dict(copy.deepcopy(run.state_dict()))
    step(run, p, 0.25)
    step(other, twin, 0.25)
    assert torch.equal(p, twin)
    assert torch.equal(p.detach(), run.state[p]["natural"].tanh())
    assert torch.equal(next(run.means())[1], p.detach())


def test_what_bayes_binn_refuses() -> None:
    p = _signs(3)
    optimizer = _bayes(p)
    with pytest.raises(RuntimeError, match=r"call step\(closure\)"):
        optimizer.step()

    def broken() -> float:
        raise KeyError("broken")

    before = p.detach().clone()
    with pytest.raises(KeyError, match="broken"):
        optimizer.step(broken)
    assert torch.equal(p, before)
    for options, message in (
        ({"samples": -1}, "samples must be a whole number of at least 0"),
        ({"momentum": 1.0}, "momentum must be in"),
        ({"evaluate": "both"}, "evaluate must be"),
        ({"weight_decay": 0.1}, "use kl_weight"),
        ({"state_bits": 4}, "must be 32 or 8"),
    ):
        with pytest.raises(ValueError, match=message):
            _bayes(p, **options)
    with pytest.raises(ValueError, match="train_set_size must be a whole number of at least 1; got 0"):
        optim.BayesBiNN([p], 0)
