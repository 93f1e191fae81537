# SPDX-License-Identifier: Apache-2.0
"""Recurrent networks in integers: every way to read an LSTM or a GRU, states in and out, training, files, C."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bittern
from _c_integers import answers
from _tolerance import assert_exact
from bittern.models import RecurrentLanguageModel
from bittern.ptq import AdaRound, Bits, Budget, QuantizedNetwork, noise_to_signal, quantize
from bittern.ptq.reconstruct import Schedule

STEPS, FEATURES, HIDDEN = 6, 5, 7
CLASSES = pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU], ids=["lstm", "gru"])


def hidden_of(states: Any) -> Tensor:
    """h of an LSTM's states, or of a GRU's."""
    return states[0] if isinstance(states, tuple) else states


class Reader(nn.Module):
    """A recurrent layer, and a way to read it."""

    def __init__(self, rnn: nn.Module, read: Callable[[Tensor, Any], Any], *, turned: bool = False) -> None:
        super().__init__()
        self.rnn, self.read, self.turned = rnn, read, turned
        self.head = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Any:
        y, states = self.rnn(x.transpose(0, 1) if self.turned else x)
        return self.head(self.read(y, states))


READS: dict[str, tuple[dict[str, Any], Callable[[Tensor, Any], Any]]] = {
    "all steps": ({}, lambda y, s: y),
    "last step": ({}, lambda y, s: y[:, -1]),
    "steps first": ({"batch_first": False}, lambda y, s: y[-1]),
    "turned back": ({"batch_first": False}, lambda y, s: y.transpose(0, 1)[:, 2]),
    "pooled": ({"batch_first": False}, lambda y, s: y.permute(1, 2, 0).mean(2)),
    "summed over steps": ({"batch_first": False}, lambda y, s: y.sum(0)),
    "state": ({"num_layers": 2}, lambda y, s: hidden_of(s)[-1]),
    "squeezed": ({}, lambda y, s: hidden_of(s).squeeze(0)),
    "both": ({"bidirectional": True, "num_layers": 2}, lambda y, s: y[:, 2:4].flatten(1)),
    "both ends": ({"bidirectional": True}, lambda y, s: torch.cat([hidden_of(s)[-2], hidden_of(s)[-1]], 1)),
    "stacked states": ({"num_layers": 2}, lambda y, s: hidden_of(s).transpose(0, 1).flatten(1)),
    "no bias": ({"bias": False}, lambda y, s: y[:, 1]),
}


def of_integers(network: QuantizedNetwork, cls: type[nn.Module]) -> bool:
    kinds = {node.kind for node in network.pack().program.nodes}
    return f"integer_{cls.__name__.lower()}" in kinds and not kinds & {"recurrent", "linear"}


@CLASSES
@pytest.mark.parametrize("way", READS)
def test_every_way_to_read(cls: type[nn.Module], way: str, tmp_path: Path) -> None:
    options, read = READS[way]
    torch.manual_seed(0)
    first = options.get("batch_first", True)
    model = Reader(cls(FEATURES, HIDDEN, **{"batch_first": True, **options}), read, turned=not first).eval()
    x = torch.randn(40, STEPS, FEATURES)
    wanted = model(x)
    network = quantize(model, x)
    assert of_integers(network, cls)
    assert noise_to_signal(wanted, network(x)) < 1e-3  # 30 dB
    packed = network.pack()
    packed.save(tmp_path / "net.bit")
    assert_exact(bittern.load(tmp_path / "net.bit")(x), network(x))
    assert bittern.verify(packed, network, x).logits_identical
    assert_exact(network.train()(x).detach(), network.eval()(x))
    assert_exact(network(x[:1]), network(x)[:1])


ALL_IN_INTEGERS = ("last step", "steps first", "turned back", "state", "squeezed", "both", "both ends")


@CLASSES
@pytest.mark.parametrize("way", ALL_IN_INTEGERS)
def test_nothing_stays_float_between(cls: type[nn.Module], way: str) -> None:
    options, read = READS[way]
    first = options.get("batch_first", True)
    model = Reader(cls(FEATURES, HIDDEN, **{"batch_first": True, **options}), read, turned=not first).eval()
    x = torch.randn(8, STEPS, FEATURES)
    model(x)
    kinds = [node.kind for node in quantize(model, x).pack().program.nodes]
    assert (kinds.count("quantize"), kinds.count("dequantize")) == (1, 1)


@CLASSES
def test_c_code_gives_the_same(cls: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    options, read = READS["both ends"]
    model = Reader(cls(FEATURES, HIDDEN, batch_first=True, **options), read).eval()
    x = torch.randn(20, STEPS, FEATURES)
    model(x)
    packed = quantize(model, x).pack()
    assert_exact(answers(packed, tmp_path, x), packed(x))


class Streaming(nn.Module):
    """States in and out."""

    def __init__(self, cls: type[nn.Module]) -> None:
        super().__init__()
        self.rnn, self.head = cls(FEATURES, HIDDEN, 2, batch_first=True), nn.Linear(HIDDEN, 3)

    def forward(self, x: Tensor, states: Any = None) -> tuple[Tensor, Any]:
        y, states = self.rnn(x, states)
        return self.head(y), states


@CLASSES
def test_a_stream_one_step_a_call(cls: type[nn.Module]) -> None:
    """States leave as floats that are integers times a power of two, and come in again as what they were."""
    torch.manual_seed(0)
    model, x = Streaming(cls).eval(), torch.randn(16, STEPS, FEATURES)
    zero = torch.zeros(2, 16, HIDDEN)
    states: Any = (zero, zero) if cls is nn.LSTM else zero
    with torch.no_grad():
        wanted, later = model(x)
        network = quantize(model, [{"x": x[:, :1], "states": states}, {"x": x[:, 3:4], "states": later}])
        packed = network.pack()
        outputs, own, again = [], states, states
        for step in range(STEPS):
            y, own = network(x[:, step : step + 1], own)
            packed_y, again = packed(x[:, step : step + 1], again)
            assert_exact(packed_y, y)
            outputs.append(y)
        assert noise_to_signal(wanted, torch.cat(outputs, 1)) < 1e-2
        last = own[1] if cls is nn.LSTM else own
        assert noise_to_signal(later[1] if cls is nn.LSTM else later, last) < 1e-2
        assert float((last * 2**15).frac().abs().max()) == 0
        assert_exact(hidden_of(own), hidden_of(again))
        assert_exact(network.train()(x[:, :1], own)[0], network.eval()(x[:, :1], own)[0])
    kinds = {node.kind for node in packed.program.nodes}
    assert {"quantize_16", "dequantize_16", "part"} <= kinds


@CLASSES
def test_a_language_model_and_its_states(cls: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = RecurrentLanguageModel(20, 16, 2, kind="lstm" if cls is nn.LSTM else "gru").eval()
    tokens = torch.randint(20, (12, 9))
    network = quantize(model, tokens)
    kept = {row.name: row.reason for row in network.report.kept_float}
    assert not any("recurrent" in name and "state" not in name for name in kept), kept
    logits, states = network(tokens)
    wanted, _ = model(tokens)
    assert noise_to_signal(wanted, logits) < 1e-2
    assert hidden_of(states).shape == (2, 12, 16)


@CLASSES
def test_fine_tuning_lowers_the_loss(cls: type[nn.Module]) -> None:
    torch.manual_seed(0)
    y = torch.arange(32) % 3
    x = torch.randn(3, STEPS, FEATURES)[y] + 0.2 * torch.randn(32, STEPS, FEATURES)
    model = Reader(cls(FEATURES, HIDDEN, batch_first=True), lambda y, s: y[:, -1]).eval()
    model(x)
    network = quantize(model, x, weights=4).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(p.grad is not None for p in network.parameters())
    assert losses[-1] < 0.8 * losses[0]
    assert_exact(network(x).detach(), network.eval()(x))


def test_bits_and_options() -> None:
    torch.manual_seed(0)
    model = Reader(nn.LSTM(FEATURES, HIDDEN, 2, batch_first=True), lambda y, s: y[:, -1]).eval()
    x = torch.randn(24, STEPS, FEATURES)
    model(x)
    network = quantize(model, x, layers={"rnn.l0": Bits(3, 8), "rnn": Bits(5, 6)})
    rows = {row.name: row for row in network.report.rows}
    assert (rows["rnn.l0"].weight_bits, rows["rnn.l1"].weight_bits) == (3, 5)
    assert rows["rnn.l0"].macs == STEPS * 4 * HIDDEN * (FEATURES + HIDDEN)
    named = {node.name: node for node in network.pack().program.nodes}
    largest = [int(network.pack().tensors[named[f"rnn.l{i}"].tensors["weight"]].abs().max()) for i in range(2)]
    assert largest == [3, 15]
    assert (named["rnn.l1"].attrs["low"], named["rnn.l1"].attrs["high"]) == (-32, 31)
    spent = quantize(model, x, budget=Budget(bytes=100_000, widths=(4, 8))).spent
    assert spent is not None
    assert set(spent.bits) == {"head"}
    one = quantize(
        model, x, per_channel=False, bias_correction=True, rounding=AdaRound(schedule=Schedule(iterations=5))
    )
    assert noise_to_signal(model(x), one(x)) < 1e-2


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    ("model", "keep", "reason"),
    [
        (nn.LSTM(FEATURES, HIDDEN, proj_size=3, batch_first=True), (), "an LSTM with projections has no integer kind"),
        (nn.LSTM(FEATURES, HIDDEN, batch_first=True), ("rnn",), "keep='rnn'"),
        (nn.RNN(FEATURES, HIDDEN, batch_first=True), (), "no integer kind computes rnn_tanh.input"),
    ],
)
def test_what_stays_float_says_why(model: nn.Module, keep: tuple[str, ...], reason: str) -> None:
    reader = Reader(model, lambda y, s: y[:, -1]).eval()
    x = torch.randn(8, STEPS, FEATURES)
    wanted = reader(x)
    network = quantize(reader, x, keep=keep)
    assert reason in {row.reason for row in network.report.kept_float}
    assert noise_to_signal(wanted, network(x)) < 1e-2


def test_a_layer_that_stays_float_alone() -> None:
    model = Reader(nn.GRU(FEATURES, HIDDEN, 2, batch_first=True), lambda y, s: y[:, -1]).eval()
    x = torch.randn(8, STEPS, FEATURES)
    wanted = model(x)
    network = quantize(model, x, keep=["rnn.l1"])
    kinds = [node.kind for node in network.pack().program.nodes]
    assert (kinds.count("recurrent"), kinds.count("integer_gru")) == (1, 1)
    assert noise_to_signal(wanted, network(x)) < 1e-2


def test_gates_and_states_beyond_their_first_range() -> None:
    """Sums of gates up to 40 take more integer bits, and a state that grows to 6 a coarser step."""
    lstm = nn.LSTM(1, 1, batch_first=True)
    with torch.no_grad():
        for p in lstm.parameters():
            p.zero_()
        lstm.weight_ih_l0[:, 0] = torch.tensor([20.0, 20.0, 20.0, 20.0])
    model = Reader(lstm, lambda y, s: y[:, -1]).eval()
    x = 2 * torch.ones(4, STEPS, 1) * torch.tensor([1.0, 0.5, 0.25, 0.1]).view(-1, 1, 1)
    model(x)
    network = quantize(model, x)
    node = next(node for node in network.pack().program.nodes if node.kind == "integer_lstm")
    assert (node.attrs["integer_bits"], node.attrs["exponent"]) == (6, -12)
    assert float((network(x) - model(x)).detach().abs().max()) < 0.02


CELLS = pytest.mark.parametrize("cls", [nn.LSTMCell, nn.GRUCell], ids=["lstm", "gru"])


class Step(nn.Module):
    """One step of a cell, or of a layer with the cell's numbers, whose states have a dimension more."""

    def __init__(self, cell: nn.LSTMCell | nn.GRUCell, *, as_layer: bool = False) -> None:
        super().__init__()
        self.cell: nn.Module = cell
        if as_layer:
            kind = nn.LSTM if isinstance(cell, nn.LSTMCell) else nn.GRU
            self.cell = kind(FEATURES, HIDDEN, bias=cell.bias, batch_first=True)
            self.cell.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
        self.as_layer = as_layer
        self.head = nn.Linear(HIDDEN, 3)

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        if self.as_layer:
            y, found = self.cell(x.unsqueeze(1), states if len(states) > 1 else states[0])
            return self.head(y[:, 0]), *(found if isinstance(found, tuple) else (found,))
        found = self.cell(x, states if len(states) > 1 else states[0])
        later = found if isinstance(found, tuple) else (found,)
        return self.head(later[0]), *later


@CELLS
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_has_the_integers_of_a_layer_over_one_step(cls: Any, bias: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    cell = cls(FEATURES, HIDDEN, bias=bias)
    model, twin = Step(cell).eval(), Step(cell, as_layer=True).eval()
    twin.head = model.head
    states = [torch.randn(16, HIDDEN) * 0.3 for _ in range(2 if cls is nn.LSTMCell else 1)]
    x = torch.randn(16, FEATURES)
    with torch.no_grad():
        assert_exact(bittern.pack(model, (x, *states))(x, *states)[0], model(x, *states)[0])
    stacked = [state.unsqueeze(0) for state in states]
    network, other = quantize(model, [(x, *states)]), quantize(twin, [(x, *stacked)])
    assert network.report.kept_float == ()
    packed = network.pack()
    assert {f"integer_{'lstm' if cls is nn.LSTMCell else 'gru'}"} < {node.kind for node in packed.program.nodes}
    assert not {"aten", "recurrent"} & {n.kind for n in packed.program.nodes if "operator" not in n.attrs}
    packed.save(tmp_path / "cell.bit")
    loaded = bittern.load(tmp_path / "cell.bit")
    with torch.no_grad():
        wanted, again, ours = model(x, *states), stacked, states
        for step in range(4):
            rows = x.roll(step, 0)
            y, *again = other(rows, *again)
            mine, *ours = network(rows, *ours)
            assert_exact(mine, y)
            assert all(torch.equal(a, b[0]) for a, b in zip(ours, again, strict=True))
            assert_exact(loaded(rows, *ours)[0], network(rows, *ours)[0])
            assert_exact(network.train()(rows, *ours)[0], network.eval()(rows, *ours)[0])
        got = network(x, *states)
    assert all(noise_to_signal(a, b) < 1e-2 for a, b in zip(wanted, got, strict=True))


class Unrolled(nn.Module):
    """A cell called once a step, from a state of zeros."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(HIDDEN, 3)

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        for row in x.unbind(1):
            state = self.cell(row, state)
        y: Tensor = self.head(hidden_of(state))
        return y


@CELLS
def test_a_cell_in_a_loop(cls: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Unrolled(cls(FEATURES, HIDDEN)).eval(), torch.randn(20, 3, FEATURES)
    wanted = model(x)
    network = quantize(model, x)
    assert network.report.kept_float == ()
    packed = network.pack()
    assert_exact(packed(x), network(x))
    assert_exact(network.train()(x), packed(x))
    assert_exact(answers(packed, tmp_path, x), packed(x))
    assert noise_to_signal(wanted, packed(x)) < 1e-2


@CELLS
def test_a_cell_that_is_kept(cls: Any) -> None:
    model, x = Unrolled(cls(FEATURES, HIDDEN)).eval(), torch.randn(8, 3, FEATURES)
    network = quantize(model, x, keep=["cell*"])
    assert {row.reason for row in network.report.kept_float} >= {"keep='cell*'"}
    assert noise_to_signal(model(x), network(x)) < 1e-2
