# SPDX-License-Identifier: Apache-2.0
"""Layers with 8-bit and 4-bit weights under bitsandbytes' names: values, gradients, files."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bittern.compat.bitsandbytes as bnb
from _tolerance import assert_reduction
from bittern.compat.bitsandbytes import functional as F

KINDS = [("nf4", True), ("nf4", False), ("fp4", True), ("fp4", False)]


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _linear4bit(quant_type: str = "nf4", nested: bool = True, rows: int = 96, columns: int = 128) -> bnb.nn.Linear4bit:
    layer = bnb.nn.Linear4bit(columns, rows, compress_statistics=nested, quant_type=quant_type)
    with torch.no_grad():
        layer.weight.copy_(_random(rows, columns))
    return layer.to("cpu")


def _linear8bit(threshold: float = 0.0, **options: Any) -> bnb.nn.Linear8bitLt:
    layer = bnb.nn.Linear8bitLt(64, 48, has_fp16_weights=False, threshold=threshold, **options)
    with torch.no_grad():
        layer.weight.copy_(_random(48, 64))
    return layer.to("cpu")


@pytest.mark.parametrize(("quant_type", "nested"), KINDS)
@pytest.mark.parametrize("shape", [(96, 128), (33, 80), (5, 48)])
def test_linear4bit_is_the_decoded_weight(quant_type: str, nested: bool, shape: tuple[int, int]) -> None:
    layer = _linear4bit(quant_type, nested, *shape)
    assert layer.weight.dtype == torch.uint8
    assert layer.weight.shape == (shape[0] * shape[1] // 2, 1)
    state = layer.quant_state
    assert state is not None
    weight = F.dequantize_4bit(layer.weight.data, state)
    x = _random(2, 3, shape[1], seed=1).requires_grad_()
    y = layer(x)
    assert layer.bias is not None
    exact = nn.functional.linear(x.detach().double(), weight.double(), layer.bias.detach().double())
    assert_reduction(y.detach(), exact, shape[1] + 1, exact.abs().max())
    grad = _random(2, 3, shape[0], seed=2)
    y.backward(grad)
    assert x.grad is not None
    exact = grad.double() @ weight.double()
    assert_reduction(x.grad, exact, shape[0], exact.abs().max())
    assert layer.weight.grad is None
    assert layer.bias.grad is not None


def test_train_eval_train_keeps_gradients_and_checkpoint() -> None:
    """In bitsandbytes an eval forward repacks the weight: later gradients vanish and the file is wrong."""
    layer = _linear4bit()
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    x = _random(4, 128, seed=1).requires_grad_()
    layer(x).sum().backward()
    first = x.grad
    x.grad = None
    layer.eval()
    with torch.no_grad():
        evaluated = layer(x)
    layer.train()
    layer(x).sum().backward()
    assert first is not None
    assert x.grad is not None
    assert torch.equal(x.grad, first)
    assert torch.equal(evaluated, layer(x).detach())
    after = layer.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize(("quant_type", "nested"), KINDS)
def test_linear4bit_file(quant_type: str, nested: bool) -> None:
    layer = _linear4bit(quant_type, nested)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    parts = ["absmax", "quant_map", *(["nested_absmax", "nested_quant_map"] if nested else [])]
    keys = ["weight", "bias", *(f"weight.{part}" for part in parts), f"weight.quant_state.bitsandbytes__{quant_type}"]
    assert list(saved) == keys
    other = bnb.nn.Linear4bit(128, 96)
    other.load_state_dict(saved)
    x = _random(3, 128, seed=1)
    assert torch.equal(other(x), layer(x))


def test_linear4bit_copies() -> None:
    layer, x = _linear4bit(), _random(3, 128, seed=1)
    expected = layer(x)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        assert type(other.weight) is bnb.nn.Params4bit
        assert torch.equal(other(x), expected)
    parts = torch.chunk(layer.weight, 2)
    assert all(part.quant_state is layer.weight.quant_state for part in parts)
    assert layer.weight.nested_absmax is layer.quant_state.state2.absmax  # type: ignore[union-attr]


def test_forward_before_quantization_is_refused() -> None:
    for layer, x in (
        (bnb.nn.LinearNF4(64, 64), _random(1, 64)),
        (bnb.nn.EmbeddingFP4(64, 64), torch.tensor([1])),
        (bnb.nn.Embedding8bit(64, 64), torch.tensor([1])),
    ):
        with pytest.raises(RuntimeError, match="not quantized yet"):
            layer(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_linear8bit_in_eval_mode(dtype: torch.dtype) -> None:
    layer = _linear8bit().eval()
    x = _random(2, 5, 64, seed=1).to(dtype)
    scales = layer.weight.SCB
    assert scales is not None
    assert layer.weight.dtype == torch.int8
    weight = layer.weight * scales.unsqueeze(1) / 127
    codes, absmax, _ = F.int8_vectorwise_quant(x)
    exact = (codes.double() * absmax.view(2, 5, 1).double() / 127) @ weight.double().t()
    assert layer.bias is not None
    with torch.no_grad():
        y = layer(x)
    assert y.dtype == dtype
    torch.testing.assert_close(
        y.double(),
        exact + layer.bias.double(),
        rtol=2e-2 if dtype != torch.float32 else 1e-5,
        atol=1e-2 if dtype != torch.float32 else 1e-5,
    )


def test_outlier_columns_stay_out_of_the_codes() -> None:
    x = _random(6, 64, seed=1)
    x[2, 7] = 60.0
    plain, kept = _linear8bit().eval(), _linear8bit(threshold=6.0).eval()
    kept.load_state_dict(plain.state_dict())
    assert plain.weight.SCB is not None
    assert plain.bias is not None
    exact = x @ (plain.weight * plain.weight.SCB.unsqueeze(1) / 127).t() + plain.bias
    with torch.no_grad():
        errors = [float((layer(x) - exact).abs().max()) for layer in (plain, kept)]
    assert kept.state.idx is not None
    assert kept.state.idx.tolist() == [7]
    assert errors[1] < 0.3 * errors[0]


def test_linear8bit_gradients_and_training() -> None:
    layer = _linear8bit()
    x = _random(2, 5, 64, seed=1).requires_grad_()
    layer(x).square().sum().backward()
    assert layer.weight.SCB is not None
    weight = layer.weight * layer.weight.SCB.unsqueeze(1) / 127
    other = x.detach().clone().requires_grad_()
    nn.functional.linear(other, weight, layer.bias).square().sum().backward()
    torch.testing.assert_close(x.grad, other.grad, rtol=1e-4, atol=1e-3)
    trained = bnb.nn.Linear8bitLt(64, 48)
    trained(x.detach()).square().sum().backward()
    assert trained.weight.grad is not None
    assert trained.weight.grad.shape == (48, 64)
    with torch.no_grad():
        before = trained.eval()(x)
        trained.weight.mul_(2)
        after = trained(x)
    assert trained.bias is not None
    torch.testing.assert_close(after - trained.bias, 2 * (before - trained.bias), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e5])
def test_weights_without_a_code_are_refused(value: float) -> None:
    """NaN would count as 0 and inf as the largest code; 1e5 is inf in float16, which 8-bit codes are made from."""
    for layer in (bnb.nn.LinearNF4(64, 48), bnb.nn.Embedding4bit(48, 64), bnb.nn.Linear8bitLt(64, 48, False, False)):
        eight = isinstance(layer, bnb.nn.Linear8bitLt)
        if value == 1e5 and not eight:
            continue
        with torch.no_grad():
            layer.weight[2, 3] = value
        name = "Int8Params: in float16" if eight else "Params4bit"
        with pytest.raises(ValueError, match=rf"{name}: the weight \[48, 64\] must be finite to be quantized; got "):
            layer.to("cpu")
    linear = nn.Linear(64, 48)
    nn.init.constant_(linear.weight, float("nan"))
    with pytest.raises(ValueError, match=r"replace_parameter_4bit: 'weight': the weight .* got 3072 NaN and 0 inf"):
        bnb.nn.parametrize.replace_parameter_4bit(linear, "weight")


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("make", [_linear4bit, _linear8bit])
def test_second_derivatives(make: Any, training: bool) -> None:
    """p = |dL/dx|^2 with L = |y|^2: its gradient is 8 y W W^T W, with y = x W^T + bias as the layer computes it."""
    layer = make().train(training)
    if isinstance(layer, bnb.nn.Linear4bit):
        weight = F.dequantize_4bit(layer.weight, layer.quant_state)
    else:
        weight = layer.weight * layer.weight.SCB.unsqueeze(1) / 127
    x = _random(3, weight.shape[1], seed=1).requires_grad_()
    y = layer(x)
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    grad.square().sum().backward()
    exact = 8.0 * y.detach().double() @ weight.double() @ weight.t().double() @ weight.double()
    assert x.grad is not None
    assert_reduction(x.grad, exact, weight.numel(), exact.abs().max())


def test_names_that_other_libraries_read() -> None:
    """PEFT builds its layers from `index`; the helpers of bitsandbytes' tests import HIP_ENVIRONMENT."""
    assert _linear8bit().index is None
    assert bnb.cextension.HIP_ENVIRONMENT is False


def test_linear8bit_file() -> None:
    layer = _linear8bit().eval()
    saved = layer.state_dict()
    assert list(saved) == ["weight", "bias", "SCB", "weight_format"]
    assert (saved["weight"].dtype, saved["SCB"].dtype, saved["weight_format"].item()) == (torch.int8, torch.float32, 0)
    other = bnb.nn.Linear8bitLt(64, 48, has_fp16_weights=False).eval()
    other.load_state_dict(saved)
    x = _random(3, 64, seed=1)
    with torch.no_grad():
        assert torch.equal(other(x), layer(x))
        assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    with pytest.raises(ValueError, match="weight_format"):
        other.load_state_dict({**saved, "weight_format": torch.tensor(3)})


@pytest.mark.parametrize("dim", [64, 128, 80])
@pytest.mark.parametrize("name", ["EmbeddingNF4", "EmbeddingFP4", "Embedding8bit"])
def test_embeddings(name: str, dim: int) -> None:
    layer = getattr(bnb.nn, name)(20, dim)
    weight = layer.weight.detach().clone()
    layer.to("cpu")
    index = torch.tensor([[3, 0], [19, 3]])
    found = layer(index)
    if name == "Embedding8bit":
        decoded = layer.weight * layer.weight.SCB.unsqueeze(1) / 127
    else:
        decoded = F.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    torch.testing.assert_close(found, decoded[index])
    assert float((found - weight[index]).abs().max()) < 0.2 * float(weight.abs().max())
    with pytest.raises(NotImplementedError, match="file format"):
        layer.state_dict()


def test_replace_parameter_4bit() -> None:
    module = nn.Linear(64, 32)
    weight = module.weight.detach().clone()
    bnb.nn.parametrize.replace_parameter_4bit(module, "weight", compress_statistics=True)
    packed, state = F.quantize_nf4(weight, compress_statistics=True)
    assert torch.equal(module.weight, F.dequantize_4bit(packed, state))
    saved = module.state_dict()
    assert torch.equal(saved["weight"], packed)
    assert "weight.quant_state.bitsandbytes__nf4" in saved
    other = nn.Linear(64, 32)
    other.weight = nn.Parameter(saved["weight"], requires_grad=False)
    stats = {key: value for key, value in saved.items() if key.startswith("weight.")}
    bnb.nn.parametrize.replace_parameter_4bit_prequantized(other, "weight", stats, "cpu")
    assert torch.equal(other.weight, module.weight)
    with pytest.raises(AttributeError, match="does not have"):
        bnb.nn.parametrize.replace_parameter_4bit(module, "nothing")
    with pytest.raises(TypeError, match="not an instance"):
        bnb.nn.parametrize.replace_parameter_4bit(nn.Flatten(), "start_dim")


def test_int8_functions() -> None:
    a, b = _random(7, 33), _random(9, 33, seed=1)
    (ca, sa, columns), (cb, sb, _) = F.int8_vectorwise_quant(a), F.int8_vectorwise_quant(b)
    assert columns is None
    product = F.int8_linear_matmul(ca, cb)
    assert torch.equal(product, (ca.double() @ cb.double().t()).int())
    torch.testing.assert_close(F.int8_mm_dequant(product, sa, sb).float(), a @ b.t(), rtol=0, atol=0.3)
    torch.testing.assert_close(F.int8_vectorwise_dequant(ca, sa), a, rtol=0, atol=float(sa.max()) / 250)
    assert torch.equal(F.int8_vectorwise_quant(torch.zeros(2, 8))[0], torch.zeros(2, 8, dtype=torch.int8))
    rows, by_column, row_absmax, column_absmax, _ = F.int8_double_quant(a)
    assert torch.equal(rows, ca)
    assert torch.equal(row_absmax, sa)
    assert torch.equal(by_column, F.int8_vectorwise_quant(a.t())[0].t())
    torch.testing.assert_close(column_absmax, a.abs().amax(0))


def test_functional_optimizer_steps_equal_the_classes() -> None:
    for bits in (8, 32):
        p = nn.Parameter(_random(64, 96))
        q = p.detach().clone()
        optimizer = bnb.optim.AdamW([p], lr=0.01, weight_decay=0.1, optim_bits=bits)
        m, v = torch.zeros_like(q), torch.zeros_like(q)
        maps = F.create_dynamic_map(True), F.create_dynamic_map(False)
        codes = [torch.full(q.shape, int(table.abs().argmin()), dtype=torch.uint8) for table in maps]
        absmax = [torch.zeros(24) for _ in maps]
        for step in range(1, 4):
            p.grad = _random(64, 96, seed=step)
            optimizer.step()
            if bits == 32:
                F.optimizer_update_32bit("adam", p.grad, q, m, 0.9, 1e-8, step, 0.01, v, 0.999, weight_decay=0.1)
            else:
                F.optimizer_update_8bit_blockwise(
                    *("adam", p.grad, q, *codes, 0.9, 0.999, 0.0, 0.0, 1e-8, step, 0.01, *maps, *absmax),
                    weight_decay=0.1,
                )
        assert torch.equal(p.detach(), q)
    with pytest.raises(ValueError, match="skip_zeros"):
        F.optimizer_update_32bit("lion", q, q, m, 0.9, 0.0, 1, 0.01, skip_zeros=True)
    with pytest.raises(ValueError, match="the unsigned one"):
        F.optimizer_update_8bit_blockwise(
            "rmsprop", q, q, codes[0], None, 0.9, 0, 0, 0, 1e-8, 1, 0.01, maps[0], None, absmax[0], None
        )


@pytest.fixture(scope="module")
def real() -> Any:
    import bitsandbytes

    return bitsandbytes


@pytest.mark.peers("bitsandbytes")
@pytest.mark.filterwarnings("ignore")
class TestAgainstTheRealOne:
    """bitsandbytes itself."""

    @pytest.mark.parametrize(("quant_type", "nested"), KINDS)
    def test_linear4bit(self, real: Any, quant_type: str, nested: bool) -> None:
        theirs = real.nn.Linear4bit(128, 96, quant_type=quant_type, compress_statistics=nested)
        with torch.no_grad():
            theirs.weight.copy_(_random(96, 128))
        theirs.to("cpu")
        ours = bnb.nn.Linear4bit(128, 96)
        ours.load_state_dict(theirs.state_dict())
        x = _random(3, 128, seed=1)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
        mine = _linear4bit(quant_type, nested)
        saved, bias = mine.state_dict(), mine.bias
        assert list(saved) == list(theirs.state_dict())
        weight = real.nn.Params4bit.from_prequantized(
            saved["weight"], {k: v for k, v in saved.items() if k.startswith("weight.")}, device="cpu"
        )
        product = real.matmul_4bit(x, weight.t(), bias=bias, quant_state=weight.quant_state)
        torch.testing.assert_close(product, mine(x), rtol=1e-5, atol=1e-5)

    def test_linear8bit(self, real: Any) -> None:
        theirs = real.nn.Linear8bitLt(64, 48, has_fp16_weights=False)
        with torch.no_grad():
            theirs.weight.copy_(_random(48, 64))
        theirs.to("cpu").eval()
        ours = _linear8bit().eval()
        with torch.no_grad():
            ours.bias.copy_(theirs.bias)  # type: ignore[union-attr]
            x = _random(3, 64, seed=1).half()
            assert torch.equal(ours.weight.data, theirs.weight.data)
            torch.testing.assert_close(ours(x), theirs(x), rtol=2e-3, atol=2e-2)
            saved = theirs.state_dict()
            ours.load_state_dict(saved)
            assert list(saved) == list(ours.state_dict())
            fresh = real.nn.Linear8bitLt(64, 48, has_fp16_weights=False).to("cpu").eval()
            fresh.load_state_dict(ours.state_dict())
            assert torch.equal(fresh(x), theirs(x))

    def test_signatures(self, real: Any) -> None:
        import inspect

        for name in ("Linear4bit", "LinearNF4", "LinearFP4", "Linear8bitLt", "Embedding8bit", "EmbeddingNF4"):
            a, b = (inspect.signature(getattr(m.nn, name)) for m in (real, bnb))
            assert [(n, p.default) for n, p in a.parameters.items()] == [
                (n, p.default) for n, p in b.parameters.items()
            ]
        for name in F.__all__:
            if name not in ("QuantState", "get_4bit_type"):
                a, b = (inspect.signature(getattr(m, name)) for m in (real.functional, F))
                assert list(a.parameters) == list(b.parameters), name
