# SPDX-License-Identifier: Apache-2.0
"""The section "Add a node kind" of CONTRIBUTING.md, done as it is written there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from _c_program import build, run
from bittern.binary import BNN
from bittern.deploy import FormatError, pack
from bittern.deploy.c_export import elementwise, real_steps, rules
from bittern.deploy.front import native
from bittern.deploy.kinds import activations
from bittern.deploy.kinds.kind import Kind
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.packed import Packed, from_bytes
from bittern.nn import BinaryConv2d

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"


def snippets() -> tuple[str, str, str]:
    """The Python code of the section: the kind, who makes it, its C code."""
    section = GUIDE.read_text(encoding="utf-8").split("## Add a node kind")[1].split("\n## ")[0]
    kind, maker, c_code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return kind, maker, c_code


def entries(code: str, module: Any) -> dict[str, Any]:
    """Lines of a table, as they would stand in this module."""
    found = eval("{" + code + "}", dict(vars(module)))
    assert isinstance(found, dict)
    return found


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A network with the operator, where the three files have been changed."""
    kind, maker, c_code = snippets()
    inside = dict(vars(activations))
    exec(kind, inside)
    (own,) = [value for name, value in inside.items() if isinstance(value, Kind) and name not in vars(activations)]
    monkeypatch.setitem(KINDS, own.name, own)
    for operator, recognise in entries(maker, native).items():
        monkeypatch.setitem(native.IN_ORDER, operator, recognise)
    for name, function in entries(c_code, elementwise).items():
        monkeypatch.setitem(elementwise.SIMPLE, name, function)
        monkeypatch.setitem(rules.RULES, name, rules.Rule(real_steps.simple, in_place=True))
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Hardswish(), BinaryConv2d(8, 8, 3, method=BNN), nn.BatchNorm2d(8), nn.Hardswish()
    ).eval()


def packed_twice(network: nn.Module) -> tuple[Packed, torch.Tensor]:
    x = torch.randn(2, 3, 9, 7)
    packed = from_bytes(pack(network, x).to_bytes())
    assert [node.kind for node in packed.program.nodes].count("hardswish") == 2
    return packed, x


def test_it_packs_runs_and_loads(network: nn.Module) -> None:
    packed, x = packed_twice(network)
    with torch.no_grad():
        assert torch.equal(packed(x), network(x))
    assert {item.how for item in packed.engine.groups} >= {"block", "torch"}


def test_it_becomes_c(network: nn.Module, tmp_path: Path) -> None:
    packed, x = packed_twice(network)
    traces = run(build(packed, tmp_path), x)
    for trace, logits in zip(traces, packed(x), strict=True):
        assert torch.allclose(trace.output, logits.flatten(), rtol=0, atol=1e-5)


def test_without_it_a_file_is_refused(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, _ = packed_twice(network)
    data = packed.to_bytes()
    monkeypatch.delitem(KINDS, "hardswish")
    with pytest.raises(FormatError, match="unknown kind 'hardswish'; the file needs a newer bittern"):
        from_bytes(data)
