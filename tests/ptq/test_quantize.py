# SPDX-License-Identifier: Apache-2.0
"""Networks of integers: every integer against real arithmetic, what stays float, training, files, and bad input."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bittern
from _ptq import check_integers
from _tolerance import assert_exact
from bittern.deploy import PackError, to_c
from bittern.deploy.program import Node, Program, one_input
from bittern.ptq import Bits, LeastSquares, QuantizedNetwork, quantize
from bittern.ptq.native import with_layers
from bittern.ptq.products import turned, turned_back


class Everything(nn.Module):
    """One of each kind of layer that has integers, on images [batch, 3, 9, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.gate = nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 2, dilation=2, groups=8)
        self.grouped = nn.Conv2d(8, 8, (1, 3), 1, (0, 1), groups=2)
        self.lone = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(16, 6, 3, 2, 1, output_padding=1, groups=2)
        self.up_norm = nn.BatchNorm2d(6)
        self.along = nn.Conv1d(6, 5, 3, 2, 1)
        self.tokens = nn.Linear(6, 6)
        self.features = nn.BatchNorm1d(11)
        self.head = nn.Linear(11, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.stem(x)))
        y = self.depthwise(x) + self.grouped(x)
        y = y * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(y, 1))) - x
        z = F.relu(self.lone(F.relu(y)))
        x = torch.cat([F.max_pool2d(x, 3, 2, 1, ceil_mode=True)[..., :2], F.avg_pool2d(z, 3, 2, 1)], 1)
        x = F.hardswish(self.up_norm(self.up(x)))
        rows = x.flatten(2)
        line = F.silu(self.along(rows)).mean(2)
        words = F.leaky_relu(self.tokens(rows.transpose(1, 2)), 0.1).mean(1)
        both = self.features(torch.cat([line, words], 1))
        return F.softmax(self.head(both), 1)


class Small(nn.Module):
    """Two convolutions and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, bias=False), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(x))))
        return self.head(x.mean((2, 3)))


def settled(model: nn.Module, x: Tensor) -> nn.Module:
    """A model whose norms have statistics, and slopes of both signs."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    model.train()
    for _ in range(3):
        model(x)
    return model.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(24, 3, 9, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def everything(images: Tensor) -> QuantizedNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return quantize(settled(Everything(), images), images)


@pytest.fixture(scope="module")
def small() -> QuantizedNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return quantize(Small(), torch.randn(16, 1, 7, 7))


def test_every_integer_is_the_nearest_to_its_real_number(everything: QuantizedNetwork, images: Tensor) -> None:
    assert not everything.report.kept_float
    compared = check_integers(everything, images)
    assert {"stem", "depthwise", "grouped", "lone", "up", "along", "tokens", "head"} <= set(compared)
    assert not any("norm" in name for name in compared)  # folded, up_norm and the norm of features too
    kinds = {node.kind for node in everything.pack().program.nodes}
    assert {"integer_conv", "integer_linear", "integer_add", "integer_max", "integer_average", "integer_table"} <= kinds
    assert {"integer_multiply", "integer_subtract", "integer_mean", "integer_softmax"} <= kinds
    assert not kinds & {"conv", "linear", "batch_norm", "affine", "relu"}


def test_integers_of_few_bits(images: Tensor) -> None:
    torch.manual_seed(0)
    model = settled(Everything(), images)
    network = quantize(model, images, weights=4, inputs=3, observer=LeastSquares)
    check_integers(network, images)
    packed = network.pack()
    for node in packed.program.nodes:
        if node.kind in ("integer_conv", "integer_linear"):
            assert int(packed.tensors[node.tensors["weight"]].abs().max()) == 7
    assert {grid.bits for grid in network.grids.values()} == {3, 8}


def test_bits_of_single_layers_and_one_scale_a_weight() -> None:
    x = torch.randn(4, 1, 7, 7)
    network = quantize(Small(), x, weights=4, per_channel=False, layers={"hea?": Bits(5, 6), "*": Bits(3)})
    scales = network.layers[0].scales
    assert bool((scales == scales[0]).all())
    bits = {row.name: (row.weight_bits, row.input_bits) for row in network.report.rows}
    assert (bits["first"], bits["second"], bits["head"]) == ((3, 8), (3, 8), (5, 6))
    with pytest.raises(ValueError, match="layers: 'haed' names no layer"):
        quantize(Small(), x, layers={"haed": Bits()})


def test_the_answer_is_near_the_float_network(everything: QuantizedNetwork) -> None:
    report = everything.report
    assert report.rows[-1].noise_db > 20
    assert report.integer_macs == 1.0
    assert report.bytes >= everything.pack().nbytes  # which has equal numbers once
    text, html = str(report), report.html("a <b> & c")
    assert "up" in text
    assert "a &lt;b&gt; &amp; c" in html
    assert "src=" not in html


def test_training_computes_the_very_integers(everything: QuantizedNetwork, images: Tensor) -> None:
    network = copy.deepcopy(everything)
    answers = network(images)
    network.train()
    trained = network(images)
    assert_exact(trained.detach(), answers)
    loss = F.nll_loss(trained.clamp(min=1e-3).log(), torch.arange(24) % 4)
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())
    before = network.eval().pack().tensors
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * parameter.abs().max() * parameter.grad.sign())
    after = network.pack().tensors
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert_exact(network.train()(images).detach(), network.eval()(images))
    assert_exact(everything(images), answers)  # a copy has its own


def test_fine_tuning_lowers_the_loss() -> None:
    torch.manual_seed(0)
    y = torch.arange(32) % 3
    x = torch.randn(3, 1, 7, 7)[y] + 0.2 * torch.randn(32, 1, 7, 7)
    network = quantize(Small(), x, weights=3, inputs=4).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert_exact(network(x).detach(), network.eval()(x))


def test_files(everything: QuantizedNetwork, small: QuantizedNetwork, images: Tensor, tmp_path: Path) -> None:
    packed = everything.pack()
    packed.save(tmp_path / "net.bit")
    loaded = bittern.load(tmp_path / "net.bit")
    answers = everything(images)
    assert_exact(loaded(images), answers)
    assert bittern.verify(loaded, everything, images).logits_identical
    assert "Everything" in loaded.info["model"]
    named = small.pack(classes=["a", "b", "c"], mean=0.5, std=0.25)
    assert named.info["mean"] == "[0.5]"
    to_c(named, tmp_path / "net.c")
    with pytest.raises(PackError, match="classes need a name for each of 3"):
        small.pack(classes=["a"])


def test_bias_correction_brings_the_means_back() -> None:
    torch.manual_seed(0)
    model, x = Small(), torch.randn(48, 1, 7, 7)
    nearest, better = quantize(model, x, weights=3), quantize(model, x, weights=3, bias_correction=True)
    check_integers(better, x)
    shifts = [float((network(x) - model(x)).detach().mean(0).abs().max()) for network in (nearest, better)]
    assert shifts[1] < 0.5 * shifts[0]


def test_equalization_serves_weights_of_one_scale() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        model[0].weight[0] *= 300.0
        model[2].weight[:2, :1] /= 300.0
    x = torch.randn(8, 1, 7, 7)
    plain, shared = quantize(model, x, per_channel=False), quantize(model, x, per_channel=False, equalize=True)
    check_integers(shared, x)
    errors = [float((one(x) - model(x)).detach().square().mean()) for one in (plain, shared)]
    assert errors[1] < 0.2 * errors[0]


class Mixed(nn.Module):
    """Attention between layers: products of two values stay float."""

    def __init__(self) -> None:
        super().__init__()
        self.taken, self.norm, self.given = nn.Linear(6, 12), nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q, k = self.taken(x).split(6, -1)
        y = x + (q @ k.transpose(1, 2)).softmax(-1) @ x
        y = self.given(self.norm(y))
        return y, y.amax(2)


def test_what_stays_float_is_listed_with_its_reason() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 4, 6)
    network = quantize(Mixed(), x)
    kept = {row.name: row.reason for row in network.report.kept_float}
    assert list(kept) == ["norm", "amax"]
    assert "deviation" in str(kept["norm"])
    check_integers(network, x)
    first, second = network(x)
    assert first.shape == (5, 4, 2)
    assert_exact(second, first.amax(2))
    assert_exact(network.train()(x)[0].detach(), first)


def test_keep(small: QuantizedNetwork) -> None:
    torch.manual_seed(2)
    model, x = Small(), torch.randn(16, 1, 7, 7)
    network = quantize(model, x, keep=["fir*"])
    assert [row.reason for row in network.report.rows][:2] == ["keep='fir*'", "what it reads is float"]
    assert {row.name for row in network.report.kept_float} == {"first", "relu"}
    assert 0 < network.report.integer_macs < 1
    check_integers(network, x)
    with pytest.raises(ValueError, match="keep: 'third' names no layer; there are 'first'"):
        quantize(model, x, keep=["third"])
    with pytest.raises(ValueError, match="no layer of this model has integers; 'first': keep"):
        quantize(model, x, keep=["*"])


def test_channels_that_are_constant() -> None:
    torch.manual_seed(0)
    model, x = Small(), torch.randn(6, 1, 7, 7)
    with torch.no_grad():
        model.first.weight[0] = 0.0  # a channel of its bias alone
        model.first.bias[0] = 3.0
        model.second.weight[1] = 0.0  # and one of zeros
        model.first.weight[2] *= 1e-12  # beside which the bias is too large for int32
    network = quantize(model, x)
    check_integers(network, x)
    assert float((network(x) - model(x)).detach().abs().max()) < 0.1
    with torch.no_grad():
        model.second.weight.zero_()  # a range of zeros
    check_integers(quantize(model, torch.zeros(6, 1, 7, 7)), x)


def test_calibration_data(small: QuantizedNetwork) -> None:
    torch.manual_seed(2)
    model, x = Small(), torch.randn(16, 1, 7, 7)
    answers = small(x)
    labelled = [(part, torch.zeros(4)) for part in x.split(4)]
    for calibration in (iter(x.split(5)), labelled, {"x": x}):
        assert_exact(quantize(model, calibration)(x), answers)
    with pytest.raises(ValueError, match="calibration has no samples"):
        quantize(model, x[:0])
    with pytest.raises(ValueError, match="calibration has no samples"):
        quantize(model, [])
    with pytest.raises(TypeError, match="calibration must be a tensor or batches; got int"):
        quantize(model, 3)
    with pytest.raises(ValueError, match=r"calibration batch 1: expected an input \[batch, 1, 7, 7\]; got"):
        quantize(model, [x, x[:, :, 1:]])
    with pytest.raises(ValueError, match="what 'x' gives on the calibration data: MinMax: x must be finite"):
        quantize(model, torch.full((2, 1, 7, 7), float("nan")))


def test_a_packed_model_of_floats(small: QuantizedNetwork) -> None:
    torch.manual_seed(2)
    model, x = Small(), torch.randn(16, 1, 7, 7)
    assert_exact(quantize(bittern.pack(model, x[:2]), x)(x), small(x))


def test_convolutions_that_are_operators_of_torch() -> None:
    order = {"input": 0, "order": [0, 1, 2, 3]}
    arguments = [order, {"tensor": "w"}, {"tensor": "b"}, [2, 1], [1], [1, 1], 2]
    node = Node("aten", "c", (0,), 1, {"operator": "conv2d.default", "arguments": arguments}, {"w": "c.w", "b": "c.b"})
    program = Program((node,), one_input((4, 5, 5)), 1)
    (found,) = with_layers(program).nodes
    assert (found.kind, found.tensors) == ("conv", {"weight": "c.w", "bias": "c.b"})
    assert found.attrs == {"stride": [2, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 2}
    computed = replace(node, attrs={"operator": "conv2d.default", "arguments": [order, {"input": 0}]}, tensors={})
    assert with_layers(replace(program, nodes=(computed,))).nodes == (computed,)


def test_arguments_that_do_not_fit(small: QuantizedNetwork) -> None:
    model, x = Small(), torch.randn(2, 1, 7, 7)
    for bad in (1, 9, 8.0, True):
        with pytest.raises(ValueError, match="weights: bits must be an integer from 2 to 8"):
            quantize(model, x, weights=bad)
    with pytest.raises(TypeError, match="quantized already"):
        quantize(small, x)
    with pytest.raises(ValueError, match="this packed model has integers already"):
        quantize(small.pack(), x)
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module; got str"):
        quantize("net", x)  # type: ignore[arg-type]
    with pytest.raises(PackError, match=r"quantize: .*float64"):
        quantize(Small().double(), x)
    wide = nn.Sequential(nn.Linear(70_000, 1))
    nn.init.constant_(wide[0].weight, 1.0)
    with pytest.raises(ValueError, match=r"'0': its sums may reach .*int32 holds less than 2\^31"):
        quantize(wide, torch.rand(2, 70_000))


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_weights_are_turned_and_back(groups: int) -> None:
    weight = torch.randn(4, 3, 2, 5)
    there = turned(weight, groups)
    assert there.shape == (3 * groups, 4 // groups, 2, 5)
    assert_exact(turned_back(there, groups), weight)
    x = torch.randn(1, 4, 3, 3)
    own = F.conv2d(F.pad(x, (4, 4, 1, 1)), there, groups=groups)
    assert float((own - F.conv_transpose2d(x, weight, groups=groups)).abs().max()) < 1e-5


def test_public_names() -> None:
    assert bittern.quantize is quantize
    assert bittern.ptq.QuantizedNetwork is QuantizedNetwork
    assert partial(bittern.quantize, weights=4)
