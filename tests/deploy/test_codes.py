# SPDX-License-Identifier: Apache-2.0
"""Weights of other codes than odd integers, and sums of terms: training, layers, packed programs and files."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import _quantizers
import bittern
from _packed_files import program_file
from _quantizers import METHODS, SEVERAL_INPUTS, FiveLevels, ResidualSigns, TernaryWeights
from bittern.codes import Code, Integers, PerBlock, PerInputGroup, PerTensor, Signs, Ternary
from bittern.deploy import FormatError, Packed, PackError, pack, verify
from bittern.deploy.engine.groups.block import Block
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.packed import from_bytes
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear
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
    WeightCode,
    input_terms,
    weight_terms,
)

EVERY = METHODS | SEVERAL_INPUTS
each_method = pytest.mark.parametrize("method", EVERY.values(), ids=EVERY.keys())


def network(method: Method) -> nn.Sequential:
    """Layers of odd sizes, in groups, with bias and without, padded, over two dimensions, and over none."""
    torch.manual_seed(0)
    model = nn.Sequential(
        BinaryConv2d(6, 70, 3, padding=1, bias=True, method=method),
        nn.BatchNorm2d(70),
        nn.Hardtanh(),
        BinaryConv2d(70, 10, (3, 2), stride=(2, 1), dilation=(1, 2), groups=5, padding=1, method=method),
        nn.BatchNorm2d(10),
        nn.Flatten(),
        BinaryLinear(10 * 4 * 7, 9, bias=True, method=method),
    )
    model(torch.randn(32, 6, 7, 7))  # statistics that spread what comes next over -2 ... 3
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(-1.5, 1.5)
                module.bias.fill_(0.5)
    return model.eval()


def scaled_by_torchs_means(packed: Packed) -> bool:
    nodes = [node for node in packed.program.nodes if node.attrs.get("input_scale", "none") != "none"]
    return any(node.attrs["scale_order"] == "torch" for node in nodes)


@each_method
def test_packed_equals_trained(method: Method) -> None:
    model, x = network(method), torch.randn(3, 6, 7, 7)
    packed = pack(model, x)
    report = verify(packed, model, x)
    assert report.exact
    assert report.logits_identical
    again = from_bytes(packed.to_bytes())
    assert again.to_bytes() == packed.to_bytes()
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
        assert torch.equal(Interpreter(packed.program, packed.tensors, packed.device)(x), model(x))


@each_method
def test_one_dimension_and_rows_of_a_sample(method: Method) -> None:
    class Signal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = BinaryConv1d(5, 12, 3, padding=1, method=method)
            self.fc = BinaryLinear(12, 7, bias=True, method=method)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).permute(0, 2, 1))

    torch.manual_seed(1)
    model, x = Signal().eval(), torch.randn(3, 5, 11)
    packed = pack(model, x)
    report = verify(packed, model, x)
    assert report.exact
    # the mean of a permuted row is summed in another order
    assert report.logits_identical == (not scaled_by_torchs_means(packed))


@each_method
def test_a_layer_is_the_convolution_of_its_real_weight(method: Method) -> None:
    torch.manual_seed(2)
    layer, x = (
        BinaryConv2d(4, 6, 3, padding=1, stride=2, method=method).eval().double(),
        torch.randn(2, 4, 7, 7).double(),
    )
    terms = weight_terms(layer.method, layer.weight)
    w = sum(term.values if term.scale is None else term.values * term.scale for term in terms)
    total = torch.zeros(2, 6, 4, 4, dtype=torch.float64)
    for x_q in input_terms(layer.method, x):
        y = F.conv2d(x_q.values, w, None, 2, 1)
        if x_q.scale is not None and x_q.scale.ndim and x_q.scale.shape[-1] > 1:
            y = y * F.avg_pool2d(x_q.scale, 3, 2, 1)
        elif x_q.scale is not None:
            y = y * x_q.scale
        total += y
    assert torch.allclose(layer(x), total, rtol=1e-12, atol=1e-12)


@each_method
def test_the_engine_takes_the_products_in(method: Method) -> None:
    packed = pack(network(method), torch.randn(2, 6, 7, 7))
    x = torch.randn(2, 6, 7, 7)
    packed(x)
    blocks = [group for group in packed._engine.groups if isinstance(group, Block)]  # type: ignore[attr-defined]
    products = sum(node.kind == "binary" for node in packed.program.nodes)
    assert len(blocks) == (0 if scaled_by_torchs_means(packed) else products)


def test_terms_are_layers_of_a_report_and_are_added_in_order() -> None:
    model, x = nn.Sequential(BinaryLinear(65, 5, bias=True, method=partial(ResidualSigns, terms=3))), torch.randn(2, 65)
    packed = pack(model, x)
    kinds = [(node.kind, node.name) for node in packed.program.nodes]
    assert kinds == [
        ("encode", "0.input"),
        ("binary", "0.term0"),
        ("binary", "0.term1"),
        ("add", "0.sum"),
        ("binary", "0.term2"),
        ("add", "0.sum#2"),
        ("bias", "0.bias"),
    ]
    assert [layer.name for layer in verify(packed, model, x).layers] == ["0.term0", "0.term1", "0.term2"]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = BinaryConv2d(6, 6, 3, padding=1, method=ResidualSigns)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x) + x)


def test_terms_of_a_layer_that_is_called_twice() -> None:
    torch.manual_seed(3)
    model, x = Twice(), torch.randn(2, 6, 5, 5)
    report = verify(pack(model, x), model, x)
    assert [layer.name for layer in report.layers] == ["conv.term0", "conv.term1", "conv.term0#2", "conv.term1#2"]
    assert report.logits_identical


@pytest.mark.parametrize("method", [TernaryWeights, ResidualSigns, FiveLevels], ids=lambda m: m.__name__)
def test_it_trains(method: Method) -> None:
    torch.manual_seed(4)
    x, classes = torch.randn(32, 20), torch.arange(32) % 4
    model = nn.Sequential(BinaryLinear(20, 33, method=method), nn.BatchNorm1d(33), BinaryLinear(33, 4, method=method))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert verify(pack(model.eval(), x), model, x).logits_identical


@each_method
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_a_compiled_layer_equals_eager(method: Method) -> None:
    torch.compiler.reset()
    layer, x = BinaryConv2d(4, 6, 3, method=method), torch.randn(2, 4, 7, 7)
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x))


def test_summary_counts_planes() -> None:
    x = torch.randn(1, 64)
    bits = {
        name: bittern.summary(nn.Sequential(BinaryLinear(64, 2, method=method)), x).binary_params
        for name, method in METHODS.items()
    }
    assert bits["ternary"] == 2 * 128
    assert bits["five"] == 3 * 128
    assert bits["terms-3-2"] == 3 * 128
    macs = bittern.summary(nn.Sequential(BinaryLinear(64, 2, method=partial(TernaryWeights, input_bits=3))), x).bmac
    assert macs == 2 * 3 * 128


# -- what user methods may say -----------------------------------------------------------------------------


class Plain(Quantizer):
    """A method that says nothing of codes but a number of bits, as all did once."""

    def weight(self, w: Tensor) -> Quantized:
        top = 2**self.weight_bits - 1
        level = torch.round((w.detach().clamp(-1, 1) + 1) / 2 * top)
        return Quantized(2 * level - top)

    def input(self, x: Tensor) -> Quantized:
        return Quantized(torch.where(x >= 0, 1.0, -1.0))

    def input_code(self) -> InputCode:
        return SignCode()


class TwoBits(Plain):
    weight_bits = 2


class ThreeBitsOnTheObject(Plain):
    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        self.weight_bits = 3


@pytest.mark.parametrize(
    ("method", "code", "bits"),
    [(Plain, Signs(), 1), (TwoBits, Integers(-3, 3, 2), 2), (ThreeBitsOnTheObject, Integers(-7, 7, 2), 3)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_method_that_defines_weight_bits_alone(method: Method, code: Code, bits: int) -> None:
    torch.manual_seed(5)
    model, x = nn.Sequential(BinaryLinear(40, 6, method=method)), torch.randn(2, 40)
    own = model[0].method
    assert isinstance(own, Quantizer)
    assert own.weight_code() == code
    assert own.weight_bits == bits
    assert bittern.summary(model, x).binary_params == bits * 240
    assert verify(pack(model, x), model, x).logits_identical


def test_weight_bits_follow_the_code() -> None:
    shape = LayerShape((2, 3))
    assert Plain.weight_bits == TernaryWeights.weight_bits == 1, "of a class, the bits of the default"
    assert TernaryWeights(shape).weight_bits == 2
    assert FiveLevels(shape).weight_bits == 3
    assert ResidualSigns(shape, terms=4).weight_bits == 4
    assert LevelsCode(3).grid == Integers(0, 7)
    assert SignCode().grid == Signs()


def with_code(code: WeightCode, weight: Any = None) -> type[Quantizer]:
    """A method whose weights are `weight` of the latent ones and have this code."""

    class Method(Plain):
        def weight(self, w: Tensor) -> Quantized:
            return super().weight(w) if weight is None else weight(w)  # type: ignore[no-any-return]

        def weight_code(self) -> WeightCode:
            return code

    return Method


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (Signs(PerInputGroup(32)), r"one scale per output channel; Method has the code Signs\(scale=PerInputGroup"),
        (Ternary(PerBlock(64)), "give PerOutputChannel or PerTensor"),
        (Integers(0, 2, zero_point=1), "the number 0 must stand for 0; .* give zero_point=0"),
        ((Signs(), Signs(PerBlock(64))), "one scale per output channel"),
    ],
    ids=str,
)
def test_codes_that_no_layer_computes_with(code: WeightCode, message: str) -> None:
    with pytest.raises(ValueError, match=f"BinaryLinear: .*{message}"):
        BinaryLinear(64, 2, method=with_code(code))


ROUNDED = {
    Integers(-1, 3): lambda w: Quantized(torch.round(w.detach() * 9).clamp(-1, 3)),
    Integers(0, 2): lambda w: Quantized(torch.round(w.detach() * 9).clamp(0, 2)),
    Integers(-4, 4, 4): lambda w: Quantized(torch.round(w.detach() * 9).clamp(-1, 1) * 4),
}


@pytest.mark.parametrize("code", ROUNDED, ids=str)
def test_codes_that_no_file_holds(code: Code) -> None:
    """They train, because a layer computes with any whole numbers."""
    model, x = nn.Sequential(BinaryLinear(64, 2, method=with_code(code, ROUNDED[code]))), torch.randn(2, 64)
    assert model(x).isfinite().all()
    with pytest.raises(PackError, match=r"pack: layer '0' has weights of the code Integers\(.*; put the rest into"):
        pack(model, x)


@pytest.mark.parametrize(
    ("code", "weight", "message"),
    [
        (Signs(), lambda w: Quantized(w.detach().sign() * (w.detach().abs() > 0.01)), "off its grid, Signs"),
        (Ternary(), lambda w: Quantized(w.detach()), "off its grid, Ternary"),
        (Integers(-2, 2), lambda w: Quantized(torch.full_like(w, 3.0)), "off its grid, Integers"),
        (Signs(PerTensor()), lambda w: Quantized(torch.ones_like(w), torch.ones(3, 1)), r"gave scales \[3, 1\]"),
        (Signs(), lambda w: Quantized(torch.ones_like(w), torch.ones(1, 64)), r"gave scales \[1, 64\].* \[3, 1\]"),
    ],
    ids=["signs", "ternary", "integers", "tensor", "inputs"],
)
def test_weights_that_are_not_what_their_code_says(code: Code, weight: Any, message: str) -> None:
    layer = BinaryLinear(64, 3, method=with_code(code, weight))
    with pytest.raises(
        PackError, match=f"pack: layer '0': Method {message}|pack: layer '0': Method gave weights {message}"
    ):
        pack(nn.Sequential(layer), torch.randn(2, 64))


class TwoInputs(Plain):
    """Any two codes, of inputs that are one term."""

    codes: tuple[InputCode, ...] = (SignCode(), SignCode())

    def input_code(self) -> tuple[InputCode, ...]:
        return self.codes


def with_input(*terms: Any, codes: tuple[InputCode, ...]) -> type[Quantizer]:
    class Method(TwoInputs):
        def input(self, x: Tensor) -> tuple[Quantized, ...]:
            return tuple(term(x) for term in terms)

    Method.codes = codes
    return Method


def test_inputs_that_the_code_does_not_name_are_refused() -> None:
    with pytest.raises(ValueError, match="TwoInputs: its input has 1 terms, and its input_code names 2"):
        BinaryLinear(64, 2, method=TwoInputs)(torch.randn(2, 64))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (
            (OnesCode(), SignCode()),
            "Method has an input of ones first; name a term that depends on the input",
        ),
        ((SignCode(), SignCode(order=1)), "signs of order 1 are those .* give a scale, and no threshold"),
        ((SignCode(torch.zeros(4), InputScale.SPATIAL, 1),), "signs of order 1"),
    ],
    ids=["ones", "order", "threshold"],
)
def test_input_codes_that_no_layer_computes_with(codes: tuple[InputCode, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"BinaryConv1d: {message}"):
        BinaryConv1d(4, 2, 3, method=with_input(codes=codes))


@pytest.mark.parametrize(("value", "message"), [(-1, r"inputs 1 alone; got pad_value=-1"), (1, None)])
def test_ones_are_padded_with_ones_or_0(value: int, message: str | None) -> None:
    method = _quantizers.Offsets
    if message is not None:
        with pytest.raises(ValueError, match=message):
            BinaryConv1d(4, 2, 3, padding=1, pad_value=value, method=method)
        return
    torch.manual_seed(0)
    layer, x = BinaryConv1d(4, 2, 3, padding=1, pad_value=value, method=method).eval(), torch.randn(2, 4, 9)
    w = sum(t.values if t.scale is None else t.values * t.scale for t in weight_terms(layer.method, layer.weight))
    real = sum(t.values if t.scale is None else t.values * t.scale for t in input_terms(layer.method, x))
    expected = F.conv1d(F.pad(real, (1, 1), value=1 + 0.3 + 1).double(), w.double())
    assert torch.allclose(layer(x).double(), expected, rtol=0, atol=1e-5)
    assert verify(pack(nn.Sequential(layer), x), nn.Sequential(layer), x).logits_identical


def test_means_in_another_order_than_the_residual_has_are_refused() -> None:
    def mean(x: Tensor) -> Tensor:
        return x.abs().mean(1, keepdim=True) * (1 + 2**-20)

    def signs(x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, -1.0)

    method = with_input(
        lambda x: Quantized(signs(x), mean(x)),
        lambda x: Quantized(signs(x - mean(x) * signs(x)), mean(x - mean(x) * signs(x))),
        codes=(SignCode(scale=InputScale.SPATIAL), SignCode(scale=InputScale.SPATIAL, order=1)),
    )
    with pytest.raises(PackError, match=r"signs of order 1, whose scales are not those of InputScale\.mean"):
        pack(nn.Sequential(BinaryLinear(64, 2, method=method)), torch.randn(2, 64))


def test_a_learned_scale_of_each_input_is_packed() -> None:
    method = with_input(
        lambda x: Quantized(torch.where(x >= 0, 1.0, -1.0), torch.tensor(0.7)),
        lambda x: Quantized(torch.where(x >= 0, 1.0, -1.0), x.abs().mean()),
        codes=(SignCode(), SignCode()),
    )
    layer = BinaryLinear(64, 2, method=method)
    with pytest.raises(PackError, match="Method gives an input scale that is no constant"):
        pack(nn.Sequential(layer), torch.randn(2, 64))


def test_summary_counts_what_ones_cost() -> None:
    """Of ones of the weight the products of one output a group, of ones of the input none."""
    layer = BinaryConv2d(8, 6, 3, groups=2, method=partial(_quantizers.Offsets, input_bits=3))
    row = bittern.summary(nn.Sequential(layer), torch.randn(1, 8, 5, 5)).rows[0]
    assert row.bmac == 9 * 36 * 3 * (6 * 1 + 2 * 1 + 6 * 2)
    assert row.binary_params == 6 * 36 * 3


def test_a_residual_behind_a_relu_is_no_constant_input() -> None:
    """All signs of the first plane are +1; those of what is left are not."""
    residuals = nn.Sequential(nn.ReLU(), BinaryLinear(64, 2, method=SEVERAL_INPUTS["residuals-spatial"]))
    x = (torch.randn(8, 64),)
    (share,) = bittern.nn.sign_shares(residuals, [x]).values()
    assert not share.constant
    assert share.channels == 64
    plain = nn.Sequential(nn.ReLU(), BinaryLinear(64, 2, method=METHODS["terms-2"]))
    assert next(iter(bittern.nn.sign_shares(plain, [x]).values())).constant


def test_terms_that_the_code_does_not_name_are_refused() -> None:
    layer = BinaryLinear(64, 2, method=with_code((Signs(), Signs())))
    with pytest.raises(ValueError, match="Method: its weight has 1 terms, and its weight_code names 2"):
        layer(torch.randn(2, 64))


def test_real_weights_are_refused_by_name() -> None:
    from bittern.binary import BNN
    from bittern.train.real_weights import real_weights

    with pytest.raises(PackError, match="pack: layer '0' has real weights"):
        pack(nn.Sequential(BinaryLinear(64, 2, method=real_weights(BNN))), torch.randn(1, 64))


def test_more_planes_than_a_file_holds_are_refused() -> None:
    method = with_code(Integers(-300, 300), lambda w: Quantized(torch.round(w.detach())))
    with pytest.raises(PackError, match="has weights of 10 bits; at most 8 are packed"):
        pack(nn.Sequential(BinaryLinear(64, 2, method=method)), torch.randn(1, 64))


def test_accumulators_of_ternary_weights_beyond_float32_are_refused() -> None:
    wide = nn.Sequential(BinaryLinear(2**15 + 200, 1, method=partial(TernaryWeights, input_bits=8)))
    with pytest.raises(PackError, match="beyond 2\\^24"):
        pack(wide, torch.randn(1, 2**15 + 200))


# -- files -------------------------------------------------------------------------------------------------


def ternary_file(weight: bytes, levels: Any = 3, planes: int = 2) -> bytes:
    """One output of eight inputs."""
    flat = {"dims": 0, "channels": 8}
    product = {**flat, "kernel": [], "stride": [], "padding": [], "dilation": [], "out_channels": 1}
    product |= {"weight_planes": planes, "weight_levels": levels}
    nodes = [["encode", "e", [0], flat, []], ["binary", "b", [1], product, ["weight"]]]
    return program_file(nodes, [8], [("b.weight", "U8", [planes, len(weight) // planes], weight)])


def test_a_ternary_file_holds_what_its_planes_say() -> None:
    """s_0 = +1 where w >= 0, s_1 = +1 where w > 0; the lowest bit is the first input."""
    packed = from_bytes(ternary_file(bytes([0b11110101, 0b11000100])))
    weight = torch.tensor([0.0, -1, 1, -1, 0, 0, 1, 1])
    x = torch.where(torch.arange(256).view(-1, 1) >> torch.arange(8) & 1 > 0, 1.0, -1.0)
    assert torch.equal(packed(x), (x @ weight).view(-1, 1))


def test_a_zero_spelled_the_other_way_round_is_refused() -> None:
    with pytest.raises(FormatError, match=r"'b' \(binary\): its planes of weights are not those of 3 levels"):
        from_bytes(ternary_file(bytes([0b11110101, 0b11001100])))


@pytest.mark.parametrize(
    ("levels", "planes", "message"),
    [
        (3, 1, "3 levels take 2 planes of weights"),
        (5, 2, "5 levels take 3 planes of weights"),
        (2, 2, "2 levels take 1 planes of weights"),
        (1, 1, "'weight_levels' is 1"),
        (257, 8, "'weight_levels' is 257"),
        (3.0, 2, "'weight_levels' is 3.0"),
        ("3", 2, "'weight_levels' is '3'"),
        (True, 1, "'weight_levels' is True"),
    ],
    ids=str,
)
def test_levels_and_planes_that_do_not_fit_are_refused(levels: Any, planes: int, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        from_bytes(ternary_file(bytes(planes), levels, planes))


def test_signs_of_several_planes_are_refused() -> None:
    product = {"dims": 0, "channels": 8, "kernel": [], "stride": [], "padding": [], "dilation": [], "out_channels": 1}
    nodes = [
        ["encode", "e", [0], {"dims": 0, "channels": 8, "code": "levels", "planes": 4}, []],
        ["binary", "b", [1], {**product, "code": "sign", "input_planes": 4}, ["weight"]],
    ]
    with pytest.raises(FormatError, match="a sign has one plane"):
        from_bytes(program_file(nodes, [8], [("b.weight", "U8", [1, 1], bytes(1))]))


def test_a_file_without_levels_means_odd_integers() -> None:
    odd, named = (from_bytes(ternary_file(bytes([0b01, 0b11]), levels)) for levels in (None, 4))
    x = torch.ones(1, 8)
    assert odd(x).item() == named(x).item() == 6 * -3 + 1 + 3


def test_only_other_codes_are_named_in_a_file() -> None:
    """So that files of signs and of odd integers stay what they were."""
    x = torch.randn(1, 64)
    for name, method in METHODS.items():
        products = [
            n for n in pack(nn.Sequential(BinaryLinear(64, 2, method=method)), x).program.nodes if n.kind == "binary"
        ]
        expected = 3 if name.startswith("ternary") else 5 if name.startswith("five") else None
        assert {node.attrs.get("weight_levels") for node in products} == {expected}
