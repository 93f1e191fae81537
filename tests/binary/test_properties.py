# SPDX-License-Identifier: Apache-2.0
"""What holds for every binary method, whichever paper it comes from."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _binary import METHODS, SPECIAL
from _tolerance import assert_elementwise, assert_exact, assert_reduction
from bittern import binary
from bittern.binary import EWGS, BiT, BMXNet, DoReFa, FracBNN, XNORNetPlusPlus
from bittern.codes import Integers, Ones, odd_integers
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear
from bittern.ops import mean_magnitude, mean_of_sample
from bittern.quantizer import (
    InputCode,
    InputScale,
    LayerShape,
    LevelsCode,
    Method,
    OnesCode,
    Quantized,
    Quantizer,
    SignCode,
    input_codes,
    input_terms,
    weight_codes,
    weight_terms,
)

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def randomize(layer: nn.Module) -> None:
    """Give every learned scale and shift a value of its own, so that none can be forgotten unnoticed."""
    method = layer.method
    assert isinstance(method, Quantizer)
    for name, p in method.named_parameters():
        if "noise" not in name:
            nn.init.uniform_(p, 0.5, 1.5)


def has_zero(m: Quantizer) -> bool:
    """Whether inputs are levels from 0 on, rather than odd numbers."""
    if isinstance(m, BMXNet):
        return m.input_bits > 1
    return isinstance(m, (DoReFa, EWGS)) or (isinstance(m, BiT) and m.inputs == "unsigned")


def test_all_names_every_method_once_in_order() -> None:
    names = [cls.__name__ for cls in binary.ALL]
    compared = ["BNN", "XNORNet", "DoReFa", "BiRealNet", "XNORNetPlusPlus", "ReActNet", "ReCU", "FDA", "IRNet"]
    assert [cls.__name__ for cls in binary.COMPARED] == compared
    later = ["FracBNN", "EWGS", "BiT", "SiMaN", "BNNPlus", "BiPer", "ReBNN", "BNext", "DSQ"]
    later += ["HORQ", "ABCNet", "AdaBin", "RealToBinary", "BiBERT", "ABBNN", "BMXNet"]
    assert names == [*compared, "ReSTE", "RBNN", *later]
    assert set(names) == set(binary.__all__) - {"ALL", "COMPARED", "LATENT_FREE", "SignWeights"}
    assert all(getattr(binary, name) is cls for name, cls in zip(names, binary.ALL, strict=True))


@every_method
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_are_on_the_grid(method: Method, training: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    finite = SPECIAL[SPECIAL.isfinite()].to(dtype)
    w = torch.cat([finite, torch.randn(40).to(dtype)]).view(2, 5, 5)
    x = torch.cat([finite, torch.randn(30).to(dtype)]).view(2, 5, 4)
    m = method(LayerShape(tuple(w.shape))).to(dtype).train(training)
    m.set_progress(1.0)  # the last step: FDA's noise, which is off the grid until then, has ended
    w_terms, x_terms = weight_terms(m, w), input_terms(m, x)
    if not isinstance(m.weight_code(), tuple):
        assert m.weight_code() == odd_integers(m.weight_bits), "every shipped method of one term has odd integers"
    for code, w_q in zip(weight_codes(m), w_terms, strict=True):
        assert code.contains(w_q.values)
        assert code.scale.holds(w_q.scale, w.shape)
    for code, x_q in zip(input_codes(m), x_terms, strict=True):
        bits = m.input_bits // len([c for c in input_codes(m) if not isinstance(c, OnesCode)])
        expected = Integers(0, 2**bits - 1) if has_zero(m) else odd_integers(bits)
        assert code.grid == (Ones() if isinstance(code, OnesCode) else expected)
        assert code.grid.contains(x_q.values)
        assert len(x_q.values.unique()) > 1 or isinstance(code, OnesCode)
    for q in (*w_terms, *x_terms):
        assert q.values.dtype == dtype
        assert q.scale is None or q.scale.dtype == dtype


@every_method
def test_zero_and_negative_zero_become_one_value(method: Method) -> None:
    zeros = torch.tensor([[0.0, -0.0, 0.0, -0.0]])
    m = method(LayerShape((1, 4))).eval()
    assert all(term.values.unique().tolist() == [1.0] for term in weight_terms(m, zeros))
    for code, term in zip(input_codes(m), input_terms(m, zeros), strict=True):
        below = isinstance(code, SignCode) and code.threshold is not None and bool((code.threshold > 0).any())
        assert term.values.unique().tolist() == [0.0 if has_zero(m) else -1.0 if below else 1.0]


@every_method
def test_gradients_are_finite_also_at_infinite_inputs(method: Method) -> None:
    x = SPECIAL.view(1, 4, 3).clone().requires_grad_()
    m = method(LayerShape((1, 4, 1))).eval()
    values = [term.values.sum() for term in input_terms(m, x) if term.values.requires_grad]
    (found,) = torch.autograd.grad(sum(values), x)
    assert found.isfinite().all()


def conv1x1_and_linear(method: Method) -> tuple[BinaryConv2d, BinaryLinear]:
    """The same layer twice: one by one pixel, and no space at all."""
    torch.manual_seed(0)
    conv, linear = BinaryConv2d(7, 6, 1, bias=True, method=method), BinaryLinear(7, 6, bias=True, method=method)
    conv(torch.randn(2, 7, 1, 1))
    randomize(linear)
    state = conv.state_dict() | linear.state_dict()  # XNOR-Net++'s spatial factors stay at 1
    if isinstance(conv.method, XNORNetPlusPlus) and conv.method.case == 2:
        state["method.gamma"] = state.pop("method.alpha")[:, None, None]
    state["weight"] = state["weight"][:, :, None, None]
    conv.load_state_dict(state)
    return conv, linear


@every_method
@pytest.mark.parametrize("training", [True, False])
def test_conv1x1_equals_linear(method: Method, training: bool) -> None:
    conv, linear = conv1x1_and_linear(method)
    conv.train(training)
    linear.train(training)
    x = torch.randn(33, 7)
    x[0, :2] = torch.tensor([0.0, -0.0])
    rows, pixels = x.clone().requires_grad_(), x[:, :, None, None].clone().requires_grad_()
    g = torch.randn(33, 6)
    torch.manual_seed(1)
    y = linear(rows)
    y.backward(g)
    torch.manual_seed(1)
    z = conv(pixels)
    z.backward(g[:, :, None, None])
    assert_reduction(z[:, :, 0, 0].detach(), y.detach().double(), 7, 3.0)
    assert rows.grad is not None
    assert pixels.grad is not None
    assert_reduction(pixels.grad[:, :, 0, 0], rows.grad.double(), 6, float(rows.grad.abs().max()))
    assert linear.weight.grad is not None
    assert conv.weight.grad is not None
    largest = float(linear.weight.grad.abs().max())
    assert_reduction(conv.weight.grad[:, :, 0, 0], linear.weight.grad.double(), 33, largest)


@every_method
@pytest.mark.parametrize("training", [True, False])
def test_conv1d_equals_conv2d_of_height_one(method: Method, training: bool) -> None:
    torch.manual_seed(0)
    options = {"stride": 2, "padding": 2, "dilation": 2, "groups": 2, "bias": True}
    one = BinaryConv1d(4, 6, 3, **options, method=method)
    two = BinaryConv2d(4, 6, (1, 3), stride=(1, 2), padding=(0, 2), dilation=(1, 2), groups=2, bias=True, method=method)
    x = torch.randn(3, 4, 11)
    one(x)
    two(x[:, :, None])
    randomize(one)
    state = one.state_dict()
    state["weight"] = state["weight"][:, :, None]
    if isinstance(one.method, XNORNetPlusPlus):
        if one.method.case == 4:
            state |= {"method.beta": torch.ones(1), "method.gamma": state["method.beta"]}
        elif one.method.case == 3:
            state["method.beta"] = state["method.beta"][None]
        elif one.method.case == 2:
            state["method.gamma"] = state["method.gamma"][:, None]
    two.load_state_dict(state)
    one.train(training)
    two.train(training)
    a, b = x.clone().requires_grad_(), x[:, :, None].clone().requires_grad_()
    torch.manual_seed(1)
    y = one(a)
    torch.manual_seed(1)
    z = two(b)
    assert_reduction(z[:, :, 0].detach(), y.detach().double(), 6, 3.0)
    torch.manual_seed(2)
    y.sum().backward()
    torch.manual_seed(2)
    z.sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    assert_reduction(b.grad[:, :, 0], a.grad.double(), 18, float(a.grad.abs().max()))


def expected_output(layer: BinaryConv2d, x: Tensor) -> Tensor:
    """The layer by torch's own convolution in float64 on the quantized operands."""
    m, g = layer.method, layer.geometry
    w = sum(q.values.double() * (1.0 if q.scale is None else q.scale.double()) for q in weight_terms(m, layer.weight))
    y = torch.zeros(())
    for code, x_q in zip(input_codes(m), input_terms(m, x), strict=True):
        term = F.conv2d(x_q.values.double(), w, None, g.stride, g.padding, g.dilation, g.groups)
        if x_q.scale is not None:
            k = x_q.scale.double()
            if isinstance(code, SignCode) and code.scale is InputScale.SPATIAL:
                height, width = layer.weight.shape[2:]
                patches = F.unfold(k, (height, width), g.dilation, g.padding, g.stride)
                k = patches.mean(1).view(len(x), 1, *term.shape[2:])
            term = term * k
        y = y + term
    for factor in m.output_factors():
        y = y * factor.double()
    gate = m.gate(x)
    y = y if gate is None else y * gate.double()
    return y if layer.bias is None else y + layer.bias.double().view(1, -1, 1, 1)


GEOMETRIES: dict[str, dict[str, object]] = {
    "plain": {},
    "bias": {"bias": True},
    "groups": {"groups": 2},
    "dilation": {"dilation": (2, 1)},
    "stride": {"stride": (1, 2)},
    "padding": {"padding": (1, 2)},
    "all": {"bias": True, "groups": 2, "dilation": 2, "stride": (2, 1), "padding": 2},
}


@every_method
@pytest.mark.parametrize("options", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_layer_does_what_torchs_convolution_says(method: Method, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(4, 6, 3, **options, method=method)  # type: ignore[arg-type]
    x = torch.randn(2, 4, 7, 8)
    layer(x)
    randomize(layer)
    layer.eval()
    found = layer(x).detach()
    exact = expected_output(layer, x).detach()
    assert_elementwise(found, exact, 16, float(exact.abs().max()))
    assert (
        found.shape
        == F.conv2d(
            x,
            layer.weight,
            None,
            layer.geometry.stride,
            layer.geometry.padding,
            layer.geometry.dilation,
            layer.geometry.groups,
        ).shape
    )


@every_method
@pytest.mark.parametrize("change", ["groups", "dilation", "stride", "bias"])
def test_geometry_is_never_ignored(method: Method, change: str) -> None:
    """Two layers that differ in one option only, on the same weights, give different outputs."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, 7, 7)
    plain = BinaryConv2d(4, 6, 3, padding=1, method=method)
    options: dict[str, object] = {change: True if change == "bias" else 2}
    other = BinaryConv2d(4, 6, 3, padding=2 if change == "dilation" else 1, **options, method=method)  # type: ignore[arg-type]
    with torch.no_grad():
        other.weight.copy_(plain.weight[:, : other.weight.shape[1]])
        if other.bias is not None:
            other.bias.fill_(0.5)
    own = plain.state_dict() if not isinstance(plain.method, XNORNetPlusPlus) and change != "groups" else {}
    other.load_state_dict({k: v for k, v in own.items() if k.startswith("method.")}, strict=False)
    y, z = plain.eval()(x), other.eval()(x)
    if change == "stride":
        assert z.shape == (2, 6, 4, 4)
        # XNOR-Net++ sizes its factors by the output, but all are 1 here
        assert torch.equal(z, y[:, :, ::2, ::2])
    else:
        assert y.shape == z.shape
        assert not torch.equal(y, z)
    if change == "bias":
        assert torch.equal(z, y + 0.5)


@every_method
def test_input_code_says_what_input_computes(method: Method) -> None:
    torch.manual_seed(0)
    m = method(LayerShape((2, 6, 1, 1))).eval()
    for p in m.parameters():
        if not isinstance(p, nn.parameter.UninitializedParameter):
            nn.init.normal_(p)
    x = torch.randn(3, 6, 5, 7)
    x.view(-1)[: len(SPECIAL)] = SPECIAL
    thresholds = [c.threshold for c in input_codes(m) if isinstance(c, SignCode) and c.threshold is not None]
    for pixel, threshold in enumerate(thresholds):
        assert threshold.shape == (6,)
        x[1, :, 0, pixel] = threshold.detach()  # a tie is +1
    for code, q in zip(input_codes(m), input_terms(m, x), strict=True):
        assert_says_what_is_computed(m, code, q, x)


def assert_says_what_is_computed(m: Quantizer, code: InputCode, q: Quantized, x: Tensor) -> None:
    if isinstance(code, LevelsCode):
        assert code.bits == m.input_bits
        expected = torch.round(x.clamp(0, 1) * (2**code.bits - 1)) if code.low is None else code.values(x)
        assert torch.equal(q.values, expected)
        if isinstance(m, (DoReFa, FracBNN)):
            assert (1.0 if q.scale is None else q.scale.item()) == pytest.approx(1 / (2**code.bits - 1))
        else:
            assert q.scale is None or q.scale.ndim == 0
        return
    if isinstance(code, OnesCode):
        assert torch.equal(q.values, torch.ones_like(x))
        assert q.scale is None or q.scale.ndim == 0
        return
    assert isinstance(code, SignCode)
    rest = x
    for _ in range(code.order):
        mean = mean_magnitude.reference(rest)
        mean = mean if code.scale is InputScale.SPATIAL else mean_of_sample(mean)
        rest = rest - mean * torch.where(rest >= 0, 1.0, -1.0)
    threshold = torch.zeros(6) if code.threshold is None else code.threshold
    assert torch.equal(q.values, torch.where(rest >= threshold.view(1, 6, 1, 1), 1.0, -1.0))
    if code.scale is InputScale.NONE:
        assert q.scale is None or q.scale.ndim == 0
        return
    means = mean_magnitude.reference(rest)
    assert q.scale is not None
    expected = means if code.scale is InputScale.SPATIAL else mean_of_sample(means)
    assert torch.equal(q.scale.nan_to_num(nan=-1.0), expected.nan_to_num(nan=-1.0))


@every_method
def test_output_is_the_product_of_output_factors(method: Method) -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(4, 6, 3, method=method)
    layer(torch.randn(2, 4, 6, 7))
    randomize(layer)
    layer.eval()
    y = torch.randn(2, 6, 4, 5)
    factors = layer.method.output_factors()
    if not factors:
        assert layer.method.output(y) is y
        return
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    assert_exact(layer.method.output(y), y * product)


@every_method
def test_an_empty_batch_passes_through(method: Method) -> None:
    layer = BinaryConv2d(4, 6, 3, method=method)
    x = torch.zeros(0, 4, 6, 6, requires_grad=True)
    y = layer(x)
    assert y.shape == (0, 6, 4, 4)
    y.sum().backward()
