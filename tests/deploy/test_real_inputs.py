# SPDX-License-Identifier: Apache-2.0
"""Weights of few bits behind inputs that stay real: layers, packed programs, files and exports."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bittern
from _packed_files import program_file
from bittern.codes import Code, Integers, PerTensor, Signs, Ternary
from bittern.deploy import FormatError, Packed, PackError, pack, to_c, verify
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.packed import from_bytes
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear, sign_shares
from bittern.quantizer import InputCode, LayerShape, Method, Quantized, Quantizer, RealCode, WeightCode

TERNARY = Ternary(PerTensor())


class Rounded(Quantizer):
    """Latent weights rounded to a code, times `scale`; inputs are real, times a learned gain on request."""

    def __init__(
        self, shape: LayerShape, *, code: Code = TERNARY, gain: bool = False, scale: float | None = 0.37
    ) -> None:
        super().__init__(shape)
        self.code, self.scale = code, scale
        self.gain = nn.Parameter(torch.linspace(-1.0, 1.7, shape.in_channels)) if gain else None

    def weight(self, w: Tensor) -> Quantized | tuple[Quantized, ...]:
        code = self.code
        steps = torch.round((w.detach() * 5 - code.low) / code.step).clamp(0, code.levels - 1)
        values = steps * code.step + code.low
        if self.scale is None:
            return Quantized(values)
        one = torch.full((), self.scale, dtype=w.dtype)
        return Quantized(values, one if isinstance(code.scale, PerTensor) else 1 + w.detach()[:, :1].mean(1, True))

    def weight_code(self) -> WeightCode:
        return self.code

    def input(self, x: Tensor) -> Quantized:
        return Quantized(x if self.gain is None else x * self.shape.input_view(self.gain))

    def input_code(self) -> InputCode:
        return RealCode(self.gain)


class Halves(Rounded):
    """Two terms: 1 where w > 0 with one scale, -1 where w < 0 with another."""

    def weight(self, w: Tensor) -> tuple[Quantized, ...]:
        size = w.detach().abs().mean()
        return Quantized((w.detach() > 0).to(w.dtype), size), Quantized(-(w.detach() < 0).to(w.dtype), 0.5 * size)

    def weight_code(self) -> WeightCode:
        return Integers(0, 1, scale=PerTensor()), Integers(-1, 0, scale=PerTensor())


METHODS: dict[str, Method] = {
    "ternary": partial(Rounded, code=Ternary(PerTensor())),
    "signs": partial(Rounded, code=Signs(), scale=None),
    "gain": partial(Rounded, code=Signs(PerTensor()), gain=True),
    "integers": partial(Rounded, code=Integers(-2, 7, 3, scale=PerTensor())),
    "two": Halves,
}
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


class Network(nn.Module):
    """Every geometry: padding, groups, stride, dilation, bias, images, signals and rows; a ReLU in front of layers."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.first = BinaryConv2d(3, 10, 3, padding=1, bias=True, method=method)
        self.norm = nn.BatchNorm2d(10)
        self.second = BinaryConv2d(10, 5, (3, 2), stride=(2, 1), dilation=(1, 2), groups=5, padding=1, method=method)
        self.third = BinaryConv1d(5, 6, 3, padding=2, stride=2, bias=True, method=method)
        self.rows = BinaryLinear(6, 7, method=method)
        self.last = BinaryLinear(7, 3, bias=True, method=method)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu(self.norm(self.first(x))))
        y = self.rows(self.third(y.flatten(2)).permute(0, 2, 1))
        return self.last(F.hardtanh(y.mean(1)))  # type: ignore[no-any-return]


def trained_look(method: Method) -> Network:
    torch.manual_seed(0)
    model = Network(method)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    return model.eval()


@each_method
def test_packed_equals_trained(method: Method, tmp_path: Path) -> None:
    model, x = trained_look(method), torch.randn(3, 3, 7, 8)
    packed = pack(model, x)
    report = verify(packed, model, x)
    assert report.exact
    assert report.logits_identical
    assert not report.layers, "sums of real numbers are no accumulators"
    again = from_bytes(packed.to_bytes())
    assert again.to_bytes() == packed.to_bytes()
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
        assert torch.equal(Interpreter(packed.program, packed.tensors, packed.device)(x), model(x))
    to_c(packed, tmp_path / "net.c")


def test_a_file_holds_bits() -> None:
    model = nn.Sequential(BinaryConv2d(16, 9, 3, method=METHODS["ternary"]))
    packed = pack(model, torch.randn(2, 16, 5, 5))
    assert {n.kind: tuple(n.tensors) for n in packed.program.nodes} == {"decoded": ("weight",), "factors": ("factors",)}
    assert packed.nbytes == 2 * (16 * 9 * 9 // 8) + 9 * 4


def test_summary_counts_numbers() -> None:
    x = torch.randn(1, 64)
    one, two = (
        bittern.summary(nn.Sequential(BinaryLinear(64, 2, method=METHODS[name])), x) for name in ("ternary", "two")
    )
    assert (one.bmac, one.fmac, one.binary_params) == (0, 128, 256)
    assert (two.bmac, two.fmac, two.binary_params) == (0, 256, 256)


def test_a_relu_in_front_is_no_warning() -> None:
    model, x = nn.Sequential(nn.ReLU(), BinaryLinear(64, 2, method=METHODS["ternary"])), torch.randn(9, 64)
    assert sign_shares(model, [(x,)]) == {}
    pack(model, x)


def test_padding_is_zero() -> None:
    with pytest.raises(ValueError, match="Rounded has real inputs, where padding is 0; got pad_value=1; leave it"):
        BinaryConv2d(2, 2, 3, padding=1, pad_value=1, method=Rounded)


def test_codes_that_no_file_holds() -> None:
    wide = BinaryLinear(9, 2, method=partial(Rounded, code=Integers(-300, 300, scale=PerTensor())))
    with pytest.raises(PackError, match="layer '0' has weights of 10 bits; at most 8"):
        pack(nn.Sequential(wide), torch.randn(2, 9))


@pytest.mark.filterwarnings("ignore:packed model. real layers in bfloat16")
def test_in_bfloat16_it_is_a_real_product() -> None:
    model, x = nn.Sequential(BinaryLinear(64, 9, method=METHODS["ternary"])), torch.randn(3, 64)
    packed = pack(model, x)
    assert not torch.equal(packed.with_real(torch.bfloat16)(x), packed(x))


# -- files -------------------------------------------------------------------------------------------------


def decoded_file(weight: bytes, low: Any = -1, high: Any = 1, step: Any = 1, planes: int = 2) -> bytes:
    """One output of eight inputs."""
    attrs = {"dims": 0, "kernel": [], "stride": [], "padding": [], "dilation": [], "channels": 8, "out_channels": 1}
    nodes = [["decoded", "d", [0], {**attrs, "low": low, "high": high, "step": step}, ["weight"]]]
    return program_file(nodes, [8], [("d.weight", "U8", [planes, len(weight) // planes], weight)])


@pytest.mark.parametrize(
    ("low", "high", "step", "weight", "expected"),
    [
        (-1, 1, 1, [0b11110101, 0b11000100], [0, -1, 1, -1, 0, 0, 1, 1]),
        (-1, 1, 2, [0b11110101], [1, -1, 1, -1, 1, 1, 1, 1]),
        (0, 1, 1, [0b00000101], [1, 0, 1, 0, 0, 0, 0, 0]),
        (-2, 7, 3, [0b11110101, 0b11000100], [1, -2, 7, -2, 1, 1, 7, 7]),
    ],
    ids=["ternary", "signs", "zero and one", "steps of three"],
)
def test_a_file_means_what_its_planes_say(
    low: int, high: int, step: int, weight: list[int], expected: list[int]
) -> None:
    packed = from_bytes(decoded_file(bytes(weight), low, high, step, len(weight)))
    assert packed(torch.eye(8)).flatten().tolist() == expected


@pytest.mark.parametrize(
    ("low", "high", "step", "planes", "message"),
    [
        (1, 1, 1, 2, "is no code of weights"),
        (-1, 1, 3, 2, "is no code of weights"),
        (0, 256, 1, 2, "is no code of weights"),
        (-1, 1, 2, 2, r"must be \[1, 1\]"),
        (-1, 1, 0, 2, "'step' is 0"),
        (-1.0, 1, 1, 2, "'low' is -1.0"),
        (-(2**17), 1, 1, 2, "'low' is -131072"),
    ],
    ids=str,
)
def test_files_that_do_not_fit_are_refused(low: Any, high: Any, step: Any, planes: int, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        from_bytes(decoded_file(bytes(planes), low, high, step, planes))


def test_a_zero_spelled_the_other_way_round_is_refused() -> None:
    with pytest.raises(FormatError, match=r"'d' \(decoded\): its planes of weights are not those of"):
        from_bytes(decoded_file(bytes([0b11110101, 0b11001100])))


def test_shared_bits_of_two_codes_stay_apart() -> None:
    """Bits that two nodes read, each by its own code, beside a tensor of the name that their numbers would have."""
    attrs = {"dims": 0, "kernel": [], "stride": [], "padding": [], "dilation": [], "channels": 8, "out_channels": 1}
    nodes = [
        ["decoded", "a", [0], {**attrs, "high": 1, "step": 2}, ["weight"]],
        ["decoded", "b", [0], {**attrs, "low": 0}, [["weight", "a.weight"]]],
        ["add", "sum", [1, 2], {}, []],
        ["bias", "c", [3], {"last": True}, [["bias", "a.numbers"]]],
    ]
    tensors = [("a.weight", "U8", [1, 1], bytes([0b101])), ("a.numbers", "F32", [1], torch.ones(1).numpy().tobytes())]
    packed: Packed = from_bytes(program_file(nodes, [8], tensors))
    assert packed(torch.eye(8)).flatten().tolist() == [3, 0, 3, 0, 0, 0, 0, 0]
