"""summary: each count worked out by hand, and nothing about the model changed by it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bittern import binary, models
from bittern.nn import BinaryConv2d, BinaryLinear, SummaryRow, summary
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
    assert lines[-2].split() == ["total", "267,264", "2,586", "43,752", "40,108,032", "443,008"]
    assert lines[-1] == "1,069,696 OPs (BMAC / 64 + FMAC), 0.04 MiB"
    assert len({line.rfind(" ") for line in lines[3:6]}) == 1, "the last column must be flush"
    assert repr(report) == table


def test_multiplications_without_a_rule_are_named() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.zeros(4, 4))
            self.gru = nn.GRU(4, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.gru(x @ self.matrix)[0]
            return y

    report = summary(Own(), torch.zeros(2, 3, 4))
    assert report.uncounted == ("gru", "")
    assert str(report).endswith("multiplications not counted: gru, (model)")
    assert report.float_params == 16 + 2 * (3 * 16 + 12)


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
