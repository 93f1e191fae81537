# SPDX-License-Identifier: Apache-2.0
"""WAGE: numbers worked by hand, its update, and a packed network of whole numbers."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from bittern import optim
from bittern.deploy import PackError, pack, to_c, verify
from bittern.deploy.packed import from_bytes
from bittern.estimators import quantized_error
from bittern.models import vgg7
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.nn.binarize import LowBitLayer
from bittern.ops.powers_of_two import power_of_two
from bittern.optim import IntegerSGD
from bittern.quant import WAGE
from bittern.quantizer import LayerShape
from bittern.train import SumOfSquares


def test_weights_by_hand() -> None:
    method = WAGE(LayerShape((1, 27)))
    w = torch.tensor([[0.25, -0.25, 0.26, 0.74, 0.76, -2.0, -0.0, 0.5]], requires_grad=True)
    q = method.weight(w)
    assert q.values.tolist() == [[0, 0, 1, 1, 1, -1, 0, 1]]  # of halves, ties to even, clipped
    assert method.alpha == 2.0
    assert q.scale is not None
    assert float(q.scale) == 1 / 4
    (found,) = torch.autograd.grad(q.values * q.scale, w, torch.arange(8.0)[None])
    assert found.tolist() == [list(range(8))]  # clipping counts as the identity too
    wide = WAGE(LayerShape((1, 27)), weight_bits=3).weight(torch.tensor([[0.9, 0.375, -0.125]]))
    assert wide.values.tolist() == [[3, 2, 0]]


def test_scales_are_those_of_the_authors_log() -> None:
    """boluoweifenda/WAGE log/2018-01-30(vgg7 2888).txt."""
    with torch.device("meta"):
        layers = [m.method for m in vgg7(WAGE).modules() if isinstance(m, LowBitLayer)]
    assert [m.alpha for m in layers if isinstance(m, WAGE)] == [2, 16, 16, 16, 16, 32, 32, 16]


def test_start_reaches_the_grid() -> None:
    layer = BinaryLinear(300, 40, method=WAGE)
    assert 0.7 < float(layer.weight.detach().abs().max()) <= 0.75
    assert float(BinaryLinear(3, 4000, method=WAGE).weight.detach().abs().max()) == pytest.approx(1.0, abs=0.01)


def test_inputs_and_errors_by_hand() -> None:
    method = WAGE(LayerShape((1, 6))).train()
    x = torch.tensor([[0.5, 1.0, -1.0, 1.5 / 128, 2.5 / 128, float("nan")]], requires_grad=True)
    q = method.input(x)
    assert q.values.tolist() == [[64, 127, -127, 2, 2, 0]]
    assert q.scale is not None
    assert float(q.scale) == 1 / 128
    # max |e| inside is 3: Shift 4; then 3/4, -1/4 and 0.01/4 on multiples of 1/128, and 0 where x was clipped
    (found,) = torch.autograd.grad(q.values * q.scale, x, torch.tensor([[3.0, 9.0, 9.0, -1.0, 0.01, 0.0]]))
    assert found.tolist() == [[0.75, 0.0, 0.0, -0.25, 0.0, 0.0]]
    (real,) = torch.autograd.grad(method.eval().input(x).values / 128, x, torch.full((1, 6), 3.0))
    assert real.tolist() == [[3.0, 0.0, 0.0, 3.0, 3.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_powers_of_two(dtype: torch.dtype) -> None:
    x = torch.tensor([1.0, 1.41, 1.42, 3.0, 0.75, 0.7, 2.0**-100, 0.0, float("inf")], dtype=dtype)
    assert power_of_two(x).tolist() == [1.0, 1.0, 2.0, 4.0, 1.0, 0.5, 2.0**-100, 1.0, float("inf")]
    drawn = torch.rand(1000, dtype=torch.float64) + 1e-3
    assert power_of_two(drawn).tolist() == [2.0 ** round(math.log2(v)) for v in drawn.tolist()]


def test_errors_of_zeros_and_without_end() -> None:
    for given, expected in ((torch.zeros(3), [0.0, 0.0, 0.0]), (torch.tensor([1.0, 1.4, -1.4]), [1.0 - 2**-7] * 2)):
        y = torch.zeros(3, requires_grad=True)
        (found,) = torch.autograd.grad(quantized_error(y, 8), y, given)
        assert found.tolist()[: len(expected)] == expected
    y = torch.zeros(2, requires_grad=True)
    (found,) = torch.autograd.grad(quantized_error(y, 8), y, torch.tensor([float("nan"), 1.0]))
    assert found.isnan().any()
    assert quantized_error(torch.zeros(0, 3, requires_grad=True), 8).shape == (0, 3)


def test_loss_by_hand() -> None:
    z = torch.tensor([[0.5, 0.25], [0.0, 1.0]], requires_grad=True)
    for bits, expected in ((None, [[-0.25, 0.125], [0.0, 0.0]]), (8, [[-1 + 2**-7, 0.5], [0.0, 0.0]])):
        loss = SumOfSquares(bits)(z, torch.tensor([0, 1]))
        assert loss.item() == (0.25 + 0.0625) / 2 / 2
        (found,) = torch.autograd.grad(loss, z)
        assert found.tolist() == expected
    with pytest.raises(ValueError, match="error_bits must be None or from 2 to 15; got 1"):
        SumOfSquares(1)


def test_update_by_hand() -> None:
    w = nn.Parameter(torch.tensor([[0.5 + 2**-9, 0.99, -0.99, 0.0]]))
    optimizer = IntegerSGD([w], lr=4.0, seed=0)
    assert w.tolist() == [[0.5, 127 / 128, -127 / 128, 0.0]]
    w.grad = torch.tensor([[2.0, -2.0, 1.0, 0.0]])  # Shift is 2: n = 4, -4, 2, 0, all whole
    optimizer.step()
    assert w.tolist() == [[60 / 128, 127 / 128, -127 / 128, 0.0]]
    w.grad.zero_()
    optimizer.step()
    assert w.tolist() == [[60 / 128, 127 / 128, -127 / 128, 0.0]]
    released = nn.Parameter(torch.tensor([[0.9, 0.49]]))
    IntegerSGD([released], limit=0.5)
    assert released.tolist() == [[0.5, 63 / 128]]


def test_steps_have_the_mean_of_the_gradient_and_resume() -> None:
    """n = lr g / Shift(max |g|) = 0.3 and -1.3 of a step, whatever the size of g."""
    g = torch.cat([torch.full((1, 4000), 0.3), torch.full((1, 4000), -1.3)]) * 1e-6
    w = nn.Parameter(torch.zeros(2, 4000))
    optimizer = IntegerSGD([w], lr=float(power_of_two(torch.tensor(1.3e-6))) * 1e6, seed=3)
    w.grad = g
    optimizer.step()
    steps = -w.detach() * 128
    assert set(steps[0].tolist()) == {0.0, 1.0}
    assert set(steps[1].tolist()) == {-1.0, -2.0}
    for row, mean, share in ((steps[0], 0.3, 0.3), (steps[1], -1.3, 0.3)):
        assert abs(float(row.mean()) - mean) <= 5 * math.sqrt(share * (1 - share) / 4000)
    other = nn.Parameter(w.detach().clone())
    again = IntegerSGD([other], lr=1.0, seed=99)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    other.grad = g.clone()
    for one in (optimizer, again):
        one.step()
    assert torch.equal(w, other)
    assert not torch.equal(w.detach() * -128 - steps, steps)  # each step draws anew


def test_update_refuses() -> None:
    w = nn.Parameter(torch.zeros(2, 2))
    for options, said in (
        ({"lr": -1.0}, "lr must be"),
        ({"gradient_bits": 1}, "gradient_bits must be an integer from 2 to 15; got 1"),
        ({"limit": 0.3}, "limit must be None or a multiple"),
        ({"weight_decay": 0.1}, "weight_decay must be 0"),
        ({"seed": -1}, "seed must be"),
    ):
        with pytest.raises(ValueError, match=said):
            IntegerSGD([w], **options)
    with pytest.raises(ValueError, match="give biases and norms to another optimizer"):
        IntegerSGD(nn.Linear(2, 2).parameters())
    optimizer = IntegerSGD([w])
    w.grad = torch.tensor([[0.0, float("nan")], [0.0, 0.0]])
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        optimizer.step()
    assert not w.detach().any()


def test_options_are_checked() -> None:
    for options in ({"weight_bits": 1}, {"input_bits": 9}, {"error_bits": 16}):
        with pytest.raises(ValueError, match=f"WAGE: {next(iter(options))} must be one of"):
            WAGE(LayerShape((2, 3)), **options)


def test_it_trains_on_whole_numbers_alone() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 20).clamp(-1, 1)
    labels = torch.arange(64) % 4
    model = nn.Sequential(BinaryLinear(20, 32, method=WAGE), nn.ReLU(), BinaryLinear(32, 4, method=WAGE))
    optimizer, loss = IntegerSGD(model.parameters(), lr=4.0, seed=1), SumOfSquares(8)
    first = last = 0.0
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(model(x), labels)
        value.backward()
        optimizer.step()
        first, last = first or value.item(), value.item()
        on_grid = [p.detach() * 128 for p in model.parameters()]
        assert all(torch.equal(p, p.round()) and float(p.abs().max()) <= 127 for p in on_grid)
    assert last < 0.6 * first


def test_it_packs_every_whole_number(tmp_path: Path) -> None:
    """Padding, groups, stride, ties, a clipped image, NaN, and a pool in front of the next layer."""
    torch.manual_seed(1)
    model = nn.Sequential(
        BinaryConv2d(3, 10, 3, padding=1, stride=2, bias=True, method=WAGE),
        nn.MaxPool2d(2),
        nn.ReLU(),
        BinaryConv2d(10, 5, (1, 3), groups=5, padding=(0, 2), method=partial(WAGE, weight_bits=4, input_bits=3)),
        nn.Flatten(),
        BinaryLinear(5 * 2 * 5, 3, method=WAGE),
    ).eval()
    x = torch.randn(2, 3, 9, 11)
    x[0, :, 2] = torch.arange(-5, 6) / 256  # ties
    x[0, 0, 3, 3], x[1, 0, 0, 0] = float("nan"), -0.0
    packed = pack(model, x)
    assert verify(packed, model, x).exact
    assert torch.equal(from_bytes(packed.to_bytes())(x), model(x).detach())
    to_c(packed, tmp_path / "net.c")
    wide = nn.Sequential(BinaryLinear(2000, 3, method=partial(WAGE, weight_bits=8)))
    with pytest.raises(PackError, match=r"layer '0' reaches accumulators of 32258000, beyond 2\^24"):
        pack(wide, torch.randn(1, 2000))


def test_beside_another_optimizer() -> None:
    model = nn.Sequential(BinaryLinear(4, 3, bias=True, method=WAGE))
    cases = optim.Cases(optim.Case(IntegerSGD, lambda name, module, p: p.ndim > 1, lr=8.0), optim.Case(torch.optim.SGD))
    optimizer = cases(model=model, lr=0.1)
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    weight = model[0].weight.detach() * 128
    assert torch.equal(weight, weight.round())
