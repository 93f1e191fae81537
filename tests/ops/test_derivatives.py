# SPDX-License-Identifier: Apache-2.0
"""Derivatives of products with frozen weights: of second order, in forward mode and inside torch.func."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from _group_cases import Groups
from _tolerance import assert_reduction
from bittern import ops
from bittern.ops import codebooks
from bittern.ops.linear_8bit.reference import row_codes

# torch itself scripts decompositions when forward mode is first used
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

OUT, IN = 9, 70
Product = Callable[[Tensor, Tensor | None], Tensor]


def four_bits() -> tuple[Product, Tensor]:
    packed, absmax = ops.quantize_4bit(torch.randn(OUT, IN), codebooks.nf4(), 64)
    weight = ops.dequantize_4bit(packed, absmax, codebooks.nf4(), 64, (OUT, IN))
    return lambda x, bias: ops.linear_4bit(x, packed, absmax, codebooks.nf4(), 64, OUT, bias), weight


def eight_bits(threshold: float = 0.0) -> tuple[Product, Tensor]:
    codes, step = row_codes(torch.randn(OUT, IN))
    scale = step.flatten() * 127
    return lambda x, bias: ops.linear_8bit(x, codes.to(torch.int8), scale, bias, threshold), codes * step


def groups(int8: bool = False) -> tuple[Product, Tensor]:
    weight = Groups(1, OUT, IN, 32, zero="uint8").weight()
    exact = ops.dequantize_groups(*weight, OUT, IN)
    return lambda x, bias: ops.linear_groups(x, *weight, OUT, bias, int8), exact


KINDS = [four_bits, eight_bits, partial(eight_bits, threshold=2.0), groups, partial(groups, int8=True)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def assert_close(found: Tensor, exact: Tensor) -> None:
    assert_reduction(found.detach(), exact.double(), OUT * IN, exact.abs().max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, IN), (2, 0, IN), (IN,)])
def test_the_gradient_of_a_gradient(kind: Callable[[], tuple[Product, Tensor]], shape: tuple[int, ...]) -> None:
    """p = |dL/dx|^2 with L = sum of x W^T . c + |x W^T|^2 weights: its gradient by hand is 2 (g M), M = 2 W^T W."""
    product, weight = kind()
    x, bias = torch.randn(shape, requires_grad=True), torch.randn(OUT, requires_grad=True)
    factor = torch.randn(OUT, requires_grad=True)
    (grad,) = torch.autograd.grad((product(x, bias) * factor).sum(), x, create_graph=True)
    grad.square().sum().backward()
    assert factor.grad is not None
    # dL/dx = factor W for every row, so d |.|^2 / d factor = 2 rows (factor W) W^T
    rows = x[..., 0].numel()
    assert_close(factor.grad, 2 * rows * (factor @ weight) @ weight.t())


@pytest.mark.parametrize("kind", [four_bits, eight_bits, groups])
def test_a_gradient_penalty_reaches_the_input(kind: Callable[[], tuple[Product, Tensor]]) -> None:
    product, weight = kind()
    x = torch.randn(3, IN, requires_grad=True)
    y = product(x, None)
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    grad.square().sum().backward()
    assert x.grad is not None
    square = 2 * weight.t() @ weight
    assert_close(x.grad, 2 * (2 * y @ weight) @ square)


@pytest.mark.parametrize("kind", KINDS)
def test_forward_mode(kind: Callable[[], tuple[Product, Tensor]]) -> None:
    product, weight = kind()
    x, tangent, bias = torch.randn(2, 3, IN), torch.randn(2, 3, IN), torch.randn(OUT)
    for call in (torch.func.jvp, torch.autograd.functional.jvp):
        assert_close(call(lambda v: product(v, bias), (x,), (tangent,))[1], tangent @ weight.t())
    with forward_ad.dual_level():
        y = product(forward_ad.make_dual(x, tangent), forward_ad.make_dual(bias, bias))
        assert_close(forward_ad.unpack_dual(y).tangent, tangent @ weight.t() + bias)
        y = product(x, forward_ad.make_dual(bias, bias))
        assert_close(forward_ad.unpack_dual(y).tangent, bias.expand(2, 3, OUT))


@pytest.mark.parametrize("kind", KINDS)
def test_hessian_and_gradients_of_samples(kind: Callable[[], tuple[Product, Tensor]]) -> None:
    product, weight = kind()
    x, bias = torch.randn(4, IN), torch.randn(4, OUT)

    def loss(v: Tensor, b: Tensor | None = None) -> Tensor:
        return product(v, b).square().sum()

    assert_close(torch.func.hessian(loss)(x[0]), 2 * weight.t() @ weight)
    grads = torch.func.vmap(torch.func.grad(loss, (0, 1)))(x, bias)
    for i in range(4):
        alone = torch.func.grad(loss, (0, 1))(x[i], bias[i])
        assert_close(grads[0][i], alone[0])
        assert_close(grads[1][i], alone[1])
    jacobian = torch.autograd.functional.jacobian(lambda v: product(v, None), x[0], vectorize=True)
    assert_close(jacobian, weight)


@pytest.mark.parametrize("kind", KINDS)
def test_vmap_is_a_loop(kind: Callable[[], tuple[Product, Tensor]]) -> None:
    product, _ = kind()
    x, bias = torch.randn(2, 3, 4, IN), torch.randn(OUT, 3)
    found = torch.func.vmap(product, (1, None))(x, bias[:, 0])
    assert torch.equal(found, torch.stack([product(x[:, i], bias[:, 0]) for i in range(3)]))
    found = torch.func.vmap(product, (None, 1))(x[0, 0], bias)
    assert_close(found, torch.stack([product(x[0, 0], bias[:, i]) for i in range(3)]))


def test_a_frozen_weight_has_no_derivative() -> None:
    packed, absmax = ops.quantize_4bit(torch.randn(OUT, IN), codebooks.nf4(), 64)
    code, x = codebooks.nf4(), torch.randn(2, IN)
    y = ops.linear_4bit(x, packed, absmax.clone().requires_grad_(), code, 64, OUT)
    with pytest.raises(NotImplementedError, match="linear_4bit: the weight is frozen; got a derivative of absmax; deq"):
        y.sum().backward()
    with pytest.raises(NotImplementedError, match="got a derivative of absmax"):
        torch.func.jvp(lambda a: ops.linear_4bit(x, packed, a, code, 64, OUT), (absmax,), (absmax,))
    with pytest.raises(NotImplementedError, match="got vmap of packed"):
        torch.func.vmap(lambda p: ops.linear_4bit(x, p, absmax, code, 64, OUT))(packed.expand(2, -1))
    scale = torch.ones(OUT, requires_grad=True)
    y = ops.linear_8bit(x, torch.ones(OUT, IN, dtype=torch.int8), scale)
    with pytest.raises(NotImplementedError, match="linear_8bit: the weight is frozen; got a derivative of scale"):
        y.sum().backward()


def test_other_ops_do_not_lose_a_tangent() -> None:
    x = torch.randn(4, 64)
    with pytest.raises(NotImplementedError, match="sign: it has no forward-mode derivative; got a tensor with a tang"):
        torch.func.jvp(ops.sign, (x,), (x,))
    assert torch.equal(torch.func.jvp(lambda v: v * ops.sign(v.detach()), (x,), (x,))[1], x * ops.sign(x))
