# SPDX-License-Identifier: Apache-2.0
"""The papers' formulas, on numbers worked by hand."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from _quant import real_weight, weight_gradients
from bittern.quant import BWN, TTQ, TWN, OneBit, ParetoQ
from bittern.quantizer import LayerShape, Quantized, RealCode, weight_terms

W = torch.tensor([[1.0, -0.5, 0.2, -0.1], [0.4, 0.0, -2.0, 0.6]])
"""mean |W| = 4.8 / 8 = 0.6; of the rows 0.45 and 0.75."""
G = torch.tensor([[1.0, -2.0, 3.0, 0.5], [0.25, 4.0, -1.0, 2.0]])
"""The gradient of the real weight."""
SHAPE = LayerShape((2, 4))


def close(found: Tensor, expected: list[list[float]]) -> bool:
    return torch.allclose(found, torch.tensor(expected), rtol=1e-6)


# -- TWN ---------------------------------------------------------------------------------------------------


def test_twn_keeps_what_lies_beyond_its_threshold() -> None:
    """D = 0.7 * 0.6 = 0.42; kept 1, 0.5, 2 and 0.6, whose mean is 4.1 / 4."""
    term = TWN(SHAPE).weight(W)
    assert term.values.tolist() == [[1, -1, 0, 0], [0, 0, -1, 1]]
    assert term.scale is not None
    assert term.scale.shape == ()
    assert term.scale.item() == pytest.approx(1.025)


def test_twn_by_filters() -> None:
    """D = 0.315 and 0.525; kept 1 and 0.5, mean 0.75; 2 and 0.6, mean 1.3."""
    term = TWN(SHAPE, scale="filter").weight(W)
    assert term.values.tolist() == [[1, -1, 0, 0], [0, 0, -1, 1]]
    assert term.scale is not None
    assert term.scale.flatten().tolist() == pytest.approx([0.75, 1.3])


def test_twn_threshold_is_strict_and_an_option() -> None:
    """Beyond 0: all but the 0. Three of one size lie beyond 0.99 of their mean."""
    assert TWN(LayerShape((1, 3)), threshold=0.0).weight(torch.tensor([[1.0, 0.0, -0.5]])).values.tolist() == [
        [1, 0, -1]
    ]
    ones = TWN(LayerShape((1, 3)), threshold=0.99).weight(torch.tensor([[1.0, 1.0, -1.0]]))
    assert ones.values.tolist() == [[1, 1, -1]]
    for bad in (1.0, -0.1, True, "0.7", float("nan")):
        with pytest.raises(ValueError, match="TWN: threshold must be a number from 0 to below 1"):
            TWN(SHAPE, threshold=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="TWN: scale must be one of 'layer', 'filter'; got 'row'"):
        TWN(SHAPE, scale="row")  # type: ignore[arg-type]


def test_twn_passes_the_gradient_on() -> None:
    for method in (TWN(SHAPE), TWN(SHAPE, scale="filter")):
        (found,) = weight_gradients(method, W, G)
        assert torch.allclose(found, G, rtol=1e-6)


# -- TTQ ---------------------------------------------------------------------------------------------------


def ttq(positive: float = 0.5) -> TTQ:
    """Wn = 2; D = 0.25 * 2 = 0.5."""
    method = TTQ(SHAPE, threshold=0.25)
    with torch.no_grad():
        method.positive.fill_(positive)
        method.negative.fill_(2.0)
    return method


def test_ttq_is_a_sum_of_two_terms() -> None:
    """-0.5 lies at the limit, so it is 0."""
    above, below = ttq().weight(W)
    assert above.values.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert below.values.tolist() == [[0, 0, 0, 0], [0, 0, -1, 0]]
    assert real_weight(ttq(), W).tolist() == [[0.5, 0, 0, 0], [0, 0, -2, 0.5]]
    assert [p.item() for p in TTQ(SHAPE).parameters()] == [1.0, 1.0]


def test_ttq_gradients() -> None:
    """dWp = 1 + 2; dWn = -(-1); dW = g, times 0.5 at the two above, times 2 at the one below."""
    to_w, to_positive, to_negative = weight_gradients(ttq(), W, G)
    assert to_positive.item() == 3.0
    assert to_negative.item() == 1.0
    assert to_w.tolist() == [[0.5, -2.0, 3.0, 0.5], [0.25, 4.0, -2.0, 1.0]]


def test_ttq_of_a_number_that_has_become_negative() -> None:
    to_w, *_ = weight_gradients(ttq(-0.5), W, G)
    assert to_w.tolist() == [[-0.5, -2.0, 3.0, 0.5], [0.25, 4.0, -2.0, -1.0]]


# -- BWN ---------------------------------------------------------------------------------------------------


def test_bwn_values_and_gradient() -> None:
    """a = 0.45 and 0.75; dW = g (1/4 + a), but 1/4 g at -2, which lies beyond 1. sign(0) = +1."""
    method = BWN(SHAPE)
    term = method.weight(W)
    assert isinstance(term, Quantized)
    assert term.values.tolist() == [[1, -1, 1, -1], [1, 1, -1, 1]]
    assert term.scale is not None
    assert term.scale.flatten().tolist() == pytest.approx([0.45, 0.75])
    (found,) = weight_gradients(method, W, G)
    assert close(found, [[0.7, -1.4, 2.1, 0.35], [0.25, 4.0, -0.25, 2.0]])


# -- OneBit ------------------------------------------------------------------------------------------------


def test_one_bit_between_two_vectors() -> None:
    method = OneBit(SHAPE)
    with torch.no_grad():
        method.gain.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        method.scale.copy_(torch.tensor([10.0, 0.5]))
    code = method.input_code()
    assert isinstance(code, RealCode)
    assert code.gain is method.gain
    assert method.input(torch.ones(1, 4)).values.tolist() == [[1, 2, 3, 4]]
    assert real_weight(method, W).tolist() == [[10, -10, 10, -10], [0.5, 0.5, -0.5, 0.5]]


def test_one_bit_gradients() -> None:
    """dW = g (1.001 - tanh(W)^2); dh = 1 + 2 + 3 - 0.5 and 0.25 + 4 + 1 + 2; dg_c = sum of x_c."""
    method = OneBit(SHAPE)
    to_w, _, to_scale = weight_gradients(method, W, G)
    assert torch.allclose(to_w, G * (1.001 - W.tanh() ** 2), rtol=1e-6)
    assert to_w[1, 1].item() == pytest.approx(4 * 1.001)
    assert to_scale.tolist() == [5.5, 7.25]
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, -1.0]])
    (to_gain,) = torch.autograd.grad(method.input(x).values.sum(), method.gain)
    assert to_gain.tolist() == [2, 3, 4, 3]


# -- ParetoQ -----------------------------------------------------------------------------------------------

UNCLIPPED = [[0, -2, 3, 0.5], [0.25, 4, 0, 2]]
"""dW where 1 and -2 alone are clipped."""


def pareto_q(levels: int, a: tuple[float, float]) -> ParetoQ:
    method = ParetoQ(SHAPE, levels=levels)
    with torch.no_grad():
        method.scale.copy_(torch.tensor(a))
        method.started.fill_(True)
    return method


def test_pareto_q_of_one_bit() -> None:
    """a = 0.5 and 1: |W| <= a but at 1 and -2; da = sums of g sign(W) over sqrt(8)."""
    method = pareto_q(2, (0.5, 1.0))
    assert real_weight(method, W).tolist() == [[0.5, -0.5, 0.5, -0.5], [1, 1, -1, 1]]
    to_w, to_scale = weight_gradients(method, W, G)
    assert to_w.tolist() == UNCLIPPED
    assert to_scale.tolist() == pytest.approx([5.5 / 8**0.5, 7.25 / 8**0.5])


def test_pareto_q_of_three_levels() -> None:
    """v = [1, -0.5, 0.2, -0.1], [0.2, 0, -1, 0.3]; 1.5 v clipped and rounded: [1, -1, 0, 0], [0, 0, -1, 0].

    w_q / a is 2/3 of that; m = 0 at v = 1 and -1. da = sum of g (w_q / a - m v) over sqrt(8).
    """
    method, third = pareto_q(3, (1.0, 2.0)), 2 / 3
    assert close(real_weight(method, W), [[third, -third, 0, 0], [0, 0, -2 * third, 0]])
    to_w, to_scale = weight_gradients(method, W, G)
    assert close(to_w, UNCLIPPED)
    first = third - 2 * (-third + 0.5) + 3 * -0.2 + 0.5 * 0.1
    second = 0.25 * -0.2 + third + 2 * -0.3
    assert to_scale.tolist() == pytest.approx([first / 8**0.5, second / 8**0.5], rel=1e-5)


def test_pareto_q_of_four_levels() -> None:
    """2 clip(v) - 1/2 = [1.48, -1.5, -0.1, -0.7] -> [1, -2, 0, -1]; plus 1/2, over 2: [3, -3, 1, -1] / 4.

    The second row: [-0.1, -0.5, -2.48, 0.1] -> [0, 0, -2, 0]: -0.5 rounds to the even 0, so that 0 becomes +1/4.
    """
    method = pareto_q(4, (1.0, 2.0))
    assert real_weight(method, W).tolist() == [[0.75, -0.75, 0.25, -0.25], [0.5, 0.5, -1.5, 0.5]]
    (term,) = weight_terms(method, W)
    assert term.values.tolist() == [[3, -3, 1, -1], [1, 1, -3, 1]]
    to_w, to_scale = weight_gradients(method, W, G)
    assert close(to_w, UNCLIPPED)
    first = 0.75 - 2 * (-0.75 + 0.5) + 3 * (0.25 - 0.2) + 0.5 * (-0.25 + 0.1)
    second = 0.25 * (0.25 - 0.2) + 4 * 0.25 + 0.75 + 2 * (0.25 - 0.3)
    assert to_scale.tolist() == pytest.approx([first / 8**0.5, second / 8**0.5], rel=1e-5)


def test_pareto_q_of_eight_levels() -> None:
    """a = 0.25 and 0.5: v = [4, -2, 0.8, -0.4], [0.8, 0, -4, 1.2] -> [3, -2, 1, 0], [1, 0, -4, 1].

    c = 3; m = 0 at v = 4 alone.
    """
    method = pareto_q(8, (0.25, 0.5))
    assert real_weight(method, W).tolist() == [[0.75, -0.5, 0.25, 0], [0.5, 0, -2, 0.5]]
    to_w, to_scale = weight_gradients(method, W, G)
    assert close(to_w, [[0, -2, 3, 0.5], [0.25, 4, -1, 2]])
    first, second = 3 + 0 + 3 * 0.2 + 0.5 * 0.4, 0.25 * 0.2 + 2 * -0.2
    assert to_scale.tolist() == pytest.approx([first / 24**0.5, second / 24**0.5], rel=1e-5)


@pytest.mark.parametrize(
    ("levels", "start"),
    [(2, [0.45, 0.75]), (3, [1, 2]), (4, [1, 2]), (8, [1 / 3, 2 / 3]), (16, [1 / 7, 2 / 7])],
)
def test_pareto_q_starts_from_the_weight_in_training(levels: int, start: list[float]) -> None:
    method = ParetoQ(SHAPE, levels=levels).eval()
    before = real_weight(method, W)
    assert method.scale.tolist() == [1, 1], "eval mode stores nothing"
    assert torch.equal(real_weight(method.train(), W), before)
    assert method.scale.tolist() == pytest.approx(start)
    real_weight(method, 2 * W)
    assert method.scale.tolist() == pytest.approx(start), "once"
    again = ParetoQ(SHAPE, levels=levels)
    again.load_state_dict(method.state_dict())
    real_weight(again, 5 * W)
    assert method.scale.tolist() == again.scale.tolist(), "what is loaded goes on"


def test_pareto_q_of_a_scale_that_has_become_negative() -> None:
    """It counts as 1e-5 and goes on learning: da = sums of g sign(W) / sqrt(8), whatever a is."""
    method = pareto_q(2, (-0.5, 1.0))
    assert real_weight(method, W)[0].tolist() == pytest.approx([1e-5, -1e-5, 1e-5, -1e-5])
    _, to_scale = weight_gradients(method, W, G)
    assert to_scale[0].item() == pytest.approx(5.5 / 8**0.5)
    with pytest.raises(ValueError, match="ParetoQ: levels must be one of 2, 3, 4, 8, 16; got 5"):
        ParetoQ(SHAPE, levels=5)


def test_options_change_something() -> None:
    assert weight_terms(partial(TTQ, threshold=0.6)(SHAPE), W)[0].values.sum() == 0
