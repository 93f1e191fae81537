# SPDX-License-Identifier: Apache-2.0
"""GFPQ's logarithmic numbers and boxes that share an exponent: numbers worked by hand, errors, packing, tables."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bittern.deploy import PackError, pack, to_c, verify
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.quant import (
    BRAINWAVE,
    GFPQ,
    MSFP,
    MSFP12,
    MSFP16,
    MXINT8,
    block_float,
    gfpq,
    gfpq_table,
    write_gfpq_table,
)
from bittern.quantizer import LayerShape, Method


def decibels(x: Tensor, q: Tensor) -> float:
    return 10 * math.log10(float(x.double().square().sum() / (x - q).double().square().sum()))


def test_logarithmic_numbers_by_hand() -> None:
    """A clip of 1 has z = -127: levels 2^(-127/16) ... 1, and half of the least as the threshold of 0."""
    least = 2 ** (-127 / 16)
    x = torch.tensor([1.0, 5.0, 2 ** (-5 / 16), -(2 ** (-5.4 / 16)), -3.0, 0.0, -0.0, least, -least, 0.51 * least])
    more = torch.tensor([0.49 * least, -0.51 * least, -0.53 * least, float("nan"), 2 ** (-5.6 / 16)])
    found = gfpq(torch.cat([x, more]).double(), torch.tensor(1.0)).tolist()
    second = 2 ** (-126 / 16)
    expected = [1.0, 1.0, 2 ** (-5 / 16), -(2 ** (-5 / 16)), -1.0, 0.0, 0.0, least, -second, least]
    assert found[:10] == pytest.approx(expected, rel=1e-7)
    assert found[10:13] == pytest.approx([0.0, 0.0, -second], rel=1e-12)  # -0.53 lies beyond half of the second level
    assert math.isnan(found[13])
    assert found[14] == pytest.approx(2 ** (-6 / 16))


def test_exact_threshold_and_both_rules() -> None:
    clip = torch.tensor(2 ** (0.6 / 16), dtype=torch.float64)  # 16 log2 of it is 0.6
    top = torch.tensor([10.0], dtype=torch.float64)
    assert gfpq(top, clip, "round").item() == pytest.approx(2 ** (1 / 16))
    assert gfpq(top, clip, "floor").item() == 1.0
    at = torch.tensor([2.0 ** (-127 / 16 - 1)], dtype=torch.float64)
    assert gfpq(at, torch.tensor(1.0), "round").item() == pytest.approx(2 ** (-127 / 16))  # MQBench leaves it
    every = gfpq(torch.linspace(-1.2, 1.2, 100_001).double(), torch.tensor(1.0)).unique()
    assert len(every) == 256
    assert not gfpq(torch.zeros(3), torch.zeros(())).any()


def test_error_of_logarithmic_numbers() -> None:
    torch.manual_seed(0)
    x = torch.randn(200_000)
    assert decibels(x, gfpq(x, x.abs().max())) == pytest.approx(38.0, abs=0.2)


def test_boxes_by_hand() -> None:
    """m = 3: the largest of a box has E, a step is 2^(E - 2), and 7 steps are the most."""
    x = torch.tensor([[4.0, 0.4, 0.5, -1.5, 7.9, 7.4, 0.0, 0.0, -0.3, 2.0**-20]])
    found = block_float(x, 3, 4, 1)
    assert found.tolist() == [[4.0, 0.0, 0.0, -2.0, 7.0, 7.0, 0.0, 0.0, -0.3125, 0.0]]
    assert torch.equal(block_float(x.t(), 3, 4, 0).t(), found)
    assert torch.equal(block_float(x, 3, 100, 1), torch.tensor([[4, 0, 0, -2.0, 7, 7, 0, 0, 0, 0]]))
    assert block_float(torch.zeros(0, 3), 3, 16, 1).shape == (0, 3)
    assert block_float(torch.tensor([[float("inf"), 1.0]]), 3, 2, 1).isnan().all()


def test_exponents_have_an_end() -> None:
    x = torch.tensor([[2.0**20, 1.0, 2.0**-20, 0.0]])
    small = partial(block_float, x, 3, 2, 1, exponent_bits=5)
    assert small(overflow="saturate").tolist() == [[7 * 2.0**13, 0.0, 0.0, 0.0]]
    assert small(overflow="nan").isnan().tolist() == [[True, True, False, False]]


@pytest.mark.parametrize(("bits", "box", "expected"), [(2, 16, 12.5), (3, 16, 18.6), (7, 16, 42.8), (3, 128, 16.7)])
def test_errors_of_boxes(bits: int, box: int, expected: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(2000, 128)
    assert decibels(x, block_float(x, bits, box, 1)) == pytest.approx(expected, abs=0.1)


def test_presets() -> None:
    shape = LayerShape((2, 40))
    made = [method(shape) for method in (MSFP12, MSFP16, BRAINWAVE, MXINT8)]
    assert [(m.input_bits, m.box) for m in made if isinstance(m, MSFP)] == [(4, 16), (8, 16), (4, 128), (8, 32)]


@pytest.mark.parametrize("method", [GFPQ, MSFP12])
def test_gradients_pass(method: Method) -> None:
    m = method(LayerShape((2, 5))).train()
    w, x = torch.randn(2, 5, requires_grad=True), torch.randn(3, 5, requires_grad=True)
    for given, found in ((w, m.weight(w)), (x, m.input(x))):
        g = torch.randn_like(given)
        (back,) = torch.autograd.grad(found.values, given, g)  # type: ignore[union-attr]
        assert torch.equal(back, g)


def test_boxes_of_inputs_lie_inside_a_group_and_along_channels() -> None:
    m = MSFP(LayerShape((4, 3, 1, 1), 2), mantissa_bits=2, box=2)
    x = torch.tensor([8.0, 1.0, 1.0, 8.0, 1.0, 1.0]).view(1, 6, 1, 1).expand(1, 6, 2, 1).clone()
    x[0, :, 1] = 1.0
    q = m.input(x)
    assert q.values[0, :, 0, 0].tolist() == [8.0, 0.0, 1.0, 8.0, 0.0, 1.0]  # type: ignore[union-attr]
    assert q.values[0, :, 1, 0].tolist() == [1.0] * 6  # type: ignore[union-attr]


def test_clips_of_inputs_are_a_running_mean() -> None:
    m = GFPQ(LayerShape((2, 3)), decay=0.75).train()
    for size, expected in ((4.0, 4.0), (8.0, 5.0)):
        m.input(torch.full((2, 3), size))
        assert m.clip.item() == expected
    m.eval().input(torch.full((2, 3), 100.0))
    assert m.clip.item() == 5.0


@pytest.mark.parametrize("method", [GFPQ, MSFP12])
def test_with_real_inputs_it_packs_and_else_says_why_not(method: Method, tmp_path: Path) -> None:
    torch.manual_seed(0)
    real = partial(method, inputs=False)
    model = nn.Sequential(
        BinaryConv2d(20, 6, 3, padding=1, stride=2, bias=True, method=real),
        nn.ReLU(),
        nn.Flatten(),
        BinaryLinear(6 * 4 * 3, 5, method=real),
    ).eval()
    x = torch.randn(2, 20, 7, 6)
    packed = pack(model, x)
    assert verify(packed, model, x).exact
    to_c(packed, tmp_path / "net.c")
    rounded = nn.Sequential(BinaryLinear(4, 3, method=method)).eval()
    with pytest.raises(PackError, match=r"layer '0' rounds its inputs to .*, which no packed program does; train it"):
        pack(rounded, torch.randn(1, 4))


def test_table_of_clips(tmp_path: Path) -> None:
    model = nn.Sequential(BinaryLinear(4, 3, method=GFPQ), nn.ReLU(), BinaryLinear(3, 2, method=GFPQ))
    with pytest.raises(ValueError, match="layer '0' has seen no input; run the model once in training mode"):
        gfpq_table(model)
    nn.init.constant_(model[0].weight, 0.49)
    model.train()(torch.full((1, 4), 2.0))
    write_gfpq_table(model, tmp_path / "gfpq.json")
    found = json.loads((tmp_path / "gfpq.json").read_text())
    assert found == {"bits": 8, "layers": gfpq_table(model)}
    z = round(16 * math.log2(0.49)) - 127
    assert found["layers"]["0"] == {
        "weight_clip": 2.0 ** ((z + 127) / 16),
        "weight_exponent": z,
        "input_clip": 2.0,
        "input_exponent": 16 - 127,
    }
    with pytest.raises(ValueError, match="no layer of GFPQ"):
        gfpq_table(nn.Linear(2, 2))


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="GFPQ: NNIE has no convolution with groups; got groups=2"):
        BinaryConv2d(4, 4, 3, groups=2, method=GFPQ)
    for options, said in (
        ({"mantissa_bits": 0}, "mantissa_bits must be one of"),
        ({"exponent_bits": 9}, "exponent_bits must be one of"),
        ({"box": 0}, "box must be an integer of at least 1; got 0"),
        ({"overflow": "wrap"}, "overflow must be one of"),
    ):
        with pytest.raises(ValueError, match=said):
            MSFP(LayerShape((2, 3)), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="z must be one of"):
        GFPQ(LayerShape((2, 3)), z="ceil")  # type: ignore[arg-type]
