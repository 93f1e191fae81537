# SPDX-License-Identifier: Apache-2.0
"""AdaRound, BRECQ and QDrop: formulas by hand, less error than rounding to the nearest, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from _tolerance import assert_exact
from bittern.ptq.adaround import adaround
from bittern.ptq.reconstruct import Point, Schedule, fake_quantized, reconstruct
from bittern.ptq.soft_rounding import SoftRounding, Weight, first_logits, sharpness, soft_part
from bittern.ptq.steps import channel_steps, dequantize, input_limits, quantize

SHORT = Schedule(iterations=200, rate=0.1, strength=2.0)


def _correlated(n: int, features: int, random: torch.Generator) -> Tensor:
    mixing = torch.randn(features // 4, features, generator=random)
    return torch.randn(n, features // 4, generator=random) @ mixing + 0.1 * torch.randn(n, features, generator=random)


def _linear(w: Tensor, x: Tensor) -> Tensor:
    return F.linear(x, w)


def test_formulas_by_hand() -> None:
    assert soft_part(torch.tensor([0.0, 9.0, -9.0])).tolist() == [0.5, 1.0, 0.0]
    assert float(soft_part(torch.tensor(math.log(3.0)))) == pytest.approx(0.75 * 1.2 - 0.1)
    fractions = torch.tensor([0.0, 0.25, 0.5, 0.999])
    assert torch.allclose(soft_part(first_logits(fractions)), fractions, atol=1e-6)
    assert [sharpness(t) for t in (0.0, 0.5, 1.0)] == [20.0, 11.0, 2.0]
    assert sharpness(0.25, "cosine") == pytest.approx(2 + 18 * 0.5 * (1 + math.sqrt(0.5)))
    rounding = SoftRounding(Weight(torch.tensor([[0.5, -1.5, 9.0, -0.75]]), torch.tensor([0.5]), 3))
    # in steps 1, -3, 18, -1.5: the last lies half way, the third beyond the limits of -3 ... 3
    assert torch.allclose(rounding.soft(), torch.tensor([[0.5, -1.5, 1.5, -0.75]]), atol=1e-6)
    assert_exact(rounding.codes(), torch.tensor([[1, -3, 3, -1]], dtype=torch.int8))
    assert float(rounding.penalty(2.0).detach()) == pytest.approx(1.0, abs=1e-4)  # three decided, and one half way


def test_gradients_of_a_point() -> None:
    x = torch.tensor([0.3, 0.9, -5.0, 7.0], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    y = fake_quantized(x, scale, 1, input_limits(3))  # integers -4 ... 3, so that numbers are -5 ... 2 steps
    assert y.tolist() == [0.5, 1.0, -2.5, 1.0]
    y.sum().backward()
    assert x.grad is not None
    assert scale.grad is not None
    assert x.grad.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert float(scale.grad) == pytest.approx((1 - 0.6) + (2 - 1.8) - 5 + 2)
    assert torch.equal(y.float(), dequantize(quantize(x.detach(), 0.5, 1, input_limits(3)), 0.5, 1))


@pytest.mark.parametrize("bits", [4, 3])
def test_adaround_beats_the_nearest(bits: int) -> None:
    random = torch.Generator().manual_seed(0)
    x, w = _correlated(192, 32, random), torch.randn(16, 32, generator=random)
    weight = Weight(w, channel_steps(w, bits=bits), bits)
    found = adaround(_linear, weight, x[:128], F.linear(x[:128], w), schedule=SHORT, seed=3)
    codes = found.codes["weight"]
    nearest = quantize(w, weight.along(), 0, input_limits(bits))
    assert int((codes - nearest).abs().max()) == 1
    unseen = x[128:]
    wanted, rounded, plain = (F.linear(unseen, v) for v in (w, dequantize(codes, weight.along(), 0), weight.nearest()))
    assert float((rounded - wanted).square().mean()) < 0.5 * float((plain - wanted).square().mean())
    error = (F.linear(x[:128], dequantize(codes, weight.along(), 0)) - F.linear(x[:128], w)).square().mean()
    assert found.error == pytest.approx(float(error), rel=1e-4)
    assert found.error < 0.4 * found.nearest_error
    again = adaround(_linear, weight, x[:128], F.linear(x[:128], w), schedule=SHORT, seed=3)
    assert_exact(again.codes["weight"], codes)


def _block(weights: Mapping[str, Tensor], at: Callable[[str, Tensor], Tensor], *inputs: Tensor) -> Tensor:
    (x,) = inputs
    x = at("in", x)
    return (F.linear(at("mid", F.linear(x, weights["first"]).relu()), weights["second"]) + x).relu()


def _case() -> tuple[dict[str, Weight], dict[str, Point], Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    x = _correlated(128, 16, random)
    first, second = torch.randn(24, 16, generator=random), 0.2 * torch.randn(16, 24, generator=random)
    weights = {
        "first": Weight(first, channel_steps(first, bits=4), 4),
        "second": Weight(second, channel_steps(second, bits=4), 4),
    }
    points = {"in": Point(1.2, 0, 4), "mid": Point(4.0, -8, 4)}
    return weights, points, x, _block({"first": first, "second": second}, lambda name, v: v, x)


@pytest.mark.parametrize(("drop", "fisher"), [(0.0, True), (0.5, False)], ids=["brecq", "qdrop"])
def test_a_block_learns_weights_and_steps(drop: float, fisher: bool) -> None:
    weights, points, x, targets = _case()
    told: list[tuple[int, int]] = []
    found = reconstruct(
        _block,
        weights,
        [x + 0.01],
        targets,
        points=points,
        float_inputs=[x] if drop else None,
        drop=drop,
        gradients=torch.rand(targets.shape, generator=torch.Generator().manual_seed(2)) if fisher else None,
        schedule=Schedule(iterations=120, rate=0.1, step_rate=0.02, strength=1.0),
        progress=lambda done, of, loss: told.append((done, of)),
    )
    assert told == [(i + 1, 120) for i in range(120)]
    assert found.error < 0.8 * found.nearest_error
    assert all(found.scales[name] != point.scale and found.scales[name] > 0 for name, point in points.items())
    assert all(codes.dtype == torch.int8 and int(codes.abs().max()) <= 7 for codes in found.codes.values())
    learned = {name: dequantize(found.codes[name], weights[name].along(), 0) for name in weights}

    def at(name: str, v: Tensor) -> Tensor:
        scale, zero = found.scales[name], points[name].zero
        return dequantize(quantize(v, scale, zero, input_limits(4)), scale, zero)

    assert found.error == pytest.approx(float((_block(learned, at, x + 0.01) - targets).square().mean()), rel=0.02)


def test_gradients_say_which_outputs_matter() -> None:
    """A weight of 0 on one output: its row is rounded by the penalty alone, the other rows as without."""
    random = torch.Generator().manual_seed(4)
    x, w = _correlated(64, 16, random), torch.randn(2, 16, generator=random)
    weight = {"w": Weight(w, channel_steps(w, bits=3), 3)}
    gradients = torch.tensor([1.0, 0.0]).expand(64, 2)

    def block(weights: Mapping[str, Tensor], at: Callable[[str, Tensor], Tensor], *inputs: Tensor) -> Tensor:
        return F.linear(inputs[0], weights["w"])

    found = reconstruct(block, weight, [x], F.linear(x, w), gradients=gradients, schedule=SHORT)
    nearest = quantize(w, weight["w"].along(), 0, input_limits(3))
    assert torch.equal(found.codes["w"][1], nearest[1])
    assert not torch.equal(found.codes["w"][0], nearest[0])


def test_edges() -> None:
    one = Weight(torch.zeros(1, 2), torch.ones(1), 2)
    found = adaround(_linear, one, torch.zeros(1, 2), torch.zeros(1, 1), schedule=Schedule(iterations=1, batch=1))
    assert_exact(found.codes["weight"], torch.zeros(1, 2, dtype=torch.int8))
    assert (found.error, found.nearest_error) == (0.0, 0.0)
    with torch.no_grad():
        adaround(_linear, one, torch.ones(3, 2), torch.ones(3, 1), schedule=Schedule(iterations=2))


def test_steps_alone_can_be_learned() -> None:
    weights, points, x, targets = _case()

    def block(w: Mapping[str, Tensor], at: Callable[[str, Tensor], Tensor], *inputs: Tensor) -> Tensor:
        assert not w
        return _block({name: weight.values for name, weight in weights.items()}, at, *inputs)

    found = reconstruct(block, {}, [x], targets, points=points, schedule=Schedule(iterations=40, step_rate=0.02))
    assert found.codes == {}
    assert found.error < found.nearest_error
    with pytest.raises(ValueError, match="no step is learned"):
        reconstruct(block, {}, [x], targets, points=points, drop=1.0)
    with pytest.raises(FloatingPointError, match="the loss is nan in iteration 0"):
        reconstruct(block, {}, [x], targets + 1e30, points=points)


def test_refusals() -> None:
    weights, points, x, targets = _case()
    good = {"points": points, "schedule": Schedule(iterations=1)}
    one, bad_x = weights["first"], x.clone()
    bad_x[0, 0] = math.nan
    for change, match in (
        ({"inputs": [bad_x]}, "inputs must be finite; 1 of"),
        ({"inputs": [x[:5]]}, "inputs must have 128 samples"),
        ({"inputs": []}, "not empty"),
        ({"targets": targets[:0], "inputs": [x[:0]]}, "not empty"),
        ({"targets": targets[:, :3]}, "outputs in the shape of targets"),
        ({"gradients": targets[:, :3]}, "shape of targets"),
        ({"drop": 1.5, "float_inputs": [x]}, "drop must lie"),
        ({"float_inputs": [x]}, "probability drop, which is 0"),
        ({"drop": 0.5, "float_inputs": [x[:, :3]]}, "shapes of inputs"),
        ({"points": {}, "weights": {}}, "got neither"),
        ({"points": {"in": points["in"]}}, "asks for point 'mid'"),
        ({"points": {**points, "mid": Point(0.0)}}, "positive, finite scale"),
        ({"weights": {**weights, "first": one._replace(steps=torch.ones(3))}}, "24 channels; got"),
        ({"weights": {**weights, "first": one._replace(steps=torch.zeros(24))}}, "positive and finite"),
        ({"weights": {**weights, "first": one._replace(values=torch.full((24, 16), math.inf))}}, "'first': values"),
    ):
        arguments = {"weights": weights, "inputs": [x], "targets": targets, **good, **change}
        first = (arguments.pop("weights"), arguments.pop("inputs"), arguments.pop("targets"))
        with pytest.raises(ValueError, match=match):
            reconstruct(_block, *first, **arguments)
    with pytest.raises(ValueError, match="nothing to drop"):
        reconstruct(lambda w, at, v: v, weights, [x], x, drop=0.5)
    for options in ({"iterations": 0}, {"rate": 0.0}, {"strength": -1.0}, {"warm_up": 1.0}):
        with pytest.raises(ValueError, match="Schedule"):
            Schedule(**options)
