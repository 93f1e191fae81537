# SPDX-License-Identifier: Apache-2.0
"""The product of a training step whose operands are bits, against torch's product of the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from _tolerance import assert_exact, assert_reduction
from bittern import binary, ops
from bittern.bench.train.memory import saved_bytes
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear, sign_product
from bittern.nn.geometry import Geometry, accumulate
from bittern.quantizer import InputScale


@pytest.fixture(autouse=True)
def _small_products_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_product, "LEAST_PRODUCTS", 1)


def signs(*shape: int, last: bool = False, asks: bool = True) -> Tensor:
    x = ops.sign(torch.randn(shape))
    return (x.contiguous(memory_format=torch.channels_last) if last else x).requires_grad_(asks)


class Case:
    """A product by its shapes."""

    def __init__(self, x: tuple[int, ...], w: tuple[int, ...], geometry: Geometry, *, low: int = -1) -> None:
        self.x, self.w, self.geometry, self.low = x, w, geometry, low

    def __str__(self) -> str:
        return f"{self.x}-{self.w}-{self.low}"

    def operands(self, last: bool) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(0)
        x = signs(*self.x, last=last)
        if self.low == 0:
            x = ((x.detach() + 1.0) / 2.0).requires_grad_()
        return x, signs(*self.w, last=last), torch.randn(self.w[0]).requires_grad_()


def conv(
    stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...], groups: int = 1, pad_value: int = 0
) -> Geometry:
    return Geometry(stride, padding, dilation, groups, pad_value)


CASES = (
    Case((7, 65), (5, 65), Geometry()),
    Case((3, 64), (9, 64), Geometry()),
    Case((3, 64), (9, 64), Geometry(), low=0),
    Case((2, 3, 17), (4, 3, 3), conv((2,), (2,), (2,))),
    Case((2, 6, 9), (4, 3, 2), conv((1,), (1,), (1,), 2, 1)),
    Case((2, 64, 5, 6), (3, 64, 3, 3), conv((1, 1), (1, 1), (1, 1))),
    Case((2, 70, 5, 6), (4, 35, 3, 2), conv((2, 1), (1, 2), (1, 2), 2, -1)),
    Case((1, 9, 4, 7), (9, 1, 3, 3), conv((1, 2), (2, 1), (1, 1), 9, 1)),
    Case((3, 21, 3, 3), (2, 21, 3, 3), conv((1, 1), (0, 0), (1, 1))),
    Case((3, 128, 1, 1), (64, 128, 1, 1), conv((1, 1), (0, 0), (1, 1))),
    Case((2, 5, 5, 6), (3, 5, 3, 3), conv((1, 1), (1, 1), (1, 1)), low=0),
    Case((2, 6, 5, 6), (4, 3, 2, 2), conv((2, 2), (1, 0), (1, 1), 2), low=0),
)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    ("case", "last"), [(c, last) for c in CASES for last in (False, True)[: 2 if len(c.x) == 4 else 1]], ids=str
)
def test_it_is_torchs_product_to_the_bit_with_its_gradients(case: Case, last: bool, scaled: bool) -> None:
    x, w, scale = case.operands(last)
    factor = scale if scaled else None
    y = sign_product.sign_product(x, w, factor, case.geometry, case.low)
    assert y is not None
    plain = accumulate(x, w, case.geometry)
    view = scale.view(1, -1, *(1,) * (y.ndim - 2))
    plain = plain * view if scaled else plain
    assert_exact(y.detach(), plain.detach())
    if 1 not in y.shape:
        assert y.stride() == plain.stride()
    g = torch.randn_like(y)
    asked = (x, w, scale) if scaled else (x, w)
    found = torch.autograd.grad(y, asked, g)
    exact = [t.detach().double().requires_grad_() for t in asked]
    total = accumulate(exact[0], exact[1], case.geometry)
    torch.autograd.backward(total * exact[2].view(view.shape) if scaled else total, g.double())
    largest = g.abs().max() * scale.abs().max().clamp(min=1.0) * w[0].numel()
    for mine, theirs in zip(found, exact, strict=True):
        assert theirs.grad is not None
        assert mine.stride() == torch.empty_like(theirs, dtype=mine.dtype).stride() or 1 in mine.shape
        assert_reduction(mine, theirs.grad, y.numel(), largest)


@pytest.mark.parametrize("case", [CASES[0], CASES[5], CASES[10]], ids=str)
def test_plain_kernels_leave_the_product_to_torch(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "chosen_isa", lambda: ops.Isa.SCALAR)
    test_it_is_torchs_product_to_the_bit_with_its_gradients(case, last=len(case.x) == 4, scaled=True)


@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[6]], ids=str)
def test_second_derivatives_are_those_of_torchs_product(case: Case) -> None:
    x, w, scale = case.operands(False)
    g = torch.randn_like(accumulate(x, w, case.geometry)).requires_grad_()

    def second(product: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(product(), (x, w, scale), g, create_graph=True)
        return torch.autograd.grad(sum(t.square().sum() for t in first), (x, w, scale, g))  # type: ignore[arg-type]

    def plain() -> Tensor:
        y = accumulate(x, w, case.geometry)
        return y * scale.view(1, -1, *(1,) * (y.ndim - 2))

    mine = second(lambda: sign_product.sign_product(x, w, scale, case.geometry, case.low))  # type: ignore[arg-type,return-value]
    for found, expected in zip(mine, second(plain), strict=True):
        torch.testing.assert_close(found, expected)


def test_only_what_asks_gets_a_gradient() -> None:
    geometry = CASES[5].geometry
    for asks_x, asks_w in ((True, False), (False, True)):
        x, w = signs(2, 64, 5, 6, asks=asks_x), signs(3, 64, 3, 3, asks=asks_w)
        y = sign_product.sign_product(x, w, None, geometry, -1)
        assert y is not None
        y.sum().backward()  # type: ignore[no-untyped-call]
        assert (x.grad is not None, w.grad is not None) == (asks_x, asks_w)


def test_a_graph_keeps_bits() -> None:
    """And no accumulators for the scale that learns."""
    x, w, scale = signs(4, 64, 8, 8, last=True), signs(32, 64, 3, 3), torch.randn(32, requires_grad=True)

    def forward() -> Tensor:
        y = sign_product.sign_product(x, w, scale, CASES[5].geometry, -1)
        assert y is not None
        return y

    assert saved_bytes(forward, [scale]) == (x.numel() + w.numel()) // 8
    y = forward()
    y.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
    y.sum().backward()  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()  # type: ignore[no-untyped-call]


METHODS = (
    *(m for m in binary.COMPARED if m is not binary.FDA),
    partial(binary.XNORNet, gradient="full", input_scale=InputScale.PER_SAMPLE),
)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: getattr(m, "__name__", "full"))
def test_layers_train_by_it_as_by_torchs_product(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(
        BinaryConv2d(6, 8, 3, padding=1, bias=True, method=method),
        nn.Hardtanh(inplace=True),
        nn.Flatten(2),
        BinaryConv1d(8, 4, 3, method=method),
        nn.Flatten(),
        BinaryLinear(4 * 18, 3, method=method),
    )
    x = torch.randn(5, 6, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    layers(x)  # what takes its size from an output
    taken = _count(monkeypatch)

    def run() -> list[Tensor]:
        y = layers(x)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), (x, *layers.parameters()))]

    mine = run()
    assert taken == [True] * 3
    again = checkpoint(layers, x, use_reentrant=False)
    assert torch.equal(torch.autograd.grad(again.square().sum(), x)[0], mine[1])
    with torch.autograd.graph.save_on_cpu():
        assert torch.equal(run()[1], mine[1])
    monkeypatch.setattr(sign_product, "LEAST_PRODUCTS", 2**40)
    theirs = run()
    assert_exact(mine[0], theirs[0])
    for found, expected in zip(mine[1:], theirs[1:], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def _count(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each product that is tried was taken."""
    taken: list[bool] = []

    def tried(*args: Any) -> Tensor | None:
        y = sign_product.sign_product(*args)
        taken.append(y is not None)
        return y

    monkeypatch.setattr("bittern.nn.binarize.sign_product", tried)
    return taken


def test_numbers_beside_the_grid_are_multiplied_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """FDA adds noise to its signs in training, which its codes do not tell."""
    torch.manual_seed(0)
    taken = _count(monkeypatch)
    layer, x = BinaryLinear(70, 4, method=binary.FDA), torch.randn(3, 70)
    y = layer(x)
    assert taken == [False]
    with torch.no_grad():
        values, weight = layer.method.input(x).values, layer.method.weight(layer.weight)
        assert not isinstance(weight, tuple) or len(weight) == 2
        assert_exact(y.detach(), values @ weight.values.t() * weight.scale)  # type: ignore[union-attr]
    monkeypatch.setattr(layer.method, "alpha", torch.tensor(0.0))
    layer(x)
    assert taken == [False, True]


def test_a_layer_that_accumulates_in_its_own_way_does_so() -> None:
    class Doubled(BinaryLinear):
        def accumulate(self, x: Tensor, w: Tensor) -> Tensor:
            return 2.0 * super().accumulate(x, w)

    torch.manual_seed(0)
    layer = Doubled(70, 4, method=binary.BNN)
    x = torch.randn(3, 70)
    assert_exact(layer(x).detach(), 2.0 * ops.sign(x) @ ops.sign(layer.weight.detach()).t())


def test_torch_multiplies_where_somebody_watches_it() -> None:
    x, w, geometry = signs(3, 70), signs(5, 70), Geometry()
    take = partial(sign_product.sign_product, scale=None, geometry=geometry, low=-1)
    assert take(x, w) is not None
    with torch.no_grad():
        assert take(x, w) is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert take(x, w) is None
    with FlopCounterMode(display=False):  # type: ignore[no-untyped-call]
        assert take(x, w) is None
    with torch.device("cpu"):
        assert take(x, w) is None
    seen: list[Tensor | None] = []

    def through(t: Tensor) -> Tensor:
        seen.append(take(t, w))
        return (t @ w.t()).sum()

    torch.func.grad(through)(x)
    with forward_ad.dual_level():
        through(x)
    assert seen == [None] * 2
    assert take(x.detach(), w.detach()) is None
    assert take(x.double(), w.double()) is None
    assert take(x.detach().masked_fill(x > 0, 0.5).requires_grad_(), w) is None
    assert take(signs(0, 70), w) is None
