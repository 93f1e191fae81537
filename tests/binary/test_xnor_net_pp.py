# SPDX-License-Identifier: Apache-2.0
"""XNOR-Net++ against arXiv 1909.13863."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from _tolerance import assert_exact
from bittern.bench.train.memory import saved_bytes
from bittern.binary import XNORNetPlusPlus, xnor_net_pp
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear
from bittern.quantizer import SignCode

W = torch.tensor([[0.5, -0.0, -1.0], [1.0, -1.5, 0.25]])
G = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def method_of(layer: nn.Module) -> XNORNetPlusPlus:
    assert isinstance(layer.method, XNORNetPlusPlus)
    return layer.method


def test_forward_takes_signs_without_scale() -> None:
    method = XNORNetPlusPlus(shape_of(W))
    for q in (method.weight(W), method.input(W)):
        assert q.values.tolist() == [[1, 1, -1], [1, -1, 1]]
        assert q.scale is None
    assert method.input_code() == SignCode()


@pytest.mark.parametrize(
    ("mask", "expected"), [("paper", [[1, 2, 3], [4, 0, 6]]), ("released", [[1, 2, 0], [0, 0, 6]])]
)
def test_gradient_mask(mask: str, expected: list[list[float]]) -> None:
    method = XNORNetPlusPlus(shape_of(W), mask=mask)  # type: ignore[arg-type]
    assert scaled_weight_gradient(method, W, G).tolist() == expected
    assert scaled_input_gradient(method, W, G).tolist() == expected


SHAPES = {
    1: {"alpha": (4,)},
    2: {"gamma": (4, 3, 5)},
    3: {"alpha": (4,), "beta": (3, 5)},
    4: {"alpha": (4,), "beta": (3,), "gamma": (5,)},
}


def conv2d(case: int = 4, kernel: int = 3) -> BinaryConv2d:
    return BinaryConv2d(2, 4, kernel, method=partial(XNORNetPlusPlus, case=case))


X = torch.randn(2, 2, 5, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("case", [1, 2, 3, 4])
def test_factor_sizes_follow_the_output_and_start_at_one(case: int) -> None:
    layer = conv2d(case)
    layer(X)
    method = method_of(layer)
    assert {name: tuple(p.shape) for name, p in method.named_parameters()} == SHAPES[case]
    assert all(p.eq(1).all() for p in method.parameters())


@pytest.mark.parametrize("case", [1, 2, 3, 4])
def test_output_is_scaled_by_gamma_written_out(case: int) -> None:
    torch.manual_seed(1)
    layer = conv2d(case)
    plain = layer(X)  # all factors are still 1
    method = method_of(layer)
    for p in method.parameters():
        nn.init.normal_(p)
    p = dict(method.named_parameters())
    y = layer(X)
    for o in range(4):
        for i in range(3):
            for j in range(5):
                gamma = {
                    1: lambda o, i, j: p["alpha"][o],
                    2: lambda o, i, j: p["gamma"][o, i, j],
                    3: lambda o, i, j: p["alpha"][o] * p["beta"][i, j],
                    4: lambda o, i, j: p["alpha"][o] * p["beta"][i] * p["gamma"][j],
                }[case](o, i, j)
                assert torch.equal(y[:, o, i, j], plain[:, o, i, j] * gamma)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (1, {"alpha": (4,)}),
        (2, {"gamma": (4, 6)}),
        (3, {"alpha": (4,), "beta": (6,)}),
        (4, {"alpha": (4,), "beta": (6,)}),
    ],
)
def test_conv1d_has_one_spatial_factor(case: int, expected: dict[str, tuple[int, ...]]) -> None:
    layer = BinaryConv1d(2, 4, 3, method=partial(XNORNetPlusPlus, case=case))
    layer(torch.randn(2, 2, 8))
    assert {name: tuple(p.shape) for name, p in method_of(layer).named_parameters()} == expected


@pytest.mark.parametrize("case", [1, 2, 3, 4])
def test_linear_has_one_scale_per_output(case: int) -> None:
    layer = BinaryLinear(3, 4, method=partial(XNORNetPlusPlus, case=case))
    assert {name: tuple(p.shape) for name, p in method_of(layer).named_parameters()} == {"alpha": (4,)}
    assert layer(torch.randn(2, 5, 3)).shape == (2, 5, 4)


@pytest.mark.parametrize("case", [1, 2, 3, 4])
def test_gamma_learns(case: int) -> None:
    layer = conv2d(case)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)  # before the first forward pass
    layer(X).square().sum().backward()
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    optimizer.step()
    for name, p in layer.named_parameters():
        assert p.grad is not None, name
        assert not torch.equal(p, before[name]), name


def test_parameters_keep_their_identity_when_they_get_their_size() -> None:
    layer = conv2d()
    beta = method_of(layer).beta
    assert isinstance(beta, UninitializedParameter)
    layer(X)
    assert method_of(layer).beta is beta
    assert type(beta) is nn.Parameter


def test_a_first_pass_in_inference_mode_leaves_parameters_that_can_learn() -> None:
    layer = conv2d()
    with torch.inference_mode():
        layer(X)
    layer(X).sum().backward()
    assert method_of(layer).beta.grad is not None


@pytest.mark.parametrize("case", [2, 3, 4])
def test_another_output_size_is_refused_and_both_are_named(case: int) -> None:
    layer = conv2d(case)
    layer(X)
    with pytest.raises(ValueError, match=r"an output of size \[.*3.*\] .* got an output \[2, 4, 2, 5\]; .*case=1"):
        layer(X[:, :, :4])


def test_case_one_takes_any_output_size() -> None:
    layer = conv2d(1)
    assert layer(X).shape == (2, 4, 3, 5)
    assert layer(X[:, :, :4]).shape == (2, 4, 2, 5)


def test_output_factors_and_state_dict_need_a_forward_pass_first() -> None:
    layer = conv2d()
    with pytest.raises(
        RuntimeError, match=r"output_factors needs the size of beta and gamma.*run one forward pass first"
    ):
        method_of(layer).output_factors()
    with pytest.raises(RuntimeError, match="state_dict needs the size of beta and gamma"):
        nn.Sequential(layer).state_dict()
    conv2d(1).state_dict()
    assert len(conv2d(1).method.output_factors()) == 1


@pytest.mark.parametrize("case", [1, 2, 3, 4])
def test_strict_loading_gives_a_fresh_module_its_sizes(case: int) -> None:
    torch.manual_seed(2)
    trained = nn.Sequential(conv2d(case))
    trained(X)
    for p in trained.parameters():
        nn.init.normal_(p)
    fresh = nn.Sequential(conv2d(case))
    assert fresh.load_state_dict(trained.state_dict(), strict=True) == ([], [])
    assert torch.equal(fresh(X), trained(X))
    assert len(method_of(fresh[0]).output_factors()) == len(SHAPES[case])


def test_loaded_sizes_bind_the_first_forward_pass() -> None:
    trained, fresh = conv2d(), conv2d()
    trained(X)
    fresh.load_state_dict(trained.state_dict())
    with pytest.raises(ValueError, match=r"size \[3\].*got an output \[2, 4, 2, 5\]"):
        fresh(X[:, :, :4])


def test_loading_a_state_of_another_size_or_case_is_refused() -> None:
    sized, other = conv2d(), conv2d()
    sized(X)
    other(X[:, :, :4])
    with pytest.raises(RuntimeError, match=r"size mismatch for method\.beta"):
        sized.load_state_dict(other.state_dict())
    state = sized.state_dict()
    state["method.beta"] = torch.ones(3, 5)
    with pytest.raises(RuntimeError, match=r"method.beta must be \['height'\].*got \[3, 5\].*another layer or case"):
        conv2d().load_state_dict(state)
    dense = conv2d(2)
    dense(X)
    wrong = {name: t[:3] if name == "method.gamma" else t for name, t in dense.state_dict().items()}
    with pytest.raises(
        RuntimeError, match=r"'out_channels', 'height', 'width'\] with 4 output channels; got \[3, 3, 5\]"
    ):
        conv2d(2).load_state_dict(wrong)
    with pytest.raises(RuntimeError, match="Missing key"):
        conv2d().load_state_dict({"weight": sized.weight})


def test_a_copy_made_before_the_first_pass_has_its_own_sizes() -> None:
    layer = conv2d()
    twin = copy.deepcopy(layer)
    layer(X)
    twin(X[:, :, :4])
    assert method_of(layer).beta.shape == (3,)
    assert method_of(twin).beta.shape == (2,)
    assert copy.deepcopy(layer).load_state_dict(layer.state_dict()) == ([], [])


def test_dtype_follows_the_module() -> None:
    layer = conv2d().double()
    assert layer(X.double()).dtype == torch.float64
    assert method_of(layer).beta.dtype == torch.float64


def test_bad_options_name_the_choices() -> None:
    for case in (0, 5, "4", True):
        with pytest.raises(ValueError, match="XNORNetPlusPlus: case must be one of 1, 2, 3, 4; got"):
            XNORNetPlusPlus(shape_of(W), case=case)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mask must be one of 'paper', 'released'; got 'strict'"):
        XNORNetPlusPlus(shape_of(W), mask="strict")  # type: ignore[arg-type]


@pytest.mark.parametrize("case", [2, 4])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_whole_numbers_are_kept_as_16_bits_with_the_same_gradients(
    case: int, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(5, 6, 3, padding=1, bias=False, method=partial(XNORNetPlusPlus, case=case))
    x = torch.randn(3, 5, 7, 9).contiguous(memory_format=layout).requires_grad_()
    g = layer(x).detach().square()
    for factor in layer.method.parameters():
        nn.init.uniform_(factor, 0.5, 2.0)
    numbers = torch.randint(-45, 46, (3, 6, 7, 9)).float().contiguous(memory_format=layout).requires_grad_()

    def first(**more: bool) -> tuple[torch.Tensor, ...]:
        asked = (numbers, *layer.method.parameters())
        return torch.autograd.grad(layer.method.output(numbers), asked, g, **more)

    def second() -> tuple[torch.Tensor, ...]:
        total = sum(t.square().sum() for t in first(create_graph=True))
        return torch.autograd.grad(total, (numbers, *layer.method.parameters()))

    held = [numbers, *layer.method.parameters()]
    y, mine, mine_second = layer.method.output(numbers), first(), second()
    kept = saved_bytes(lambda: layer.method.output(numbers), held)
    monkeypatch.setattr(xnor_net_pp, "_may_be_whole", lambda y, factor: False)
    plain = layer.method.output(numbers)
    assert_exact(y.detach(), plain.detach())
    assert y.stride() == plain.stride()
    for found, expected in zip((*mine, *mine_second), (*first(), *second()), strict=True):
        assert_exact(found, expected)
    factors = 3 * 6 * 7 * 9 * 4  # their product, and what it is made of
    assert numbers.numel() * 2 <= kept <= numbers.numel() * 2 + factors


def test_other_numbers_are_kept_as_they_are() -> None:
    method = XNORNetPlusPlus(shape_of(torch.zeros(2, 3, 1, 1)), case=2)
    y = torch.full((4, 2, 3, 3), 0.5).requires_grad_()
    y.data[1, 0, 2, 1] = 40000.0
    (to_gamma,) = torch.autograd.grad(method.output(y).sum(), method.parameters())
    assert_exact(to_gamma, y.detach().sum(0))
