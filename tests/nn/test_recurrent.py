# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers: numbers and gradients of torch's own, low-bit products, conversion, packing, refusals."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bittern.nn
from _tolerance import assert_exact, assert_reduction
from bittern.binary import BNN, HORQ, DoReFa
from bittern.codes import Reals
from bittern.deploy import pack, verify
from bittern.nn import GRU, LSTM, BinaryLinear, GRUCell, LSTMCell, convert, plan_conversion
from bittern.quant import TWN, Alternating
from bittern.quantizer import Method, Quantized, Quantizer, RealCode


class Untouched(Quantizer):
    """Weights and inputs as they are."""

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(w)

    def weight_code(self) -> Reals:
        return Reals()

    def input(self, x: Tensor) -> Quantized:
        return Quantized(x)

    def input_code(self) -> RealCode:
        return RealCode()


LAYERS: tuple[tuple[type[nn.Module], type[nn.Module]], ...] = ((nn.LSTM, LSTM), (nn.GRU, GRU))
CELLS: tuple[tuple[type[nn.Module], type[nn.Module]], ...] = ((nn.LSTMCell, LSTMCell), (nn.GRUCell, GRUCell))
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all": {"num_layers": 3, "batch_first": True, "bidirectional": True, "bias": False},
}


def flat(answer: Any) -> list[Tensor]:
    """The tensors of results and states."""
    return [answer] if isinstance(answer, Tensor) else [t for part in answer for t in flat(part)]


def compare(old: nn.Module, new: nn.Module, *args: Any, rows: int) -> None:
    """Results, and the gradients of every parameter and of the input."""
    found, expected = flat(new(*args)), flat(old(*args))
    draws = [torch.randn(t.shape, dtype=t.dtype) for t in expected]
    for answer, module in ((found, new), (expected, old)):
        module.zero_grad()
        sum(((t * d).sum() for t, d in zip(answer, draws, strict=True)), torch.zeros(())).backward()
    for a, b in zip(found, expected, strict=True):
        assert_reduction(a.detach(), b.detach().double(), 64, 1.0)
    theirs = dict(old.named_parameters())
    ours = dict(new.named_parameters())
    assert len(ours) == len(theirs)
    for name, p in ours.items():
        layer, _, kind = name.rpartition(".")
        grad = theirs[f"{kind}_{layer}"].grad
        assert grad is not None
        assert p.grad is not None
        assert_reduction(p.grad, grad.double(), rows, float(grad.abs().max()))


@pytest.mark.parametrize("method", [None, Untouched], ids=["real", "untouched"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize(("old_class", "new_class"), LAYERS)
def test_layers_are_torchs(old_class: Any, new_class: Any, options: dict[str, Any], method: Method | None) -> None:
    torch.manual_seed(0)
    old = old_class(5, 7, **options).double()
    new = new_class(5, 7, **options, method=method).double()
    new.load_state_dict(old.state_dict())
    x, states = torch.randn(3, 4, 5).double(), old.num_layers * (2 if old.bidirectional else 1)
    batch = 3 if old.batch_first else 4
    start = [torch.randn(states, batch, 7).double() for _ in range(2)]
    compare(old, new, x, rows=100)
    compare(old, new, x, tuple(start) if old_class is nn.LSTM else start[0], rows=100)
    compare(old, new, x[0], rows=100)


@pytest.mark.parametrize(("old_class", "new_class"), CELLS)
def test_cells_are_torchs(old_class: Any, new_class: Any) -> None:
    torch.manual_seed(0)
    old, new = old_class(5, 7).double(), new_class(5, 7, method=Untouched).double()
    new.load_state_dict(old.state_dict())
    x, start = torch.randn(4, 5).double(), [torch.randn(4, 7).double() for _ in range(2)]
    compare(old, new, x, rows=100)
    compare(old, new, x, tuple(start) if old_class is nn.LSTMCell else start[0], rows=100)
    compare(old, new, x[0], rows=100)


@pytest.mark.parametrize("method", [BNN, HORQ, partial(DoReFa, weight_bits=2, input_bits=2), TWN])
def test_low_bit_layers_are_cells_one_after_another(method: Method) -> None:
    """The weight that is quantized once a sequence is that of every step, in results and gradients."""
    torch.manual_seed(1)
    for layers, cell in ((LSTM(6, 8, method=method), LSTMCell), (GRU(6, 8, method=method), GRUCell)):
        one = cell(6, 8, method=method)
        one.load_state_dict({name.replace("_l0", ""): t for name, t in layers.state_dict().items()})
        x = torch.randn(5, 3, 6)
        state: Any = None
        results = []
        for step in x:
            state = one(step, state)
            results.append(state[0] if cell is LSTMCell else state)
        found = layers(x)[0]
        assert_reduction(found.detach(), torch.stack(results).detach().double(), 8, 1.0)
        draw = torch.randn(found.shape)
        found.backward(draw)
        torch.stack(results).backward(draw)
        for a, b in zip(layers.parameters(), one.parameters(), strict=True):
            assert a.grad is not None
            assert b.grad is not None
            assert_reduction(a.grad, b.grad.double(), 64, float(b.grad.abs().max()) + 1e-30)


class Tagger(nn.Module):
    """Layers and a cell, as torch has them."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.gru = nn.GRU(8, 5, 2, batch_first=True, bidirectional=True)
        self.cell = nn.LSTMCell(10, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.lstm.flatten_parameters()
        y, _ = self.lstm(input=x)
        y, _ = self.gru(y)
        state = self.cell(y[:, -2])
        h, _ = self.cell(y[:, -1], hx=state)
        answer: Tensor = self.head(h)
        return answer


def test_convert_names_products_and_takes_weights_over() -> None:
    torch.manual_seed(2)
    model, x = Tagger(), torch.randn(2, 4, 6)
    plan = plan_conversion(model, BNN, example=x)
    assert {row.name for row in plan.rows} >= {"lstm.ih_l0", "lstm.hh_l0", "gru.hh_l1_reverse", "cell.hh", "head"}
    assert "a product of nn.GRU" in str(plan)
    made: Any = convert(model, BNN, example=x)
    assert type(made.lstm) is LSTM
    assert type(made.cell) is LSTMCell
    assert isinstance(made.lstm.ih_l0, nn.Linear)  # the first and the last layer stay real
    assert isinstance(made.lstm.hh_l0, BinaryLinear)
    assert isinstance(made.head, nn.Linear)
    assert torch.equal(made.gru.hh_l1_reverse.weight, model.gru.weight_hh_l1_reverse)
    assert torch.equal(made.cell.ih.bias, model.cell.bias_ih)
    assert made(x).shape == (2, 3)
    kept: Any = convert(model, BNN, keep=["gru", "cell", "head"])
    assert kept.gru.__class__ is nn.GRU
    assert type(kept.lstm) is LSTM
    untouched: Any = convert(model, Untouched, keep=())
    assert_reduction(untouched(x).detach(), model(x).detach().double(), 16, 1.0)


def test_convert_leaves_what_has_no_counterpart() -> None:
    class Own(nn.LSTM):
        pass

    model = nn.ModuleDict({"rnn": nn.RNN(3, 4), "own": Own(3, 4), "p": nn.LSTM(3, 4, proj_size=2)})
    model["head"] = nn.Linear(4, 3)
    reasons = {row.name: row.reason for row in plan_conversion(model, BNN, keep=()).rows}
    assert reasons["rnn"] == "RNN has no low-bit counterpart"
    assert reasons["own"] == "class Own may compute something else than its base"
    assert reasons["p"] == "proj_size=2 has no counterpart"


class Reader(nn.Module):
    """The last result of recurrent layers, whose rows are no whole number of vectors."""

    def __init__(self, cls: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.layers = cls(6, 13, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)[0]
        return y[:, -1]


@pytest.mark.parametrize(
    ("cls", "method", "kind"),
    [
        (nn.LSTM, BNN, "binary"),
        (nn.LSTM, partial(Alternating, bits=2, input_bits=2), "multibit_linear"),
        (nn.GRU, partial(Alternating, bits=2, input_bits=2), "multibit_linear"),
    ],
)
def test_layers_pack_over_a_length(cls: type[nn.LSTM] | type[nn.GRU], method: Method, kind: str) -> None:
    """The recurrent product is packed once a step; a state of 0 is no constant input. Gates are torch's real functions,
    whose last bit depends on where numbers lie in memory, which is alike in both."""
    torch.manual_seed(3)
    model, x = convert(Reader(cls), method, keep=()).eval(), torch.randn(2, 2, 6)
    packed = pack(model, x)
    assert sum(node.kind == kind for node in packed.program.nodes) == 3
    report = verify(packed, model, x)
    assert report.exact
    assert report.logits_identical
    assert_exact(packed(x), model(x).detach())


def test_dropout_is_between_layers_and_in_training_alone() -> None:
    torch.manual_seed(4)
    layers, x = LSTM(3, 4, 2, dropout=1.0), torch.randn(5, 2, 3)
    first = layers(x)[1][0][0]
    silent = LSTM(3, 4, 2)
    silent.load_state_dict(layers.state_dict())
    assert torch.equal(first, silent(x)[1][0][0])
    assert not torch.equal(layers(x)[0], silent(x)[0])
    assert torch.equal(layers.eval()(x)[0], silent(x)[0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LSTM(0, 4), ValueError, "LSTM: input_size and hidden_size must be at least 1; got 0 and 4"),
        (lambda: GRU(3, 4, 0), ValueError, "GRU: num_layers must be at least 1"),
        (lambda: LSTM(3, 4, dropout=0.5), ValueError, "dropout is between layers"),
        (lambda: LSTM(3, 4)(torch.ones(2, 5)), ValueError, r"expected an input \[length, batch, 3\] .*got \[2, 5\]"),
        (lambda: LSTM(3, 4)(torch.ones(0, 2, 3)), ValueError, "a sequence must have at least one step"),
        (lambda: GRU(3, 4)(torch.ones(2, 3, dtype=torch.int64)), TypeError, "GRU"),
        (lambda: GRU(3, 4)(torch.ones(2, 2, 3), torch.ones(1, 3, 4)), ValueError, r"must be \[1, 2, 4\]"),
        (lambda: GRUCell(3, 4)(torch.ones(2, 5)), ValueError, r"GRUCell: expected an input \[batch, 3\]"),
        (lambda: LSTM.from_torch(nn.LSTM(3, 4, proj_size=2)), ValueError, "LSTM: proj_size=2 has no counterpart"),
        (lambda: LSTM.from_torch(nn.GRU(3, 4)), ValueError, "takes the place of an nn.LSTM; got GRU"),
        (lambda: LSTM(3, 4, method=partial(Alternating, bits=9)), ValueError, "bits must be an integer from 1 to 8"),
        (
            lambda: LSTM(3, 4)(nn.utils.rnn.pack_sequence([torch.ones(2, 3)])),  # type: ignore[arg-type]
            TypeError,
            "LSTM: packed sequences are not taken",
        ),
    ],
)
def test_refusals(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_empty_batch_and_names() -> None:
    y, (h, c) = LSTM(3, 4, method=BNN)(torch.zeros(2, 0, 3))
    assert y.shape == (2, 0, 4)
    assert h.shape == c.shape == (1, 0, 4)
    assert set(bittern.nn.__all__) >= {"GRU", "GRUCell", "LSTM", "LSTMCell"}
