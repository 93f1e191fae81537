# SPDX-License-Identifier: Apache-2.0
"""pack: structures beyond our own models, bad input, and what is refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern import convert, ops
from bittern.binary import BNN, DoReFa, IRNet, ReActNet, ReCU, XNORNet, XNORNetPlusPlus
from bittern.deploy import PackError, pack, verify
from bittern.deploy.packed import from_bytes
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear
from bittern.quantizer import InputScale


def randomize_norms(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and slopes of both signs, and one slope of exactly zero."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(0, 3)  # type: ignore[union-attr]
            module.running_var.uniform_(0.3, 9)  # type: ignore[union-attr]
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            module.weight.data[0] = 0
    return model


def kinds(model_or_packed: object) -> list[str]:
    return [node.kind for node in model_or_packed.program.nodes]  # type: ignore[attr-defined]


class Residual(nn.Module):
    """Shortcuts, groups, dilation, bias, a folded and an unfolded batch norm, a low-bit and a real head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.norm0 = nn.BatchNorm2d(24)
        self.a = BinaryConv2d(24, 24, 3, padding=1, groups=3, method=BNN)
        self.norm1 = nn.BatchNorm2d(24)
        self.b = BinaryConv2d(24, 65, 3, padding=2, dilation=2, bias=True, method=ReActNet, pad_value=1)
        self.c = BinaryConv2d(65, 24, 1, stride=2, bias=True, method=XNORNet)
        self.pool = nn.MaxPool2d(2)
        self.fc = BinaryLinear(24, 33, bias=True, method=BNN)
        self.norm2 = nn.BatchNorm1d(33)
        self.head = nn.Linear(33, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardtanh(self.norm0(self.stem(x)))
        x = F.hardtanh(self.norm1(self.a(x)) + x)
        x = self.pool(self.c(self.b(x)))
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        return self.head(self.norm2(self.fc(x)))


def test_a_residual_network_is_bit_identical() -> None:
    torch.manual_seed(0)
    model = randomize_norms(Residual())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    packed = pack(model, torch.randn(2, 3, 17, 15))
    report = verify(packed, model, torch.randn(16, 3, 17, 15))
    assert report.exact
    assert report.logits_identical
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def chain(norm_first: bool, method: object) -> nn.Sequential:
    """conv -> BN -> (Hardtanh) -> sign -> conv, where only integers are needed in between."""
    middle: list[nn.Module] = [nn.BatchNorm2d(40)] if norm_first else [nn.BatchNorm2d(40), nn.Hardtanh()]
    return nn.Sequential(
        BinaryConv2d(16, 40, 3, padding=1, method=method),  # type: ignore[arg-type]
        *middle,
        BinaryConv2d(40, 20, 3, padding=1, method=method),  # type: ignore[arg-type]
        nn.BatchNorm2d(20),
        nn.Flatten(),
        BinaryLinear(20 * 36, 10, method=method),  # type: ignore[arg-type]
        nn.BatchNorm1d(10),
    )


@pytest.mark.parametrize("method", [BNN, ReCU, ReActNet, IRNet, DoReFa], ids=lambda m: m.__name__)
@pytest.mark.parametrize("norm_first", [True, False])
def test_a_sign_behind_a_batch_norm_becomes_an_integer_threshold(method: type, norm_first: bool) -> None:
    torch.manual_seed(1)
    model = randomize_norms(chain(norm_first, method))
    for module in model.modules():
        if isinstance(module, ReActNet):
            nn.init.normal_(next(p for p in module.parameters()))
    packed = pack(model, torch.randn(2, 16, 6, 6))
    assert kinds(packed).count("threshold") == 1
    assert not {"batch_norm", "affine"} & set(kinds(packed))
    report = verify(packed, model, torch.randn(64, 16, 6, 6))
    assert report.exact
    assert report.logits_identical


class Signs(nn.Module):
    """The op itself in a forward, where no layer hides it from the tracer."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sign(x) * 0.5


def test_the_sign_op_has_a_packed_form() -> None:
    x = torch.tensor([[-1.0, -0.0, 0.0, 2.0]])
    assert pack(Signs(), x)(x).tolist() == [[-0.5, 0.5, 0.5, 0.5]]


def test_every_tie_of_a_threshold() -> None:
    """Batch norms whose zero lies exactly on an integer: acc = mean, for every acc that can occur.

    A sample meets such a tie in the four channels of one mean, so wrong bits cannot hide behind those of other means.
    """
    means = torch.arange(-9.0, 10.0)
    model = nn.Sequential(
        BinaryConv2d(1, 4 * len(means), 3, method=BNN),
        nn.BatchNorm2d(4 * len(means), eps=0.0),
        BinaryConv2d(4 * len(means), 3, 1, method=BNN),
    )
    model[0].weight.data.fill_(1.0)
    model[1].running_mean.copy_(means.repeat_interleave(4))  # type: ignore[union-attr]
    model[1].weight.data = torch.tensor([1.0, -1.0, 0.0, 0.5]).repeat(len(means))
    model[1].bias.data = torch.tensor([0.0, 0.0, -1.0, 0.0]).repeat(len(means))
    bits = torch.arange(512).view(-1, 1) >> torch.arange(9) & 1
    batch = (2.0 * bits - 1).view(512, 1, 3, 3)
    packed = pack(model, batch)
    assert "threshold" in kinds(packed)
    assert verify(packed, model, batch).logits_identical


@pytest.mark.parametrize(
    "method",
    [
        partial(DoReFa, weight_bits=2, input_bits=2),
        partial(DoReFa, weight_bits=3, input_bits=1),
        partial(DoReFa, weight_bits=1, input_bits=4),
        partial(XNORNet, input_scale=InputScale.PER_SAMPLE),
        partial(XNORNet, input_scale=InputScale.NONE),
        XNORNetPlusPlus,
    ],
    ids=str,
)
def test_planes_and_scales_are_bit_identical(method: object) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(
        BinaryConv2d(5, 12, 3, padding=1, bias=True, method=method),  # type: ignore[arg-type]
        nn.BatchNorm2d(12),
        BinaryConv2d(12, 7, 3, stride=2, padding=1, groups=1, method=method),  # type: ignore[arg-type]
        nn.Flatten(),
        BinaryLinear(7 * 9, 6, bias=True, method=method),  # type: ignore[arg-type]
    )
    example = torch.randn(3, 5, 6, 6)
    model(example)
    randomize_norms(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    report = verify(pack(model, example), model, torch.randn(9, 5, 6, 6))
    assert report.exact
    assert report.logits_identical


def test_one_dimension_and_leading_dimensions() -> None:
    torch.manual_seed(3)

    class Speech(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = BinaryConv1d(10, 24, 5, stride=2, padding=2, method=XNORNet)
            self.norm = nn.BatchNorm1d(24)
            self.conv2 = BinaryConv1d(24, 8, 3, padding=1, method=BNN, pad_value=-1)
            self.fc = BinaryLinear(8, 6, method=BNN)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv2(self.norm(self.conv(x))).permute(0, 2, 1))

    model = randomize_norms(Speech())
    report = verify(pack(model, torch.randn(2, 10, 31)), model, torch.randn(5, 10, 31))
    assert report.exact
    assert report.logits_identical


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = BinaryConv2d(6, 6, 3, padding=1, method=ReActNet)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.norm(self.conv(x)) + x))


def test_a_layer_that_is_called_twice() -> None:
    torch.manual_seed(4)
    model = randomize_norms(Twice())
    report = verify(pack(model, torch.randn(1, 6, 5, 5)), model, torch.randn(7, 6, 5, 5))
    assert [layer.name for layer in report.layers] == ["conv", "conv#2"]
    assert report.logits_identical


def test_weights_of_exact_zero_are_plus_one() -> None:
    model = nn.Sequential(BinaryConv2d(4, 4, 1, method=BNN))
    model[0].weight.data.zero_()
    model[0].weight.data[0] = -0.0
    x = torch.tensor([0.0, -0.0, -1.0, 2.0]).view(1, 4, 1, 1)
    assert pack(model, x)(x).flatten().tolist() == [2.0] * 4


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x).real


class TwoResults(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x + 1


def nan_model() -> nn.Module:
    layer = BinaryConv2d(2, 2, 1, method=BNN)
    layer.weight.data[0] = float("nan")
    return nn.Sequential(layer)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Branching(), r"branches on values of tensors.*test_pack.py:\d+"),
        (Odd(), "operator 'fft_fft.default' .* have no packed form"),
        (TwoResults(), None),
        (
            nn.Sequential(nn.Conv2d(2, 2, 3), nn.LSTM(3, 3)),
            r"the model fails on an input .2, 2, 5, 5.: ValueError: LSTM",
        ),
        (nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)), "keeps no running statistics"),
        (nan_model(), "layer '0' has NaN or infinity"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")), None),
        (nn.Sequential(nn.Conv2d(2, 2, 3).double()), "must be float32"),
        (nn.Sequential(nn.Conv2d(3, 2, 3)), "fails on an input .*expected input"),
        (
            nn.Sequential(BinaryConv2d(2, 2, 1, method=partial(DoReFa, weight_bits=8, input_bits=8))),
            None,
        ),
    ],
    ids=["branch", "fft", "two", "lstm", "stats", "nan", "reflect", "double", "channels", "eight-bits"],
)
def test_what_has_no_packed_form_is_named(model: nn.Module, text: str | None) -> None:
    example = torch.randn(1, 2, 5, 5)
    if text is None:
        assert verify(pack(model, example), model, example).exact
        return
    with pytest.raises(PackError, match=text):
        pack(model, example)


def test_accumulators_beyond_float32_are_refused() -> None:
    wide = nn.Sequential(BinaryLinear(300, 2, method=partial(DoReFa, weight_bits=8, input_bits=8)))
    with pytest.raises(PackError, match="beyond 2\\^24"):
        pack(wide, torch.randn(1, 300))


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.zeros(0, 2, 5, 5), "example must be"),
        (torch.zeros(1, 2, 5, 5, dtype=torch.float64), r"layer '0' must be called with float32 .* got torch.float64"),
        (torch.zeros(1, 2, 5, 5, dtype=torch.complex64), "example must be"),
        (torch.zeros(3), "example must be"),
    ],
)
def test_bad_examples(example: Tensor, message: str) -> None:
    with pytest.raises(PackError, match=message):
        pack(nn.Sequential(BinaryConv2d(2, 2, 1, method=BNN)), example)


def test_inputs_of_a_packed_model_are_checked() -> None:
    packed = pack(nn.Sequential(BinaryConv2d(2, 3, 1, method=BNN)), torch.randn(1, 2, 5, 5))
    assert packed(torch.randn(0, 2, 5, 5)).shape == (0, 3, 5, 5)
    with pytest.raises(TypeError, match="must be float32"):
        packed(torch.zeros(1, 2, 5, 5, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"expected an input \[batch, 2, 5, 5\]"):
        packed(torch.zeros(1, 2, 6, 5))


def test_a_layer_by_itself_packs() -> None:
    layer = BinaryLinear(70, 3, method=XNORNet)
    x = torch.randn(4, 70)
    packed = pack(layer, x)
    assert torch.equal(packed(x), layer.eval()(x).detach())


class CalledTwice(nn.Module):
    """One block at two depths, as a network whose layers share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = BinaryConv2d(32, 32, 3, padding=1, method=XNORNet)
        self.norm = nn.BatchNorm2d(32)
        self.real = nn.Conv2d(32, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = x + self.real(self.norm(self.conv(x)))
        return x


def test_a_layer_that_is_called_twice_is_stored_once() -> None:
    model = CalledTwice()
    for _ in range(3):
        model(torch.randn(8, 32, 6, 6))
    x = torch.randn(3, 32, 6, 6)
    packed = pack(model.eval(), x)
    stored = [tuple(tensor.shape) for tensor in packed.tensors.values()]
    assert stored.count((32, 32, 1, 1)) == 1
    assert sum(node.kind == "binary" for node in packed.program.nodes) == 2
    assert len({node.tensors["weight"] for node in packed.program.nodes if node.kind == "binary"}) == 1
    assert verify(from_bytes(packed.to_bytes()), model, x).logits_identical


def test_tensors_that_differ_in_the_sign_of_a_zero_are_both_kept() -> None:
    class Scales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low = BinaryLinear(8, 4, method=BNN)
            self.register_buffer("a", torch.zeros(4))
            self.register_buffer("b", -torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            y = self.low(x).abs() + 1
            return torch.cat([1 / (y * self.a), 1 / (y * self.b)], 1)

    x = torch.randn(2, 8)
    answer = pack(Scales().eval(), x)(x)
    assert (answer[:, :4] == float("inf")).all()
    assert (answer[:, 4:] == -float("inf")).all()


@pytest.mark.filterwarnings("ignore::bittern.ConstantInputWarning")  # a sign behind the ReLU of such a layer
@pytest.mark.parametrize("layers", [1, 2])
def test_a_model_that_is_a_class_of_torch_keeps_the_names_of_its_layers(layers: int) -> None:
    layer: nn.Module = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    whole = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False) if layers > 1 else layer
    model = convert(whole, BNN).eval()
    x = torch.randn(3, 5, 8)
    packed = pack(model, x[:1])
    assert torch.equal(packed(x), model(x))
    names = {name for name, part in model.named_modules() if isinstance(part, BinaryLinear)}
    assert set(packed.accumulators(x)) == names - set(packed.constant_layers)
