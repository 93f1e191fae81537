# SPDX-License-Identifier: Apache-2.0
"""summary: each count worked out by hand, and nothing about the model changed by it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bittern import binary, models
from bittern.nn import BinaryConv2d, BinaryLinear, Cost, CostedLayer, Linear4bit, Linear8bit, SummaryRow, summary
from bittern.quantizer import Quantizer


def test_counts_of_each_kind_of_layer() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        BinaryConv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=True, method=binary.ReActNet),
        nn.ConvTranspose2d(6, 2, 2, bias=False),
        nn.Flatten(),
        nn.Linear(50, 3),
    )
    report = summary(model, torch.zeros(1, 2, 8, 8))
    assert report.rows == (
        SummaryRow("0", "Conv2d", (4, 8, 8), 0, 4 * 18 + 4, 4 * 76, 0, 4 * 64 * 18),
        SummaryRow("1", "BatchNorm2d", (4, 8, 8), 0, 8, 32, 0, 0),
        # 6 * 2 * 9 = 108 bits; floats: 6 biases and 4 thresholds; the scale mean |w| is derived
        SummaryRow("2", "BinaryConv2d[ReActNet]", (6, 4, 4), 108, 10, 14 + 40, 6 * 16 * 18, 0),
        SummaryRow("3", "ConvTranspose2d", (2, 5, 5), 0, 48, 192, 0, 6 * 16 * 2 * 4),
        SummaryRow("5", "Linear", (3,), 0, 153, 612, 0, 150),
    )
    assert report.binary_params == 108
    assert report.float_params == 76 + 8 + 10 + 48 + 153
    assert report.bytes == 4 * 76 + 32 + 54 + 192 + 612
    assert report.bmac == 1728
    assert report.fmac == 4608 + 768 + 150
    assert report.ops == 1728 / 64 + 4608 + 768 + 150


@pytest.mark.parametrize(
    ("method", "learned"),
    [
        (binary.BNN, 0),
        (binary.XNORNet, 0),
        (binary.DoReFa, 0),
        (binary.BiRealNet, 0),
        (binary.XNORNetPlusPlus, 6 + 5 + 5),
        (binary.ReActNet, 4),
        (binary.ReCU, 6),
        (binary.FDA, 0),
        (binary.IRNet, 0),
    ],
)
def test_learned_scales_count_and_derived_ones_and_noise_do_not(method: type[Quantizer], learned: int) -> None:
    layer = BinaryConv2d(4, 6, 3, padding=1, method=method)
    layer(torch.zeros(1, 4, 5, 5))
    report = summary(layer, torch.zeros(1, 4, 5, 5))
    assert report.binary_params == 6 * 4 * 9
    assert report.float_params == learned


def test_k_bit_layers_count_planes() -> None:
    layer = BinaryLinear(8, 3, method=partial(binary.DoReFa, weight_bits=2, input_bits=3))
    report = summary(layer, torch.zeros(1, 8))
    assert report.binary_params == 2 * 24
    assert report.bytes == 6
    assert report.bmac == 2 * 3 * 24


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_batch_size_does_not_matter(batch: int) -> None:
    model = models.resnet20_cifar(binary.ReCU)
    assert summary(model, torch.randn(batch, 3, 32, 32)) == summary(model, torch.zeros(1, 3, 32, 32))


def test_the_model_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = models.resnet20_cifar(binary.FDA)
    model.blocks[3].eval()
    modes = [m.training for m in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    summary(model, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(not m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), rng)
    with pytest.raises(RuntimeError):
        summary(model, torch.zeros(1, 4, 32, 32))
    assert [m.training for m in model.modules()] == modes
    assert all(not m._forward_hooks for m in model.modules())


def test_shared_parameters_count_once_and_repeated_calls_each_time() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = BinaryLinear(4, 4, method=binary.BNN)
            self.b = BinaryLinear(4, 4, method=binary.BNN)
            self.b.weight = self.a.weight
            self.unused = nn.Linear(4, 1, bias=False)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            z: Tensor = self.b(self.a(self.a(x)) + y)
            return z

    report = summary(Twice(), (torch.zeros(3, 4), torch.zeros(3, 4)))
    assert report.binary_params == 16
    assert report.bmac == 3 * 16
    assert report.rows[-1] == SummaryRow("unused", "Linear", (), 0, 4, 16, 0, 0)


def test_rows_follow_the_forward_pass_and_the_table_shows_the_totals() -> None:
    report = summary(models.resnet20_cifar(binary.BNN), torch.zeros(1, 3, 32, 32))
    table = str(report)
    lines = table.splitlines()
    assert lines[2].split()[:3] == ["stem.0", "Conv2d", "16x32x32"]
    assert lines[-3].split() == ["total", "267,264", "2,586", "43,752", "40,108,032", "443,008"]
    assert lines[-2] == "1,069,696 OPs (BMAC / 64 + FMAC), 0.04 MiB"
    # a mean and a variance per channel of each norm, and its 8-byte counter of batches
    norms = [m for m in models.resnet20_cifar(None).modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    statistics = sum(8 * norm.num_features + 8 for norm in norms)
    assert lines[-1].startswith("not counted: additions, norms, activations, pooling, look-ups and scales; ")
    assert lines[-1].endswith(f"; {statistics:,} bytes of buffers")
    assert len({line.rfind(" ") for line in lines[3:6]}) == 1, "the last column must be flush"
    assert repr(report) == table


def test_products_that_a_forward_computes_itself_are_counted_in_its_row() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.zeros(4, 4))
            self.gru = nn.GRU(4, 4, batch_first=True)
            self.lstm = nn.LSTM(4, 5, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.lstm(self.gru(x @ self.matrix)[0])[0]
            return y @ y.transpose(1, 2)

    report = summary(Own(), torch.zeros(2, 3, 4))
    macs = {row.name: row.fmac for row in report.rows}
    # three steps; a GRU has three gates and an LSTM four, each with a product with the input and one with the state
    assert macs == {"gru": 3 * 3 * (16 + 16), "lstm": 3 * 4 * (20 + 25), "": 3 * 16 + 9 * 5}
    assert report.uncounted == ()
    assert "FMAC of functions that a forward calls itself, not of a layer: (model)" in str(report).splitlines()
    assert report.float_params == 16 + 2 * (3 * 16 + 12) + 4 * (20 + 25 + 10)


class Heads(nn.Module):
    """Attention as networks write it: one product for queries, keys and values, and torch's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        z: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return z


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_products_of_attention_are_counted(mode: type) -> None:
    products = 2 * 5 * 5 * 8
    with mode():
        report = summary(nn.Sequential(Heads()), torch.zeros(1, 5, 8))
        ready_made = summary(nn.MultiheadAttention(8, 2, batch_first=True), (torch.zeros(1, 5, 8),) * 3)
    assert [(row.name, row.fmac) for row in report.rows] == [
        ("0.qkv", 5 * 8 * 24),
        ("0.out", 5 * 8 * 8),
        ("0", products),
    ]
    assert ready_made.fmac == report.fmac
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert summary(layer, torch.zeros(1, 5, 8)).fmac == report.fmac + 2 * 5 * 8 * 16


@pytest.mark.parametrize(
    ("module", "inputs", "macs"),
    [
        (nn.Bilinear(3, 4, 5), ((1, 3), (1, 4)), 5 * 3 * (4 + 1)),
        (nn.Conv1d(4, 6, 3, groups=2, padding=1), ((1, 4, 7),), 6 * 7 * 3 * 2),
        (nn.ConvTranspose1d(4, 6, 3, groups=2), ((1, 4, 7),), 4 * 7 * 3 * 3),
        (nn.Conv3d(2, 3, 2), ((1, 2, 4, 4, 4),), 3 * 27 * 8 * 2),
        (nn.GRUCell(4, 5), ((1, 4), (1, 5)), 3 * 5 * (4 + 5)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_of_torch_count_what_they_multiply(
    module: nn.Module, inputs: tuple[tuple[int, ...], ...], macs: int
) -> None:
    report = summary(module, tuple(torch.zeros(shape) for shape in inputs))
    assert report.fmac == macs
    assert report.uncounted == ()
    assert "FMAC of functions" not in str(report)


def test_a_module_whose_products_are_not_seen_is_named() -> None:
    class Elementwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.spare = nn.Parameter(torch.zeros(4, 3)), nn.ParameterList([torch.zeros(2, 2)])

        def forward(self, x: Tensor) -> Tensor:
            return (x.unsqueeze(-1) * self.matrix).sum(-2, keepdim=True)

    report = summary(nn.Sequential(Elementwise(), nn.PReLU(), nn.LayerNorm((1, 3))), torch.zeros(1, 4))
    assert report.uncounted == ("0",)
    assert "multiplications not counted: 0" in str(report).splitlines()


@pytest.mark.parametrize("nested", [False, True])
def test_frozen_layers_count_their_codes_and_products(nested: bool) -> None:
    four = Linear4bit(64, 6, nested=nested)
    model = nn.Sequential(four, Linear8bit(6, 5, bias=False), nn.Linear(5, 2))
    report = summary(model, torch.zeros(2, 3, 64))
    assert [(row.code_params, row.float_params, row.fmac) for row in report.rows] == [
        (64 * 6, 6, 3 * 64 * 6),
        (6 * 5, 0, 3 * 6 * 5),
        (0, 12, 3 * 10),
    ]
    assert report.rows[0].bytes == sum(b.nbytes for b in four.buffers()) + 6 * 4
    assert report.rows[0].bytes > 64 * 6 // 2
    assert report.rows[1].bytes == 30 + 5 * 4
    assert (report.code_params, report.bmac) == (414, 0)
    assert report.ops == report.fmac
    assert "4/8-bit params" in str(report)
    assert "bytes of buffers" not in str(report)
    assert "4/8-bit params" not in str(summary(nn.Linear(1, 1), torch.zeros(1, 1)))


def test_bytes_follow_the_type_of_the_parameters() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        row = summary(nn.Linear(4, 4).to(dtype), torch.zeros(1, 4, dtype=dtype)).rows[0]
        assert row.bytes == 20 * dtype.itemsize


class Reader(nn.Module):
    """Multiplies by the weights of two low-bit layers itself; calls one of them too."""

    def __init__(self) -> None:
        super().__init__()
        self.only_read, self.both = (BinaryLinear(4, 4, bias=True, method=binary.BNN) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = nn.functional.linear(x, self.only_read.weight) + self.both(x) @ self.both.weight
        return y


def test_weights_that_the_forward_reads_itself_are_no_bits() -> None:
    report = summary(Reader(), torch.zeros(1, 4))
    rows = {row.name: row for row in report.rows}
    assert (rows["only_read"].binary_params, rows["only_read"].float_params, rows["only_read"].bytes) == (0, 20, 80)
    assert (rows["both"].binary_params, rows["both"].float_params, rows["both"].bytes) == (16, 20, 2 + 80)
    assert (rows["both"].bmac, rows["only_read"].bmac, rows[""].fmac) == (16, 0, 32)
    assert report.notes[:3] == (
        "low-bit, but never called, so that their weights count as float: only_read",
        "low-bit, but the forward reads their weights itself, so that these count as float too: both",
        "FMAC of functions that a forward calls itself, not of a layer: (model)",
    )


def test_a_weight_that_is_used_as_bits_and_as_numbers_counts_once_as_either() -> None:
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), *(BinaryLinear(4, 4, method=binary.BNN) for _ in range(2)))
    for layer in tied[1:]:
        layer.weight = tied[0].weight
    report = summary(tied, torch.zeros(1, 4))
    assert (report.binary_params, report.float_params, report.bytes) == (16, 16, 2 + 64)


def test_examples_that_cannot_be_counted_are_refused() -> None:
    model = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="batch of at least one"):
        summary(model, torch.zeros(0, 3))
    with pytest.raises(ValueError, match="batch of at least one"):
        summary(model, torch.zeros(()))
    with pytest.raises(TypeError, match="example must be a tensor"):
        summary(model, (1, 3, 32, 32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"summary: parameter 'method\.beta' has no size"):
        summary(BinaryConv2d(1, 1, 3, method=binary.XNORNetPlusPlus), torch.zeros(1, 1, 5, 5))


class Halved(CostedLayer):
    """A layer of somebody else's that says what it costs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 4))
        self.inner = nn.Linear(4, 4)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) @ self.weight.T + self.bias

    def cost(self, output: int) -> Cost:
        return Cost(output, 10 * output, 7, bits=5, codes=2, latent=self.weight, real=(self.bias,), method="half")


def test_a_layer_is_asked_what_it_costs() -> None:
    model = nn.Sequential(Halved(), Halved())
    model[1].weight = model[0].weight
    model.append(nn.Identity())
    model[0].forward = lambda x: x[:, :4]  # type: ignore[method-assign]
    report = summary(model, torch.zeros(2, 4))
    assert report.rows == (
        SummaryRow("0", "Halved[half]", (4,), 5, 3, 7 + 12, 40, 4, 2),
        # the weight is the other one's, and counts once
        SummaryRow("1", "Halved[half]", (3,), 0, 3, 12, 30, 3, 0),
    )
    assert not report.uncounted


def test_layers_say_the_same_alone() -> None:
    low = BinaryConv2d(4, 6, 3, groups=2, bias=True, method=partial(binary.DoReFa, weight_bits=2, input_bits=3))
    assert low.cost(10) == Cost(0, 10 * 18 * 6, 27, 216, 0, low.weight, (low.bias,), "DoReFa")
    eight = Linear8bit(5, 3)
    assert eight.cost(3) == Cost(15, 0, 15 + 12, codes=15, real=(eight.bias,))
