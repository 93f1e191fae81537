# SPDX-License-Identifier: Apache-2.0
"""Files of earlier versions still load, and answer what they answered (`write_fixtures` made them)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from _tolerance import assert_exact
from bittern.deploy import load
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.named_sizes import sizes_of

FOLDER = Path(__file__).parent / "fixtures"
ANSWERS = load_file(FOLDER / "answers.safetensors")
NAMES = sorted(name.removesuffix(".output") for name in ANSWERS if name.endswith(".output"))
EXACT = [name for name in NAMES if not name.startswith("near_")]


def test_every_file_has_an_answer() -> None:
    assert len(NAMES) > 20
    assert {path.stem for path in FOLDER.glob("*.safetensors")} == {*NAMES, "answers"}


@pytest.mark.parametrize("name", EXACT)
def test_the_same_bits(name: str) -> None:
    packed = load(FOLDER / f"{name}.safetensors")
    x, expected = ANSWERS[f"{name}.input"], ANSWERS[f"{name}.output"]
    for _ in range(2):
        assert_exact(packed(x).contiguous(), expected)
    fixed = packed.at(**sizes_of(packed.program, [x]))
    one_by_one = Interpreter(fixed.program, fixed.tensors, fixed.device)
    assert torch.equal(one_by_one(x), expected)  # a zero may have another sign


def test_functions_whose_last_bits_depend_on_the_cpu() -> None:
    packed = load(FOLDER / "near_functions.safetensors")
    x, expected = ANSWERS["near_functions.input"], ANSWERS["near_functions.output"]
    torch.testing.assert_close(packed(x), expected, rtol=1e-5, atol=1e-5)


def test_a_layer_that_is_called_twice_has_its_tensors_once() -> None:
    packed = load(FOLDER / "shared.safetensors")
    products = [node for node in packed.program.nodes if node.kind == "binary"]
    assert len(products) == 2
    assert len({node.tensors["weight"] for node in products}) == 1
    used = [node.tensors[role] for node in packed.program.nodes for role in node.tensors]
    assert len(set(used)) < len(used)
    assert set(used) == set(packed.tensors)
    contiguous = next(node for node in packed.program.nodes if node.attrs.get("operator") == "contiguous.default")
    assert contiguous.attrs["arguments"][1:] == [0]  # as torch's schema has it; a newer file may say it in words


@pytest.mark.parametrize("name", NAMES)
def test_the_same_file(name: str) -> None:
    path = FOLDER / f"{name}.safetensors"
    assert load(path).to_bytes() == path.read_bytes()
