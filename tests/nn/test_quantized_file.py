# SPDX-License-Identifier: Apache-2.0
"""save_quantized and load_quantized: what comes back, and every way in which a file can be wrong."""

from __future__ import annotations

import json
import random
import struct
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from _tolerance import assert_exact
from bittern.nn import Linear4bit, Linear8bit, LinearGroups, load_quantized, quantize, save_quantized

KINDS = [Linear4bit, partial(Linear4bit, nested=True, block_size=32), Linear8bit, partial(Linear8bit, threshold=1)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self, tied: bool = True, width: int = 65) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, width)
        self.layer = nn.Linear(width, 64)
        self.back = nn.Linear(64, width, bias=False)
        self.head = nn.Linear(width, 10, bias=False)
        if tied:
            self.head.weight = self.embed.weight
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.head(self.back(self.layer(self.embed(tokens))))
        return y


TOKENS = torch.arange(10).view(2, 5)


def saved(path: Path, kind: Any = Linear4bit, tied: bool = True) -> nn.Module:
    small = quantize(Net(tied), kind, keep=["head"]).eval()
    save_quantized(small, path)
    return small


def rewrite(path: Path, header: dict[str, Any] | None = None, **tensors: Tensor | None) -> None:
    """Another value for keys of the header's text, and for tensors; None takes a tensor away."""
    with path.open("rb") as file:
        text = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))["__metadata__"]
    state = {**load_file(path), **tensors}
    save_file({name: t for name, t in state.items() if t is not None}, path, {**text, **(header or {})})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_fresh_model_becomes_the_saved_one(tmp_path: Path, kind: Any, device: str) -> None:
    path = tmp_path / "net.safetensors"
    small = saved(path, kind)
    with torch.device(device):
        fresh = Net()
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    again = load_quantized(fresh, path).eval()
    with torch.no_grad():
        assert_exact(again(TOKENS), small(TOKENS))
    for name, value in small.state_dict().items():
        assert_exact(again.state_dict()[name], value)
    assert again.head.weight is again.embed.weight
    assert isinstance(fresh.layer, nn.Linear)
    if device == "cpu":
        for name, value in before.items():
            assert_exact(fresh.state_dict()[name], value)
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in small.parameters()]
    assert again.get_submodule("layer").extra_repr() == small.get_submodule("layer").extra_repr()


def test_a_file_is_small_and_loads_into_a_quantized_model_too(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    small = quantize(nn.Sequential(nn.Linear(1024, 1024, bias=False)), Linear4bit)
    save_quantized(small, path)
    assert path.stat().st_size < 1024**2 * 4.5 / 8 + 2000
    fresh = quantize(nn.Sequential(nn.Linear(1024, 1024, bias=False)), Linear4bit)
    x = torch.randn(2, 1024)
    assert_exact(load_quantized(fresh, path)(x), small(x))
    assert not torch.equal(fresh(x), small(x))


def test_a_model_that_is_one_layer_and_types_of_floats(tmp_path: Path) -> None:
    path = tmp_path / "layer.safetensors"
    small = quantize(nn.Linear(64, 8).bfloat16(), Linear8bit)
    save_quantized(small, path)
    again = load_quantized(nn.Linear(64, 8), path)
    assert isinstance(again, Linear8bit)
    assert again.bias.dtype == torch.bfloat16
    x = torch.randn(2, 64)
    assert_exact(again(x), small(x))


def test_ties_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    saved(path, tied=False)
    with pytest.raises(
        ValueError, match=r"'head.weight' and 'embed.weight' are one parameter .*the file has different numbers"
    ):
        load_quantized(Net(tied=True), path)
    saved(path, tied=True)
    again = load_quantized(Net(tied=False), path)
    assert_exact(again.head.weight.detach(), again.embed.weight.detach())
    assert again.head.weight.data_ptr() != again.embed.weight.data_ptr()


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save_quantized: no layer of the model is frozen; call quantize first"):
        save_quantized(Net(), tmp_path / "x")
    with pytest.raises(ValueError, match="is on the meta device and has no numbers; load it first"):
        save_quantized(Linear4bit(64, 8, device="meta"), tmp_path / "x")
    with pytest.raises(OSError, match="nowhere"):
        save_quantized(Linear4bit(64, 8), tmp_path / "nowhere" / "x")
    assert not list(tmp_path.iterdir())


def test_groups_of_before_there_were_orders(tmp_path: Path) -> None:
    """Their files do not say that inputs are in order."""
    path = tmp_path / "groups"
    small = saved(path, LinearGroups)
    with path.open("rb") as file:
        text = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))["__metadata__"]
    layers = json.loads(text["layers"])
    assert [layer.pop("ordered") for layer in layers.values()] == [False, False]
    rewrite(path, {"layers": json.dumps(layers)})
    assert_exact(load_quantized(Net(), path).eval()(TOKENS), small(TOKENS))


def _layer(**changes: Any) -> dict[str, str]:
    settings = {"kind": "Linear4bit", "in_features": 65, "out_features": 64, "block_size": 64, "nested": False}
    return {"layers": json.dumps({"layer": {**settings, "bias": True, **changes}})}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"format": "other"}, "must be a 'bittern quantized model' of version 1; got format 'other'"),
        ({"version": "2"}, "version '2'"),
        ({"layers": "{"}, "'layers' in its header is no JSON"),
        ({"layers": "[" * 100_000}, "'layers' in its header is no JSON"),
        ({"layers": "[]"}, "'layers' in its header is no table"),
        ({"shared": "3"}, "'shared' in its header is no table"),
        ({"shared": '{"head.weight": "no.such"}'}, "'head.weight' must be shared with another tensor of the file"),
        ({"shared": '{"head.weight": 5}'}, "must be shared with another"),
        ({"layers": '{"other": {}}'}, "the file freezes 'other', which the model does not have"),
        (
            {"layers": '{"embed": {}}'},
            "the file freezes 'embed', which must be an nn.Linear",
        ),
        ({"layers": '{"layer": 7}'}, "layer 'layer' must be one of Linear4bit, Linear8bit"),
        (_layer(kind="os.system"), "layer 'layer' must be one of Linear4bit, Linear8bit"),
        (_layer(kind=["Linear4bit"]), "layer 'layer' must be one of"),
        (_layer(more=1), "layer 'layer' must be one of"),
        (
            _layer(in_features=10**15),
            r"= \(1000000000000000, 64, True\); the model has \(65, 64, True\)",
        ),
        (_layer(in_features=-1), r"\(-1, 64, True\)"),
        (_layer(in_features=65.0), "in_features must be int; got 65.0"),
        (_layer(bias=False), r"the model has \(65, 64, True\)"),
        (_layer(block_size=True), "block_size must be int; got True"),
        (_layer(block_size=48), "block_size must be a power of two"),
        (_layer(block_size=128), r"'layer.absmax' must be \[33\]; got \[65\]"),
        (_layer(nested=True), "'layer.absmax_codes' is missing"),
    ],
)
def test_headers_that_lie(tmp_path: Path, header: dict[str, str], message: str) -> None:
    path = tmp_path / "net.safetensors"
    saved(path)
    rewrite(path, header)
    with pytest.raises(ValueError, match=rf"load_quantized: .*net\.safetensors.*{message}"):
        load_quantized(Net(), path)


def test_the_name_of_a_table_in_files(tmp_path: Path) -> None:
    """`code`, as in files of before, whatever the layer calls it."""
    path = tmp_path / "net.safetensors"
    small = saved(path)
    names = set(load_file(path))
    assert "layer.code" in names
    assert "layer.table" not in names
    assert_exact(load_quantized(Net(), path).get_buffer("layer.table"), small.get_buffer("layer.table"))
    single = nn.Sequential(nn.Linear(64, 8))
    save_quantized(quantize(single, Linear4bit).get_submodule("0"), path)
    assert "code" in load_file(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layer.packed", None, "'layer.packed' is missing"),
        ("layer.packed", torch.zeros(7, dtype=torch.uint8), r"must be \[2080\]; got \[7\]"),
        ("layer.packed", torch.zeros(2080), "must be torch.uint8; got torch.float32"),
        ("layer.absmax", torch.zeros(65, dtype=torch.float64), "must be torch.float32; got torch.float64"),
        ("layer.absmax", torch.full((65,), float("nan")), "Linear4bit: absmax must be finite; got 65 NaN"),
        ("layer.code", torch.full((16,), float("inf")), "Linear4bit: table must be finite"),
        ("layer.weight", torch.zeros(2), "'layer.weight' is unexpected"),
        ("steps", torch.zeros(()), "'steps' must be torch.int64"),
        ("embed.weight", torch.zeros(9, 65), r"'embed.weight' must be \[10, 65\]; got \[9, 65\]"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, name: str, value: Tensor | None, message: str) -> None:
    path = tmp_path / "net.safetensors"
    saved(path)
    rewrite(path, **{name: value})
    with pytest.raises(ValueError, match=f"load_quantized: .*{message}"):
        load_quantized(Net(), path)


def test_codes_that_no_8_bit_weight_has(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    saved(path, Linear8bit)
    rewrite(path, **{"layer.weight": torch.full((64, 65), -128, dtype=torch.int8)})
    with pytest.raises(ValueError, match=r"Linear8bit: codes must lie in -127 \.\.\. 127; got -128"):
        load_quantized(Net(), path)
    saved(path, Linear8bit)
    rewrite(path, **{"layer.scale": torch.full((64,), -0.5)})
    with pytest.raises(ValueError, match=r"Linear8bit: scales must be at least 0; got -0\.5"):
        load_quantized(Net(), path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """A damaged file gives ValueError, or a model whose numbers differ; never anything else."""
    path = tmp_path / "net.safetensors"
    saved(path)
    whole = path.read_bytes()
    generator = random.Random(0)
    cuts = [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]
    files = [whole[:n] for n in cuts] + [whole + b"x", b"\xff" * 64, b"PK\x03\x04" + whole]
    for _ in range(200):
        place = generator.randrange(struct.unpack("<Q", whole[:8])[0] + 8)
        files.append(whole[:place] + bytes([generator.randrange(256)]) + whole[place + 1 :])
    refused = 0
    for data in files:
        path.write_bytes(data)
        try:
            load_quantized(Net(), path)
        except ValueError:
            refused += 1
    assert refused > 150
    with pytest.raises(OSError, match="absent"):
        load_quantized(Net(), tmp_path / "absent")
    with pytest.raises(OSError, match="directory"):
        load_quantized(Net(), tmp_path)


def test_a_buffer_that_no_file_holds_is_named(tmp_path: Path) -> None:
    class Rotary(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(64, 8))
            self.register_buffer("angles", torch.ones(4), persistent=False)

    path = tmp_path / "net.safetensors"
    save_quantized(quantize(Rotary(), Linear4bit), path)
    assert_exact(load_quantized(Rotary(), path).angles, torch.ones(4))
    with torch.device("meta"):
        model = Rotary()
    with pytest.raises(ValueError, match="'angles' is on the meta device and no part of a state_dict; build the model"):
        load_quantized(model, path)
