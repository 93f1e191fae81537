# SPDX-License-Identifier: Apache-2.0
"""The packed file: round trip, damage and hostility."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from _bit_networks import Inception
from _packed_files import in_file, parts_of, with_program
from bittern.binary import BNN, ReActNet, XNORNet, XNORNetPlusPlus
from bittern.deploy import FormatError, Packed, load, pack
from bittern.deploy.packed import from_bytes
from bittern.nn import BinaryConv2d, BinaryLinear, RPReLU, summary

# networks are drawn or written for their shapes here: a sign behind a ReLU is as good as any other
pytestmark = pytest.mark.filterwarnings("ignore::bittern.ConstantInputWarning")

EXAMPLE = (2, 3, 8, 8)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        BinaryConv2d(8, 24, 3, padding=1, method=XNORNet),
        RPReLU(24),
        BinaryConv2d(24, 8, 3, stride=2, padding=1, method=XNORNetPlusPlus),
        nn.BatchNorm2d(8),
        BinaryConv2d(8, 8, 3, padding=1, method=ReActNet),
        nn.BatchNorm2d(8),
        BinaryConv2d(8, 8, 3, padding=1, method=BNN),
        nn.AvgPool2d(4),
        nn.Flatten(),
        BinaryLinear(8, 10, bias=True, method=BNN),
    )
    model(torch.randn(EXAMPLE))
    nn.init.normal_(model[7].weight)
    return model


PACKED = pack(network(), torch.randn(EXAMPLE))
DATA = PACKED.to_bytes()


def test_round_trip(tmp_path: Path) -> None:
    x = torch.randn(5, *EXAMPLE[1:])
    PACKED.save(tmp_path / "net.safetensors")
    loaded = load(tmp_path / "net.safetensors")
    assert torch.equal(loaded(x), PACKED(x))
    assert loaded.info == PACKED.info
    assert loaded.to_bytes() == DATA
    assert sorted(os.listdir(tmp_path)) == ["net.safetensors"]


class Rest(nn.Module):
    """A slice without an end, which a file leaves out."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 1:] * 0.5


def test_a_file_keeps_what_torch_guesses_from_strides() -> None:
    """A kernel of one tap has the strides of both layouts, and torch sums a float convolution by the one it guesses."""
    model = nn.Sequential(nn.Conv2d(65, 8, 1), BinaryConv2d(8, 8, 1, method=BNN), nn.Conv2d(8, 65, 1)).eval()
    packed = pack(model.to(memory_format=torch.channels_last), torch.randn(1, 65, 9, 8))  # type: ignore[call-overload]
    loaded = from_bytes(packed.to_bytes())
    for name, tensor in packed.tensors.items():
        assert tensor.stride() == loaded.tensors[name].stride(), name
    for batch in (1, 2, 5):
        x = torch.randn(batch, 65, 9, 8)
        assert torch.equal(packed(x), loaded(x))


def test_a_slice_without_an_end() -> None:
    x = torch.randn(2, 3)
    assert torch.equal(from_bytes(pack(Rest(), x).to_bytes())(x), x[:, 1:] * 0.5)


def test_weights_take_one_bit_each() -> None:
    weights = {node.tensors["weight"] for node in PACKED.program.nodes if node.kind == "binary"}
    bits = 8 * sum(PACKED.tensors[name].numel() for name in weights)
    report = summary(network(), torch.randn(EXAMPLE))
    assert report.binary_params <= bits < report.binary_params + 8 * len(weights)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        load(tmp_path / "nothing")


def test_foreign_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"PK\x03\x04 certainly not a network" * 10)
    with pytest.raises(FormatError, match="x' is not a usable packed model"):
        load(tmp_path / "x")


@pytest.mark.parametrize("length", [0, 7, 8, 100, len(DATA) // 2, len(DATA) - 1])
def test_truncated(length: int) -> None:
    with pytest.raises(FormatError):
        from_bytes(DATA[:length])


def test_longer_than_it_says() -> None:
    with pytest.raises(FormatError, match="tensors take"):
        from_bytes(DATA + b"\0")


def test_a_header_that_claims_terabytes_is_refused_before_allocation() -> None:
    header, body = parts_of(DATA)
    name = next(n for n in header if n != "__metadata__")
    header[name]["shape"] = [2**40]
    with pytest.raises(FormatError, match="does not fit its position"):
        from_bytes(in_file(header, body))
    with pytest.raises(FormatError, match="header claims"):
        from_bytes(struct.pack("<Q", 2**62) + DATA[8:])


def test_other_versions_and_formats() -> None:
    header, body = parts_of(DATA)
    content = header["__metadata__"]["bittern-packed"]
    header["__metadata__"]["bittern-packed"] = content.replace('"version":1', '"version":2')
    with pytest.raises(FormatError, match="version is 2"):
        from_bytes(in_file(header, body))
    header["__metadata__"] = {"something": content}
    with pytest.raises(FormatError, match="not one of a packed model"):
        from_bytes(in_file(header, body))


def test_nan_in_a_tensor() -> None:
    header, body = parts_of(DATA)
    place = next(e for n, e in header.items() if n != "__metadata__" and e["dtype"] == "F32")
    start = place["data_offsets"][0]
    with pytest.raises(FormatError, match="NaN or infinity"):
        from_bytes(in_file(header, body[:start] + struct.pack("<f", float("nan")) + body[start + 4 :]))


KIND, NAME, INPUTS, ATTRS, ROLES = range(5)


def first(program: dict[str, Any], kind: str) -> list[Any]:
    return next(node for node in program["nodes"] if node[KIND] == kind)


def attrs(kind: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda program: first(program, kind)[ATTRS].update(values)


def entry(kind: str, place: int, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda program: first(program, kind).__setitem__(place, value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (attrs("binary", padding=[10**9, 10**9]), "integers in"),
        (attrs("binary", padding=[30000, 30000]), "too large"),
        (attrs("binary", stride=[0, 1]), "integers in"),
        (attrs("binary", groups=7), "groups must divide"),
        (attrs("binary", out_channels=4096), "must be"),
        (attrs("binary", channels=2**31 - 1), "exceed"),
        (attrs("binary", kernel=[3]), "`dims` entries"),
        (attrs("binary", kernel=[True, 3]), "integers in"),
        (attrs("binary", extra=1), "no attribute 'extra'"),
        (attrs("binary", epilogue="none"), "disagree"),
        (attrs("binary", epilogue="scale+affine"), "must be"),
        (attrs("binary", input_scale="none"), "reads the real input"),
        (attrs("binary", input_scale="all"), "must be one of"),
        (attrs("binary", result="acc"), "comes before any bias"),
        (lambda p: first(p, "binary")[ATTRS].pop("channels"), "'channels' is missing"),
        (entry("binary", ROLES, ["epilogue"]), "'weight' is missing"),
        (entry("binary", ROLES, ["epilogue", "weight", "more"]), "no tensor 'more'"),
        (entry("binary", ROLES, [1]), "must be texts"),
        (entry("binary", ROLES, ["epilogue", ["weight", "elsewhere"]]), "'elsewhere' is not in the file"),
        (entry("binary", ROLES, ["epilogue", ["weight", 3]]), "pairs of role and tensor"),
        (entry("binary", ROLES, ["epilogue", ["weight"]]), "pairs of role and tensor"),
        (lambda p: entry("binary", ROLES, [["weight", f"{first(p, 'binary')[NAME]}.weight"]])(p), "pairs of role"),
        (entry("binary", ROLES, ["epilogue", "weight", ["weight", "elsewhere"]]), "two tensors 'weight'"),
        (
            lambda p: entry("binary", ROLES, ["weight", ["epilogue", f"{first(p, 'binary')[NAME]}.weight"]])(p),
            "must be",
        ),
        (entry("binary", NAME, "elsewhere"), "not in the file"),
        (entry("binary", NAME, "0"), "same name"),
        (entry("conv", KIND, "os.system"), "unknown kind"),
        (entry("conv", INPUTS, [99]), "not yet written"),
        (entry("conv", INPUTS, [-1]), "not yet written"),
        (entry("conv", INPUTS, [0, 0]), "takes"),
        (entry("conv", INPUTS, []), "out of order"),
        (lambda p: p.update(output=10**6), "computed by no node"),
        (lambda p: p.update(output=1 + [n[KIND] for n in p["nodes"]].index("encode")), "must be a real or int8 tensor"),
        (lambda p: p.update(input=[2**24, 2**24, 8]), "too large"),
        (lambda p: p.update(input=[3, 8]), "does not fit its input"),
        (lambda p: p.update(input=[]), "one to four"),
        (lambda p: p.update(more=1), "exactly input, output and nodes"),
        (lambda p: p.update(nodes=[]), "computed by no node"),
        (lambda p: p.update(nodes=[{}]), "must be a list"),
        (lambda p: p.update(nodes=p["nodes"] * 2), "same name"),
        (attrs("encode", planes=3), "one plane"),
        (attrs("factors", shapes=[3, 24]), "damaged"),
        (attrs("factors", shapes=[1, 24]), "must be"),
    ],
)
def test_hostile_programs(change: Any, text: str) -> None:
    with pytest.raises(FormatError, match=text):
        from_bytes(with_program(change, DATA))


@pytest.fixture(scope="module")
def branches() -> bytes:
    """The file of a network with bits that are pooled and concatenated."""
    torch.manual_seed(0)
    model = Inception(ReActNet)
    torch.nn.init.constant_(model.late[1].weight, -1.0)  # type: ignore[arg-type]
    data = pack(model.eval(), torch.randn(1, 3, 9, 10)).to_bytes()
    assert b"flip" in data
    return data


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (attrs("pool_bits", kernel=[10**9, 2]), "integers in"),
        (attrs("pool_bits", kernel=[2]), "a pool over"),
        (attrs("pool_bits", stride=[0, 1]), "integers in"),
        (attrs("pool_bits", padding=[2, 2]), "at most half the kernel"),
        (attrs("pool_bits", kernel=[30000, 1]), "does not fit into"),
        (attrs("pool_bits", channels=64), "must be"),
        (entry("pool_bits", ROLES, ["weight"]), "no tensor 'weight'"),
        (entry("pool_bits", INPUTS, [1]), "it takes bits"),
        (attrs("concatenate_bits", channels=[33, 24]), "channels name 2 parts; it reads 3"),
        (attrs("concatenate_bits", channels=[33, 24, 65]), "it takes 65 channels; got 64"),
        (attrs("concatenate_bits", channels=[1] * 17), "must be a list"),
        (attrs("concatenate_bits", channels=[33, 24, 0]), "integers in"),
        (entry("concatenate_bits", INPUTS, [1, 1, 1]), "it takes bits; got real"),
        (lambda p: p.update(output=1 + [n[KIND] for n in p["nodes"]].index("pool_bits")), "a real or int8 tensor"),
    ],
)
def test_hostile_bits(change: Any, text: str, branches: bytes) -> None:
    with pytest.raises(FormatError, match=text):
        from_bytes(with_program(change, branches))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_fuzzed_bytes_end_in_format_error_or_a_model(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(DATA) - 1))
    patch = data.draw(st.binary(min_size=1, max_size=8))
    cut = data.draw(st.sampled_from([0, 0, 1, 5]))
    mutated = DATA[:position] + patch + DATA[position + len(patch) - cut :]
    with contextlib.suppress(FormatError):
        assert isinstance(from_bytes(mutated), Packed)


VALUES = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.lists(st.integers(-9, 2**40)),
)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_fuzzed_programs_end_in_format_error_or_a_model(data: st.DataObject) -> None:
    def change(program: dict[str, Any]) -> None:
        node = data.draw(st.sampled_from(program["nodes"]))
        place = data.draw(st.sampled_from([node, node[ATTRS], program]))
        keys = list(range(5)) if isinstance(place, list) else sorted(place)
        if keys:
            place[data.draw(st.sampled_from(keys))] = data.draw(VALUES)

    with contextlib.suppress(FormatError):
        assert isinstance(from_bytes(with_program(change, DATA)), Packed)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*net.safetensors: No space left"):
        PACKED.save(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["net.safetensors"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot write"):
        PACKED.save(tmp_path / "no" / "net.safetensors")
