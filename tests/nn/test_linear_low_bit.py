# SPDX-License-Identifier: Apache-2.0
"""Linear4bit and Linear8bit: what they store, that they train what is around them, that types and files survive."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from _tolerance import assert_reduction
from bittern.nn import Linear4bit, Linear8bit
from bittern.ops import codebooks


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def bytes_of(module: nn.Module) -> int:
    return sum(b.numel() * b.element_size() for b in module.buffers())


def reloaded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    found: dict[str, Tensor] = torch.load(file, weights_only=True)
    return found


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("sizes", [(128, 96), (70, 9)])
def test_4bit_layer_is_its_decoded_weight(nested: bool, sizes: tuple[int, int]) -> None:
    linear = nn.Linear(*sizes)
    layer = Linear4bit.from_float(linear, nested=nested)
    x = torch.randn(2, 5, sizes[0])
    weight = layer.dequantize()
    exact = x.double() @ weight.double().t() + linear.bias.detach().double()
    assert_reduction(layer(x).detach(), exact, sizes[0] + 1, exact.abs().max())
    assert float((weight - linear.weight).detach().abs().max()) < 0.2 * float(linear.weight.detach().abs().max())
    assert layer.bias is linear.bias


class Operators(TorchDispatchMode):
    """What torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(operator))
        return operator(*args, **(kwargs or {}))


def test_a_call_with_nested_scales_is_a_handful_of_operators() -> None:
    """The table of the scales was made of hundreds of tensors at every call, which a trace wrote down too."""
    layer = Linear4bit(128, 16, nested=True)
    with torch.no_grad(), Operators() as seen:
        layer(torch.randn(2, 128))
    assert len(seen.names) <= 12, seen.names


def test_bits_per_weight() -> None:
    linear = nn.Linear(1024, 1024, bias=False)
    table = 64  # bytes of the code table
    for nested, bits in ((False, 4.5), (True, 4.127)):
        layer = Linear4bit.from_float(linear, nested=nested)
        assert abs((bytes_of(layer) - table) * 8 / 1024**2 - bits) < 0.001
    assert bytes_of(Linear8bit.from_float(linear)) == 1024**2 + 4 * 1024


@pytest.mark.parametrize("kind", [Linear4bit, Linear8bit])
def test_gradients_reach_what_is_before_and_only_that(kind: type[Linear4bit] | type[Linear8bit]) -> None:
    model = nn.Sequential(nn.Linear(32, 64), kind(64, 16))
    model(torch.randn(4, 32)).square().sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        "0.weight",
        "0.bias",
        "1.bias",
    }


@pytest.mark.parametrize("kind", [Linear4bit, Linear8bit])
def test_gradient_without_bias(kind: type[Linear4bit] | type[Linear8bit]) -> None:
    layer = kind(64, 16, bias=False)
    x = torch.randn(4, 64, requires_grad=True)
    grad = torch.randn(4, 16)
    layer(x).backward(grad)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, grad @ layer.dequantize(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [Linear4bit, Linear8bit])
def test_adapters_train_through_the_frozen_layer(kind: type[Linear4bit] | type[Linear8bit]) -> None:
    """Low-rank adapters learn what quantization and a changed task ask for (QLoRA)."""
    target = nn.Linear(64, 32)
    base = kind.from_float(nn.Linear(64, 32))
    base.requires_grad_(False)
    down, up = nn.Linear(64, 32, bias=False), nn.Linear(32, 32, bias=True)
    nn.init.zeros_(up.weight)
    optimizer = torch.optim.Adam([*down.parameters(), *up.parameters()], 0.01)
    x = torch.randn(256, 64)
    losses = []
    frozen = {key: value.clone() for key, value in base.state_dict().items()}
    for _ in range(150):
        optimizer.zero_grad()
        loss = (base(x) + up(down(x)) - target(x).detach()).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
    assert all(torch.equal(value, frozen[key]) for key, value in base.state_dict().items())


@pytest.mark.parametrize("kind", [Linear4bit, Linear8bit])
def test_casting_is_about_the_arithmetic(kind: type[Linear4bit] | type[Linear8bit]) -> None:
    layer = kind(64, 16)
    before = {name: b.clone() for name, b in layer.named_buffers()}
    layer.to(torch.bfloat16)
    assert layer.bias.dtype == torch.bfloat16
    assert all(torch.equal(b, before[name]) for name, b in layer.named_buffers())
    x = torch.randn(3, 64)
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert layer(x).dtype == torch.float32
    assert layer.to("meta")(x.to("meta")).shape == (3, 16)


@pytest.mark.parametrize("nested", [False, True])
def test_4bit_file(nested: bool) -> None:
    layer, other = Linear4bit(64, 16, nested=nested), Linear4bit(64, 16, nested=nested)
    other.load_state_dict(reloaded(layer.state_dict()))
    x = torch.randn(3, 64)
    assert torch.equal(layer(x), other(x))
    with pytest.raises(RuntimeError, match="absmax"):
        Linear4bit(64, 16, nested=not nested).load_state_dict(layer.state_dict())


def test_4bit_state_of_before() -> None:
    """The table's name was `code`."""
    layer, other = Linear4bit(64, 16, code=codebooks.fp4()), nn.Sequential(Linear4bit(64, 16))
    old = {"code" if name == "table" else name: value for name, value in layer.state_dict().items()}
    Linear4bit(64, 16).load_state_dict(old)
    other.load_state_dict({f"0.{name}": value for name, value in old.items()})
    x = torch.randn(3, 64)
    assert torch.equal(layer(x), other(x))
    assert torch.equal(layer.code, layer.table)
    with pytest.raises(RuntimeError, match="code"):
        layer.load_state_dict({**layer.state_dict(), "code": layer.table})
    with pytest.raises(RuntimeError, match=r"table must be .*; got torch\.float64"):
        layer.load_state_dict({**old, "code": layer.table.double()})


@pytest.mark.parametrize("nested", [False, True])
def test_4bit_layer_exports_as_the_whole_and_as_a_part(nested: bool) -> None:
    layer, x = Linear4bit(64, 16, nested=nested), torch.randn(3, 64)
    for model in (layer, nn.Sequential(layer, nn.ReLU())):
        program = torch.export.export(model, (x,))
        assert torch.equal(program.module()(x), model(x))


def test_8bit_layer_is_close_and_its_file_too() -> None:
    linear = nn.Linear(256, 64)
    layer, other = Linear8bit.from_float(linear), Linear8bit(256, 64)
    other.load_state_dict(reloaded(layer.state_dict()))
    x = torch.randn(32, 256)
    x[:, 7] *= 40  # an outlier feature
    assert torch.equal(layer(x), other(x))
    error = (layer(x) - linear(x)).detach().norm() / linear(x).detach().norm()
    rough = Linear8bit.from_float(linear, threshold=0.0)
    worse = (rough(x) - linear(x)).detach().norm() / linear(x).detach().norm()
    assert float(error) < 0.01 < float(worse)


def test_other_tables_and_shared_bias() -> None:
    linear = nn.Linear(64, 8, bias=False)
    layer = Linear4bit.from_float(linear, code=codebooks.fp4(), block_size=32)
    assert layer.bias is None
    assert layer(torch.zeros(1, 64)).abs().max() == 0
    assert "block_size=32" in repr(layer)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="code must be one row of 16 entries"):
        Linear4bit(64, 8, code=codebooks.dynamic_tree())
    with pytest.raises(ValueError, match="power of two from 32 to 4096; got 48"):
        Linear4bit(64, 8, block_size=48)
    with pytest.raises(ValueError, match="threshold must be 0"):
        Linear8bit(64, 8, threshold=-1.0)
    broken = nn.Linear(4, 4)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(ValueError, match=r"linear.weight must be finite; got 16 NaN and 0 inf, the first at \[0, 0\]"):
        Linear8bit.from_float(broken)
    with pytest.raises(ValueError, match="133144 in_features; got 140000; use Linear4bit"):
        Linear8bit(140_000, 1, device="meta")


@pytest.mark.parametrize("kind", [Linear4bit, Linear8bit])
@pytest.mark.parametrize("shape", [(2, 64), (2, 66), (65, 2), (65, 0), ()])
def test_other_numbers_of_features_are_refused(
    kind: type[Linear4bit] | type[Linear8bit], shape: tuple[int, ...]
) -> None:
    """65 and 66 features of one output fill as many bytes and blocks, so that only the layer can tell them apart."""
    layer = kind(65, 1)
    assert layer(torch.ones(2, 65)).shape == (2, 1)
    with pytest.raises(ValueError, match=rf"{kind.__name__}: x must be \[..., 65\], features last; got"):
        layer(torch.ones(shape))
    with pytest.raises(TypeError, match=f"{kind.__name__}: x must be a tensor; got ndarray; make it one"):
        layer(torch.ones(2, 65).numpy())


@pytest.mark.parametrize(
    "make", [Linear4bit.from_float, lambda x: Linear4bit.from_float(x, nested=True), Linear8bit.from_float]
)
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-40, 1e-30, 1e30, 3.4e38])
def test_weights_at_the_ends_of_float32(make: Any, value: float) -> None:
    """Blocks of zeros and of subnormal numbers are zeros; the largest numbers come back finite."""
    linear = nn.Linear(64, 8)
    nn.init.constant_(linear.weight, value)
    weight = make(linear).dequantize()
    exact = 0.0 if value < torch.finfo(torch.float32).tiny else value
    torch.testing.assert_close(weight, torch.full_like(weight, exact), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("kind", [Linear4bit, Linear8bit])
def test_second_derivatives_of_a_network(kind: type[Linear4bit] | type[Linear8bit]) -> None:
    """A gradient penalty through two layers is that of the network with the decoded weights."""
    first, second = kind(65, 33), kind(33, 1)
    found, exact = [], []
    for layers, place in (((first, second), found), ((decoded(first), decoded(second)), exact)):
        x = torch.linspace(-1.0, 1.0, 130).view(2, 65).requires_grad_()
        y = layers[1](torch.tanh(layers[0](x)))
        (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        place += torch.autograd.grad(grad.square().sum(), (x, layers[0].bias))
    for a, b in zip(found, exact, strict=True):
        assert float(b.norm()) > 0
        assert float((a - b).norm()) < 0.02 * float(b.norm())


def decoded(layer: Linear4bit | Linear8bit) -> nn.Linear:
    linear = nn.Linear(layer.in_features, layer.out_features)
    linear.weight, linear.bias = nn.Parameter(layer.dequantize()), layer.bias
    return linear


def test_what_is_no_weight_in_numbers() -> None:
    linear = nn.Linear(64, 8)
    linear.weight = nn.Parameter(torch.zeros(256, 1, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(
        TypeError, match=r"Linear4bit: linear.weight must be numbers \[8, 64\]; got torch.uint8 \[256, 1\]"
    ):
        Linear4bit.from_float(linear)
    with pytest.raises(TypeError, match=r"linear.weight must be float32, bfloat16, float16; got torch.float64"):
        Linear4bit.from_float(nn.Linear(64, 8).double())
    double = nn.Linear(64, 8).double()
    nn.init.constant_(double.weight, 1e200)
    with pytest.raises(ValueError, match="must be finite as float32"):
        Linear8bit.from_float(double)


def test_a_row_of_zeros_has_codes_of_zero() -> None:
    linear = nn.Linear(8, 3, bias=False)
    with torch.no_grad():
        linear.weight[1] = 0.0
    layer = Linear8bit.from_float(linear)
    assert layer.scale[1] == 0
    assert not layer.weight[1].any()
    assert not layer(torch.randn(5, 8))[:, 1].any()


@pytest.mark.parametrize("kind", [Linear4bit, Linear8bit])
def test_what_cannot_be_frozen(kind: type[Linear4bit] | type[Linear8bit]) -> None:
    broken = nn.Linear(4, 4)
    nn.init.constant_(broken.weight, float("inf"))
    with pytest.raises(ValueError, match=f"{kind.__name__}: linear.weight must be finite; got 0 NaN and 16 inf"):
        kind.from_float(broken)
    with pytest.raises(TypeError, match=f"{kind.__name__}: it takes the place of an nn.Linear; got Conv2d"):
        kind.from_float(nn.Conv2d(3, 3, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "key"), [(Linear4bit, "packed"), (Linear8bit, "weight"), (Linear8bit, "scale")])
def test_a_file_with_codes_of_another_type_is_refused(kind: type[Linear4bit] | type[Linear8bit], key: str) -> None:
    layer = kind(64, 8)
    state = layer.state_dict()
    with pytest.raises(RuntimeError, match=f"{key} must be .*; got torch.float64"):
        kind(64, 8).load_state_dict({**state, key: state[key].double()})
