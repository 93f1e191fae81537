# SPDX-License-Identifier: Apache-2.0
"""`Op.direct`: past the dispatcher where that would do nothing, and through it for all who ask there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from _tolerance import assert_exact
from bittern import ops
from bittern.nn import Linear4bit, Linear8bit, LinearGroups
from bittern.ops import Op

LAYERS = [Linear4bit.from_float, Linear8bit.from_float, LinearGroups.from_float]


@pytest.fixture(params=LAYERS, ids=["linear_4bit", "linear_8bit", "linear_groups"])
def layer(request: pytest.FixtureRequest) -> nn.Module:
    made: nn.Module = request.param(nn.Linear(70, 9).requires_grad_(False))
    return made


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the ops that went through the dispatcher."""
    names: list[str] = []
    whole = Op.__call__

    def noted(op: Op[Any], *args: Any, **kwargs: Any) -> Any:
        names.append(op.name)
        return whole(op, *args, **kwargs)

    monkeypatch.setattr(Op, "__call__", noted)
    return names


class Seen(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def test_plain_inputs_go_past_it_with_the_same_bits(layer: nn.Module, passed: list[str]) -> None:
    x = torch.randn(3, 70)
    y = layer(x)
    assert passed == []
    with Seen() as seen:
        through = layer(x)
    assert len(passed) == 1
    assert f"bittern::{passed[0]}" in seen.names
    assert_exact(y, through)


def test_a_gradient_arrives(layer: nn.Module, passed: list[str]) -> None:
    x = torch.randn(3, 70, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    with torch.no_grad():
        passed.clear()
        layer(x)
    assert passed == []


def test_a_bias_that_learns_gets_its_gradient(layer: nn.Module) -> None:
    bias = layer.bias
    assert isinstance(bias, nn.Parameter)
    bias.requires_grad_()
    layer(torch.randn(3, 70)).sum().backward()
    assert bias.grad is not None
    assert bias.grad.tolist() == [3.0] * 9


def trace(f: Callable[[Tensor], Tensor], x: Tensor) -> object:
    return make_fx(f)(x)


def profile(f: Callable[[Tensor], Tensor], x: Tensor) -> object:
    with torch.profiler.profile() as found:
        f(x)
    return found


def batch(f: Callable[[Tensor], Tensor], x: Tensor) -> object:
    return torch.func.vmap(f)(x)


def push_forward(f: Callable[[Tensor], Tensor], x: Tensor) -> object:
    return torch.func.jvp(f, (x,), (x,))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("ask", [trace, profile, batch, push_forward])
def test_whoever_asks_there_sees_it(
    layer: nn.Module, passed: list[str], ask: Callable[[Callable[[Tensor], Tensor], Tensor], object]
) -> None:
    ask(layer, torch.randn(3, 70))
    assert passed


def test_subclasses_of_tensors_see_it(layer: nn.Module, passed: list[str]) -> None:
    class Own(Tensor):
        pass

    y = layer(torch.randn(3, 70).as_subclass(Own))
    assert type(y) is Own
    assert passed


def test_the_name_of_a_bad_argument_is_the_same(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match="70"):
        layer(torch.randn(3, 71))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("others", [float("nan"), 0.0])
def test_an_outlier_is_seen_beside_a_nan_and_at_a_rounded_threshold(dtype: torch.dtype, others: float) -> None:
    threshold = 6.01  # in bfloat16 it is 6
    layer = Linear8bit.from_float(nn.Linear(70, 9), threshold=threshold)
    x = torch.full((2, 70), 0.5, dtype=dtype)
    x[1, 5], x[0, 3] = others, 6.0
    found = layer(x)
    expected = ops.linear_8bit.reference(x, layer.weight, layer.scale, layer.bias.detach().to(dtype), threshold)
    assert torch.equal(found.isnan(), expected.isnan())
    torch.testing.assert_close(found, expected, equal_nan=True)
