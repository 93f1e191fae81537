# SPDX-License-Identifier: Apache-2.0
"""Mixed precision: float32 where it decides, a scaled loss by hand, skipped steps, and resuming."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import bittern
from bittern import binary, quant
from bittern.binary.attention import BiAttention, ElasticAttention
from bittern.data import ImageData
from bittern.data.augment import normalize
from bittern.data.batches import Batches
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.nn.recurrent import LSTM
from bittern.optim import BayesBiNN
from bittern.train import (
    CrossEntropy,
    Distillation,
    DivergedError,
    Recipe,
    Stage,
    SumOfSquares,
    evaluate,
    train,
    train_stages,
)
from bittern.train.checkpoint import FILE_NAME
from bittern.train.precision import Mixed

HALVES = (torch.bfloat16, torch.float16)
METHODS = (
    *(binary.BNN, binary.XNORNet, binary.ReActNet, binary.DoReFa, binary.HORQ, binary.RBNN, binary.IRNet),
    *(quant.LSQ, quant.PACT, quant.TWN, quant.BWN, quant.IntegerOnly, quant.UI8, quant.WAGE, quant.MSFP),
)


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{"epochs": 2, "batch_size": 32, "learning_rate": 0.01, "precision": "16-mixed"} | changes)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        BinaryConv2d(8, 8, 3, method=binary.ReActNet),
        nn.BatchNorm2d(8),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def state(model: nn.Module) -> Tensor:
    return torch.cat([value.double().flatten() for value in model.state_dict().values()])


def same(a: Any, b: Any) -> bool:
    return bool(torch.equal(state(a), state(b)))


def with_autocast(module: nn.Module, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """Answer and gradients of a copy of `module`."""
    module = copy.deepcopy(module)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        y = module(x)
    y = y[0] if isinstance(y, tuple) else y
    y.backward(torch.linspace(-1.0, 1.0, y.numel()).view(y.shape).to(y.dtype))
    return y.detach(), [p.grad for p in module.parameters() if p.grad is not None]


def assert_untouched(module: nn.Module, x: Tensor, dtype: torch.dtype) -> None:
    """Under autocast a layer gives what it gives for the same numbers in float32, gradients too."""
    y, gradients = with_autocast(module, x.to(dtype), dtype)
    wanted, wanted_gradients = with_autocast(module, x.to(dtype).float(), torch.float32)
    assert y.dtype == torch.float32
    assert torch.equal(y, wanted)
    assert gradients
    assert all(torch.equal(a, b) for a, b in zip(gradients, wanted_gradients, strict=True))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("method", METHODS)
def test_autocast_changes_no_low_bit_layer(method: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    # 300 and 35 * 9 terms: sums beyond 2^8, where bfloat16 rounds
    assert_untouched(BinaryLinear(300, 70, True, method=method), torch.rand(7, 300) * 1.5 - 0.5, dtype)
    conv = BinaryConv2d(35, 6, 3, padding=1, method=method)
    assert_untouched(conv, torch.rand(2, 35, 5, 5) * 1.5 - 0.5, dtype)


@pytest.mark.parametrize("dtype", HALVES)
def test_autocast_changes_no_recurrent_layer_of_few_bits(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    assert_untouched(LSTM(300, 20, method=binary.XNORNet), torch.randn(4, 2, 300), dtype)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("method", [BiAttention, ElasticAttention])
def test_autocast_changes_no_attention_of_bits(method: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    attention = method(600, 2).eval()
    q, k, v = (torch.randn(2, 9, 600).to(dtype) for _ in range(3))
    wanted = attention(q.float(), k.float(), v.float())
    with torch.autocast("cpu", dtype):
        got = attention(q, k, v)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("dtype", HALVES)
def test_autocast_changes_no_network_of_integers(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    net = bittern.quantize(model, [torch.randn(4, 3, 8, 8) for _ in range(2)])
    x = torch.randn(3, 3, 8, 8)
    wanted = net.train()(x)
    with torch.autocast("cpu", dtype):
        got = net(x)
    assert got.dtype == torch.float32
    assert torch.equal(got, wanted)


def test_float16_equals_a_loop_written_out(few: ImageData) -> None:
    """torch's own scaler, with clipping of unscaled gradients."""
    model, by_hand = network(), network()
    train(model, few, recipe(optimizer=torch.optim.SGD, clip_norm=0.5, clip_latent=False), progress=False)
    stepper = torch.optim.SGD(by_hand.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu")
    batches = Batches(few.train_images, few.train_labels, 32, seed=0)
    wanted = recipe()
    for step in range(6):
        bittern.quantizer.set_progress(by_hand, step / 5)
        stepper.param_groups[0]["lr"] = 0.01 * wanted.schedule(step, 6)
        batch = batches.at(step)
        stepper.zero_grad()
        with torch.autocast("cpu", torch.float16):
            logits = by_hand(normalize(batch.images, few.mean, few.std))
        scaler.scale(CrossEntropy()(logits.float(), batch.labels)).backward()
        scaler.unscale_(stepper)
        nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
        scaler.step(stepper)
        scaler.update()
    assert same(model, by_hand)


class Huge(torch.autograd.Function):
    """The identity, whose gradient is too large for float16 at the steps that `at` names."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, huge: bool) -> Tensor:
        ctx.huge = huge
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        return (g * float("inf") if ctx.huge else g), None


class Overflowing(nn.Module):
    """A network whose gradients overflow in the passes `at`, counted in its state."""

    passes: Tensor

    def __init__(self, *at: int) -> None:
        super().__init__()
        self.inner, self.at = network(), at
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
        y: Tensor = Huge.apply(self.inner(x), self.training and int(self.passes) in self.at)  # type: ignore
        return y


def test_a_step_that_overflows_moves_nothing_and_is_counted(few: ImageData, tmp_path: Path) -> None:
    model = Overflowing(2, 5)
    seen: list[list[Tensor]] = [[p.detach().clone() for p in model.parameters()]]

    def look(step: int, loss: float) -> None:
        seen.append([p.detach().clone() for p in model.parameters()])

    history = train(model, few, recipe(), folder=tmp_path, progress=False, on_step=look, watch_weights=True)
    moved = [any(not torch.equal(a, b) for a, b in zip(p, q, strict=True)) for p, q in itertools.pairwise(seen)]
    assert moved == [True, False, True, True, False, True]
    assert [row.skipped for row in history.epochs] == [1, 1]
    # rates are those of the batches, whatever was skipped
    assert [row.learning_rate for row in history.epochs] == [0.01 * recipe().schedule(s, 6) for s in (2, 5)]
    header, first, _ = (tmp_path / "log.csv").read_text().splitlines()
    assert dict(zip(header.split(","), first.split(","), strict=True))["skipped_steps"] == "1.0"


def test_nothing_is_counted_where_the_loss_is_not_scaled(few: ImageData) -> None:
    assert train(network(), few, recipe(precision="bf16-mixed"), progress=False).final.skipped is None


def test_gradients_that_are_never_finite(few: ImageData) -> None:
    model = Overflowing(*range(1000))
    with pytest.raises(DivergedError, match=r'not finite at step 41, however.*"bf16-mixed"'):
        train(model, few, recipe(epochs=20), progress=False)


@pytest.mark.parametrize("method", [binary.ReActNet, quant.LSQ])
@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_resumed_run_equals_an_unbroken_one(
    few: ImageData, tmp_path: Path, stop: int, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.amp.GradScaler, "__init__", partial_init(growth_interval=2))

    def build() -> nn.Module:
        model = Overflowing(2, 3)
        model.inner[2] = BinaryConv2d(8, 8, 3, method=method)
        return model

    torch.manual_seed(5)
    start = build()
    whole, halted, resumed = copy.deepcopy(start), copy.deepcopy(start), copy.deepcopy(start)
    history = train(whole, few, recipe(), folder=tmp_path / "a", progress=False)

    class Stop(Exception):
        pass

    def halt(step: int, loss: float) -> None:
        if step == stop:
            raise Stop

    with pytest.raises(Stop):
        train(halted, few, recipe(), folder=tmp_path / "b", checkpoint_steps=1, progress=False, on_step=halt)
    again = train(resumed, few, recipe(), folder=tmp_path / "b", resume=True, progress=False)
    assert same(whole, resumed)
    assert [row._replace(seconds=0.0) for row in again.epochs] == [row._replace(seconds=0.0) for row in history.epochs]
    assert sum(row.skipped or 0 for row in again.epochs) == 2
    scales = [_scale(tmp_path / name / FILE_NAME) for name in "ab"]
    assert scales[0] == scales[1]
    assert scales[0]["scale"] == 2.0**16 / 4 * 2  # two skipped, and two good ones in a row behind them


def partial_init(**options: Any) -> Callable[..., None]:
    old = torch.amp.GradScaler.__init__
    return lambda self, *args, **named: old(self, *args, **named, **options)


def _scale(path: Path) -> dict[str, float]:
    with safe_open(path, framework="pt") as file:
        found: dict[str, float] = json.loads(file.metadata()["bittern_checkpoint"])["loss_scale"]
    return found


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_tests_and_packed_answers_are_float32(few: ImageData, precision: str) -> None:
    model = network()
    history = train(model, few, recipe(precision=precision), progress=False)
    tested = evaluate(model, few)
    assert (tested.loss, tested.score) == (history.final.test_loss, history.final.test_score)
    x = normalize(few.test_images, few.mean, few.std)
    packed = bittern.pack(model, x[:2])
    with torch.no_grad():
        assert torch.equal(packed(x), model(x))


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_teachers_and_stages(few: ImageData, precision: str) -> None:
    stages = [
        Stage(name="real", recipe=recipe(precision=precision), operands="real_weights"),
        Stage(
            name="bits",
            recipe=recipe(precision=precision, distillation=Distillation(weight=0.5)),
            start="real",
            teacher="real",
        ),
    ]
    found = train_stages(network(), few, stages, progress=False)
    assert all(row.skipped == (0 if precision == "16-mixed" else None) for row in found[-1].epochs)


def test_several_inputs_and_results() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, a: Tensor, b: Tensor) -> dict[str, Any]:
            return {"sum": self.layer(a + b), "count": torch.tensor(2)}

    got = Mixed(Two(), torch.device("cpu"), torch.float16)(torch.randn(2, 4), torch.randn(2, 4))
    assert (got["sum"].dtype, got["count"].dtype) == (torch.float32, torch.int64)


def of(method: Any) -> nn.Module:
    return nn.Sequential(nn.Flatten(), BinaryLinear(64, 10, method=method))


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (of(quant.WAGE), {}, "gradients of WAGE in '1.method' are not proportional"),
        (of(quant.UI8), {}, "gradients of UI8"),
        (of(binary.BNN), {"loss": SumOfSquares(error_bits=8)}, "SumOfSquares"),
        (of(binary.BNN).half(), {}, "'1.weight' in float16; call model.float"),
        (of(binary.BNN), {"optimizer": partial(BayesBiNN, train_set_size=96)}, "BayesBiNN"),
    ],
)
def test_refused_by_name(few: ImageData, model: nn.Module, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(model, few, recipe(**changes), progress=False)


def test_wage_with_real_errors_is_taken(few: ImageData) -> None:
    train(of(partial(quant.WAGE, error_bits=32)), few, recipe(), progress=False)
