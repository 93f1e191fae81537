# SPDX-License-Identifier: Apache-2.0
"""Weights of integers in 2 to 7 bits: a byte each in memory, so many bits in a file, exact in both, and in C."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bittern
from _c_integers import answers
from _packed_files import in_file, parts_of
from _tolerance import assert_exact
from bittern import ptq
from bittern.deploy import FormatError, Packed, load, to_c
from bittern.deploy.few_bits import from_file, stored_bytes, to_file, widths
from bittern.deploy.packed import from_bytes
from bittern.deploy.program import Node, Program, one_input
from bittern.deploy.validate import check_program

CHANNELS, SIDE = 5, 7
EACH = pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7])


def numbers(shape: tuple[int, ...], bits: int, seed: int) -> Tensor:
    """All integers of so many bits, both ends among them."""
    drawn = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), shape, generator=torch.Generator().manual_seed(seed))
    drawn.view(-1)[:2] = torch.tensor([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1])
    return drawn.to(torch.int8)


def network(bits: int, linear_bits: int | None = None) -> Packed:
    """A convolution, a transposed one, and a linear layer."""
    ends = {"zero": -3, "out_zero": 5, "once": True, "low": -128, "high": 127, "weight_bits": bits}
    window = {"stride": [2, 1], "padding": [1, 0, 1, 1], "dilation": [1, 2], "groups": 1}
    last = 6 * 10 * 6
    shapes = {"conv": (6, CHANNELS, 3, 2), "back": (6, 6, 2, 2), "head": (3, last)}
    widths_of = {"conv": bits, "back": bits, "head": linear_bits or bits}
    tensors: dict[str, Tensor] = {}
    for seed, (name, shape) in enumerate(shapes.items()):
        out = shape[0]
        tensors[f"{name}.weight"] = numbers(shape, widths_of[name], seed)
        tensors[f"{name}.multiplier"] = torch.full((out,), 2**30 + 12345, dtype=torch.int32)
        tensors[f"{name}.shift"] = torch.full((out,), -bits - (name == "head"), dtype=torch.int32)
    roles = {name: {role: f"{name}.{role}" for role in ("weight", "multiplier", "shift")} for name in shapes}
    size = [1, 6, 10, 6]
    reshaped = {"operator": "reshape.default", "arguments": [{"input": 0, "order": [0, 1, 2, 3]}, [-1, last]]}
    nodes = (
        Node("integer_conv", "conv", (0,), 1, {**ends, **window}, roles["conv"]),
        Node("integer_transposed_conv", "back", (1,), 2, {**ends, **_back(size)}, roles["back"]),
        Node("aten", "flat", (2,), 3, reshaped),
        Node("integer_linear", "head", (3,), 4, {**ends, "weight_bits": widths_of["head"]}, roles["head"]),
    )
    program = Program(nodes, one_input((CHANNELS, SIDE, SIDE), "int8"), 4)
    check_program(program, tensors)
    return Packed(program, tensors, {}, torch.device("cpu"))


def _back(size: list[int]) -> dict[str, Any]:
    return {"stride": [2, 1], "before": [0, 0], "size": size[2:]}


def images(count: int = 4) -> Tensor:
    shape = (count, CHANNELS, SIDE, SIDE)
    return torch.randint(-128, 128, shape, dtype=torch.int8, generator=torch.Generator().manual_seed(9))


@EACH
def test_a_file_has_as_many_bits_as_its_nodes_say_and_gives_the_same_integers(bits: int, tmp_path: Path) -> None:
    packed = network(bits)
    assert len(packed(images()).unique()) > 2
    packed.save(tmp_path / "net.bit")
    found = load(tmp_path / "net.bit")
    assert widths(found.program) == {"conv.weight": bits, "back.weight": bits, "head.weight": bits}
    for name, tensor in packed.tensors.items():
        assert_exact(found.tensors[name], tensor)
        assert found.tensors[name].is_contiguous()
    assert_exact(found(images()), packed(images()))
    assert found.to_bytes() == (tmp_path / "net.bit").read_bytes()
    header, _ = parts_of(found.to_bytes())
    weight = header["head.weight"]
    assert (weight["dtype"], weight["shape"]) == ("U8", [bits, -(-3 * 360 // 8)])
    assert found.nbytes == sum(stored_bytes(packed.program, packed.tensors).values())
    begin, end = weight["data_offsets"]
    assert stored_bytes(packed.program, packed.tensors)["head.weight"] == end - begin == bits * 135


def test_the_streams_are_those_of_the_format() -> None:
    """Plane i holds bit i of each number + 8, [out][kernel][channels], the least significant bit of a byte first."""
    packed = network(4)
    stored, table = to_file(packed.program, packed.tensors)
    assert table["conv.weight"] == [4, [6, CHANNELS, 3, 2]]
    weight = packed.tensors["conv.weight"]
    for o, channel, row, column in ((0, 0, 0, 0), (0, 1, 0, 0), (3, 2, 1, 1), (5, 4, 2, 1)):
        place = ((o * 3 + row) * 2 + column) * CHANNELS + channel
        planes = [int(stored["conv.weight"][i, place // 8]) >> place % 8 & 1 for i in range(4)]
        assert sum(bit << i for i, bit in enumerate(planes)) - 8 == int(weight[o, channel, row, column])


@EACH
def test_c_code_gives_the_same_integers_from_bytes_that_hold_two_or_four(bits: int, tmp_path: Path) -> None:
    packed = network(bits)
    assert_exact(answers(packed, tmp_path, images()), packed(images()).flatten(1))
    text = (tmp_path / "net.c").read_text()
    width = 2 if bits == 2 else 4 if bits <= 4 else 8
    assert f"n4_weight[{3 * 360 * width // 8}]" in text
    assert ("bt_weight" in text) == (bits <= 4)


def test_an_odd_number_of_weights_fills_its_last_byte_with_zeros(tmp_path: Path) -> None:
    tensors = {"weight": torch.tensor([[-8, 7, 3]], dtype=torch.int8)}
    tensors |= {"multiplier": torch.tensor([2**30], dtype=torch.int32), "shift": torch.tensor([0], dtype=torch.int32)}
    attrs = {"zero": 0, "out_zero": 0, "once": True, "low": -128, "high": 127, "weight_bits": 4}
    node = Node("integer_linear", "head", (0,), 1, attrs, {name: name for name in tensors})
    packed = Packed(Program((node,), one_input((3,), "int8"), 1), tensors, {}, torch.device("cpu"))
    x = torch.tensor([[1, 2, 3], [-4, 5, -6]], dtype=torch.int8)
    assert_exact(answers(packed, tmp_path, x), packed(x))
    assert (tmp_path / "net.c").read_text().count("120, 3,") == 1  # 7 << 4 | 8, then 3
    assert to_c(packed, tmp_path / "other.c").constant_bytes == 2 + 2 * 4 + 4 * 7


def test_a_tensor_that_two_nodes_read_has_the_most_that_one_needs() -> None:
    packed = network(3)
    nodes = list(packed.program.nodes)
    nodes[1] = nodes[1].with_attrs(weight_bits=5)
    program = Program(tuple(nodes), packed.program.inputs, packed.program.output)
    assert widths(program)["back.weight"] == 5
    shared = Node("aten", "other", (4,), 5, {"operator": "add.Tensor"}, {"t0": "head.weight"})
    program = Program((*nodes, shared), packed.program.inputs, packed.program.output)
    assert "head.weight" not in widths(program)


def test_quantized_networks_are_stored_in_their_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10)).eval()
    x = torch.randn(16, 3, 8, 8)
    eight, four = (bittern.quantize(model, x, weights=bits) for bits in (8, 4))
    four.pack().save(tmp_path / "four.bit")
    assert_exact(load(tmp_path / "four.bit")(x), four(x))
    weights = 16 * 27 + 10 * 576
    assert eight.report.bytes - four.report.bytes == weights // 2
    assert eight.pack().nbytes - four.pack().nbytes == weights // 2
    mixed = bittern.quantize(model, x, layers={"3": ptq.Bits(2, 8)})
    assert widths(mixed.pack().program) == {"3.weight": 2}


def changed(data: bytes, **content: Any) -> bytes:
    header, body = parts_of(data)
    found = json.loads(header["__metadata__"]["bittern-packed"])
    header["__metadata__"]["bittern-packed"] = json.dumps({**found, **content})
    return in_file(header, body)


SHAPE = [3, 360]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ([], "few_bits is not a map"),
        ({"head.weight": 4}, "must be its bits and its shape"),
        ({"head.weight": [4, [3, -360]]}, "must be its bits and its shape"),
        ({"head.weight": [4, [3, 0]]}, "must be its bits and its shape"),
        ({"head.weight": [True, SHAPE]}, "must be its bits and its shape"),
        ({"head.weight": [4.0, SHAPE]}, "must be its bits and its shape"),
        ({"head.weight": [8, SHAPE]}, "must be 2 to 7 bits"),
        ({"head.weight": [1, SHAPE]}, "must be 2 to 7 bits"),
        ({"head.weight": [4, [3, 360, 1]]}, "2 or 4 dimensions"),
        ({"head.weight": [3, SHAPE]}, r"3 bits of \[3, 360\] are torch.uint8 \[3, 135\]; got torch.uint8 \[4, 135\]"),
        ({"head.weight": [4, [3, 369]]}, "tensor 'head.weight': 4 bits"),
        ({"head.weight": [4, [2**40, 2**40]]}, "tensor 'head.weight': 4 bits"),
        ({"head.multiplier": [4, SHAPE]}, "got torch.int32"),
        ({"other": [4, SHAPE]}, "'other', which is not in the file"),
        ({}, "must be torch.int8; got torch.uint8"),
    ],
)
def test_hostile_tables(table: Any, text: str) -> None:
    data = network(4).to_bytes()
    header, _ = parts_of(data)
    own = json.loads(header["__metadata__"]["bittern-packed"])["few_bits"]
    given = {**own, **table} if isinstance(table, dict) and table else table
    with pytest.raises(FormatError, match=text):
        from_bytes(changed(data, few_bits=given))


def test_numbers_beyond_the_bits_of_a_node_are_refused() -> None:
    packed = network(4)
    packed.tensors["head.weight"][0, 0] = 8
    with pytest.raises(FormatError, match=r"'head' \(integer_linear\): its weights must lie in \[-8, 7\]"):
        check_program(packed.program, packed.tensors)


def test_more_numbers_than_the_memory_limit_are_refused_before_they_are_made() -> None:
    streams = torch.zeros(2, 2**17, dtype=torch.uint8)
    with pytest.raises(FormatError, match=r"weights of few bits take 3145728 bytes"):
        from_file({"w": streams}, {"w": [2, [1024, 1024]]}, 2**20)
