# SPDX-License-Identifier: Apache-2.0
"""Bad arguments, bad gradients, bad parameters: errors that say subject, rule, what came and what to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bittern import optim
from optim._training import parameters, train

NAMES = [
    *("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adagrad", "RMSprop"),
    *("Lion", "LAMB", "LARS", "AdEMAMix", "Adan", "Adafactor"),
    *("Adadelta", "Adamax", "AdamWScheduleFree"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr must be at least 0"),
        ({"lr": float("nan")}, "lr must be at least 0"),
        ({"lr": torch.ones(2)}, "must have one element"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"state_bits": 16}, "state_bits must be one of"),
        ({"block_size": 100}, "power of two from 32 to 4096"),
        ({"block_size": 8192}, "power of two from 32 to 4096"),
        ({"min_8bit_size": -1}, "min_8bit_size must be at least 0"),
        ({"nonfinite": "ignore"}, "nonfinite must be one of"),
        ({"rounding": "up"}, "rounding must be"),
        ({"offload": "disk"}, "offload must be one of"),
    ],
)
def test_arguments(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)(parameters(), **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"nesterov": True}, "nesterov needs"),
        ("SGD", {"fused": False}, "leave out fused=False"),
        ("SGD", {"differentiable": True}, "differentiable=True is not supported"),
        ("Adam", {"betas": (0.9, 1.0)}, r"betas\[1\] must be in \[0, 1\)"),
        ("AdEMAMix", {"betas": (0.9, 0.99)}, "betas needs 3 numbers"),
        ("AdEMAMix", {"t_alpha": 0}, "t_alpha must be a positive number"),
        ("AdEMAMix", {"t_beta3": 10, "betas": (0.0, 0.9, 0.9)}, "schedule of beta3"),
        ("LAMB", {"max_trust": 0.0}, "max_trust must be positive"),
        ("LAMB", {"trust_coefficient": 0.0}, "trust_coefficient must be positive"),
        ("LARS", {"nesterov": True, "dampening": 0.5}, "nesterov needs"),
        ("Adafactor", {"d": 0.5}, "d >= 1"),
        ("Adafactor", {"eps": (None, -1.0)}, "eps must be"),
        ("Adafactor", {"rounding": "kahan"}, 'must be "nearest"'),
        ("Adadelta", {"rho": 1.5}, r"rho must be in \[0, 1\]"),
        ("Adadelta", {"state_bits": 4}, "steps that 4 bits round grow for ever"),
        ("Rprop", {"etas": (1.0, 1.2)}, "etas must be below and above 1"),
        ("Rprop", {"step_sizes": (1.0, 0.5)}, "step_sizes must be positive"),
        ("ASGD", {"state_bits": 8}, "state_bits must be 32, for its average of weights moves by less"),
        ("AdamWScheduleFree", {"betas": (0.0, 0.9)}, r"must be in \(0, 1\), for x comes back from y"),
        ("AdamWScheduleFree", {"warmup_steps": -1}, "warmup_steps must be at least 0"),
        ("AdamWScheduleFree", {"offload": "cpu"}, "offload must be None"),
    ],
)
def test_arguments_of_one_rule(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)(parameters(), **options)


def test_unknown_arguments() -> None:
    with pytest.raises(TypeError, match="no argument 'percentile_clipping'; beside its rule's it takes state_bits"):
        optim.AdamW(parameters(), percentile_clipping=5)  # type: ignore[call-arg]


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float64, torch.float8_e4m3fn])
def test_parameters_of_other_types(dtype: torch.dtype) -> None:
    p = nn.Parameter(torch.zeros(10).to(dtype))
    with pytest.raises(TypeError, match="must be float32, bfloat16 or float16"):
        optim.AdamW([p])


def test_a_bad_group_leaves_the_optimizer_as_it_was() -> None:
    optimizer = optim.AdamW(parameters())
    with pytest.raises(ValueError, match="lr must be"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))], "lr": -1.0})
    assert len(optimizer.param_groups) == 1


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate parameters")
def test_a_parameter_in_two_groups_or_twice() -> None:
    params = parameters()
    with pytest.raises(ValueError, match="more than one parameter group"):
        optim.AdamW([{"params": params}, {"params": params[:1]}])
    with pytest.raises(ValueError, match=r"AdamW: a parameter may appear once in a group; got one of .* twice"):
        optim.AdamW([params[0], params[0]])


def test_sparse_gradients() -> None:
    embedding = nn.Embedding(100, 50, sparse=True)
    optimizer = optim.AdamW(embedding.parameters())
    embedding(torch.tensor([3])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse gradients are not supported"):
        optimizer.step()
    assert not optimizer.state


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_elements_whose_gradient_is_not_finite_are_skipped(name: str, bits: int, value: float) -> None:
    p = nn.Parameter(torch.ones(1000))
    optimizer = getattr(optim, name)([p], lr=1e-2, state_bits=bits, min_8bit_size=0)
    for _ in range(3):
        p.grad = torch.linspace(0.1, 1.0, 1000)
        p.grad[300] = value
        optimizer.step()
    assert p.detach().isfinite().all()
    assert p.detach()[300] == 1
    assert (p.detach()[:300] < 1).all()


def test_raise_refuses_the_whole_step() -> None:
    params = parameters()
    before = [p.detach().clone() for p in params]
    optimizer = optim.AdamW(params, nonfinite="raise")
    for p in params:
        p.grad = torch.ones_like(p)
    params[1].grad[7] = float("nan")  # type: ignore[index]
    with pytest.raises(FloatingPointError, match=r"gradient of a parameter \[5000\] is not finite"):
        optimizer.step()
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
    assert not optimizer.state


def test_raise_looks_at_every_group_before_the_first_steps() -> None:
    params = parameters()
    before = [p.detach().clone() for p in params]
    optimizer = optim.AdamW([{"params": params[:2]}, {"params": params[2:]}], nonfinite="raise")
    for p in params:
        p.grad = torch.ones_like(p)
    params[3].grad[7] = float("inf")  # type: ignore[index]
    with pytest.raises(FloatingPointError, match=r"gradient of a parameter \[257\] is not finite"):
        optimizer.step()
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))


@pytest.mark.parametrize("name", [*NAMES, "Muon"])
@pytest.mark.parametrize("bits", [32, 8, 4])
@pytest.mark.parametrize("value", [1e15, 1.8e19, 2e19, 3e38])
def test_large_finite_gradients_destroy_nothing(name: str, bits: int, value: float) -> None:
    p = nn.Parameter(torch.ones(40, 50))
    bits = 8 if name == "Adadelta" and bits == 4 else bits
    optimizer = getattr(optim, name)([p], lr=1e-3, state_bits=bits, min_8bit_size=0)
    for every in (False, True):
        p.grad = torch.linspace(0.1, 1.0, 2000).view(40, 50)
        p.grad[3, 5] = value
        if every:
            p.grad.fill_(-value)
        optimizer.step()
        state = [x for x in optimizer.state[p].values() if x.is_floating_point()]
        assert all(x.isfinite().all() for x in (p.detach(), *state))
    p.grad = torch.full((40, 50), 0.1)
    before = p.detach().clone()
    optimizer.step()
    assert p.detach().isfinite().all()
    if name == "Adafactor" and value > 1.8e19:  # the large ones left no trace
        assert (p.detach() < before).all()


def test_stochastic_rounding_is_for_bfloat16() -> None:
    params = parameters(dtype=torch.float16)
    with pytest.raises(ValueError, match='is for bfloat16; use "kahan"'):
        train(optim.AdamW(params, rounding="stochastic"), params, 1)


def test_capturable_and_offload_need_an_accelerator() -> None:
    params = parameters()
    with pytest.raises(RuntimeError, match="capturable=True needs parameters on an accelerator"):
        train(optim.AdamW(params, capturable=True), params, 1)
    with pytest.raises(ValueError, match='offload="cpu" is for CUDA parameters'):
        train(optim.AdamW(params, offload="cpu"), params, 1)


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_empty_parameters_take_part(bits: int) -> None:
    params = parameters([(0,), (3, 0), (5000,)])
    for name in NAMES:
        if (name, bits) == ("Adadelta", 4):
            continue  # refused
        optimizer = getattr(optim, name)(params, lr=1e-3, state_bits=bits, min_8bit_size=0)
        train(optimizer, params, 2)
        optimizer.load_state_dict(optimizer.state_dict())
        train(optimizer, params, 1)


def test_gradients_of_another_type_and_layout() -> None:
    p, q = parameters([(70, 90)])[0], parameters([(70, 90)])[0]
    a, b = optim.AdamW([p]), optim.AdamW([q])
    gradient = torch.randn(90, 70).bfloat16()
    q.grad = gradient.t().float().contiguous()
    p.grad = gradient.float().t()
    a.step()
    b.step()
    assert torch.equal(p, q)


def test_a_gradient_left_over_from_another_shape() -> None:
    params = parameters([(5000,)])
    optimizer = optim.AdamW(params)
    train(optimizer, params, 1)
    params[0].data = torch.zeros(6000)
    with pytest.raises(ValueError, match=r"gradient \[5000\] on cpu is left over .* call zero_grad"):
        optimizer.step()
