# SPDX-License-Identifier: Apache-2.0
"""The method of CONTRIBUTING.md, as it stands there: it has the properties of every method, trains, packs, verifies."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bittern
from bittern import codes
from bittern.deploy import pack, verify
from bittern.quantizer import Quantizer

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "CONTRIBUTING.md").read_text().partition("## Add a binary method\n")[2].partition("\n## ")[0]


def _properties() -> Any:
    spec = importlib.util.spec_from_file_location("properties", Path(__file__).with_name("test_properties.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _method() -> type[Quantizer]:
    (snippet,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(snippet, "CONTRIBUTING.md", "exec"), names)
    method: type[Quantizer] = names["LayerScale"]
    return method


METHOD = _method()
PROPERTIES = _properties()


@pytest.mark.parametrize("training", [True, False])
def test_it_has_the_properties_of_every_method(training: bool) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        PROPERTIES.test_values_are_on_the_grid(METHOD, training, dtype)
    PROPERTIES.test_conv1x1_equals_linear(METHOD, training)
    PROPERTIES.test_conv1d_equals_conv2d_of_height_one(METHOD, training)
    for name in (
        "zero_and_negative_zero_become_one_value",
        "gradients_are_finite_also_at_infinite_inputs",
        "input_code_says_what_input_computes",
        "output_is_the_product_of_output_factors",
        "an_empty_batch_passes_through",
    ):
        getattr(PROPERTIES, f"test_{name}")(METHOD)


def test_the_codes_that_the_section_names_pack_as_it_says() -> None:
    named = re.findall(
        r"`(?:def weight_code\(self\): return )?((?:Ternary|Integers|odd_integers)\([-\d, ]*\))`", SECTION
    )
    assert len(named) == 3
    found = [eval(text, vars(codes)) for text in named]
    assert found == [codes.symmetric(3), codes.symmetric(5), codes.symmetric(4)]
    assert [list(code.values) for code in found] == [[-1, 0, 1], [-2, -1, 0, 1, 2], [-3, -1, 1, 3]]


def test_its_gradients_are_those_of_its_docstring() -> None:
    layer = bittern.nn.BinaryLinear(2, 1, method=METHOD)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -1.5]]))
        layer.method.get_parameter("threshold").copy_(torch.tensor([1.0, 0.0]))
    x = torch.tensor([[0.5, 1.25]], requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.item() == -2.0  # (1 * -1 + -1 * 1) * mean(0.5, 1.5)
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[-1.0, 0.0]]  # x_q of the weight within [-1, 1], times 1
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 0.0]]  # |0.5 - 1| <= 1 < |1.25 - 0|
    assert layer.method.get_parameter("threshold").grad.tolist() == [-1.0, 0.0]


def test_it_trains_packs_and_verifies_exactly() -> None:
    torch.manual_seed(0)
    images, classes = torch.randn(16, 3, 8, 8), torch.arange(16) % 4
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)),
        *(nn.Flatten(), nn.Linear(8 * 36, 4)),
    )
    low = bittern.convert(model, METHOD, example=images)
    optimizer = torch.optim.Adam(low.parameters(), 0.01)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(low(images), classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert bool(low[2].method.threshold.any())
    assert verify(pack(low.eval(), images), low, [images[:3]]).exact
    assert "BinaryConv2d[LayerScale]" in str(bittern.summary(low, images))
