# SPDX-License-Identifier: Apache-2.0
"""Files that no writer writes: refused with FormatError, within the memory budget, or they run."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from _packed_files import in_file, program_file
from bittern.deploy import FormatError, pack
from bittern.deploy.format import MAX_NODES
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.packed import from_bytes


@pytest.mark.parametrize(("shape", "planes"), [([3, 8, 8], 1), ([3, 8, 8], 6), ([7, 300], 1), ([2, 33, 70], 3)])
def test_bits_of_several_rows_side_by_side(shape: list[int], planes: int) -> None:
    """Their channels are the last dimension: they are rows, no images."""
    channels, code = shape[-1], "levels" if planes > 1 else "sign"
    flat = {"dims": 0, "code": code}
    product = {**flat, "kernel": [], "stride": [], "padding": [], "dilation": [], "input_planes": planes}
    nodes = [
        ["encode", "e", [0], {**flat, "planes": planes, "channels": channels}, []],
        ["concatenate_bits", "c", [1, 1], {"channels": [channels, channels]}, []],
        ["binary", "b", [2], {**product, "channels": 2 * channels, "out_channels": 8}, ["weight"]],
    ]
    packed = from_bytes(program_file(nodes, shape, [("b.weight", "U8", [1, 2 * channels], b"\x55" * 2 * channels)]))
    x = torch.rand(4, *shape) - (0.5 if planes == 1 else 0)
    expected = Interpreter(packed.program, packed.tensors, packed.device)(x)
    assert torch.equal(packed(x), expected)
    assert torch.equal(packed(x), expected)


def relus(count: int) -> bytes:
    return program_file([["relu", f"r{i}", [i], {}, []] for i in range(count)], [4])


def test_a_file_of_many_nodes_loads_and_runs() -> None:
    """In seconds: a step that takes the square of the nodes would end in the time limit of a test."""
    x = torch.randn(2, 4)
    assert torch.equal(from_bytes(relus(MAX_NODES // 4))(x), x.relu())
    with pytest.raises(FormatError, match="100001 nodes; the limit is 100000"):
        from_bytes(relus(MAX_NODES + 1))


def test_many_buffers_in_use_at_one_time() -> None:
    """Every pool is native and has a place of its own; one concatenation reads them all."""
    still = {"kernel": [1, 1], "stride": [1, 1]}
    count = 3000
    nodes = [["pool", f"p{i}", [0], still, []] for i in range(count)]
    nodes.append(["concatenate", "c", list(range(1, count + 1)), {}, []])
    x = torch.randn(1, 2, 1, 3)
    assert torch.equal(from_bytes(program_file(nodes, [2, 1, 3]))(x), torch.cat([x] * count, 1))


def spread_factors(side: int) -> bytes:
    nodes = [
        ["encode", "e", [0], {"channels": 1}, []],
        ["binary", "b", [1], {"channels": 1, "out_channels": 8, "kernel": [1, 1]}, ["weight"]],
        ["factors", "f", [2], {"shapes": [1, 1]}, ["factors"]],
        ["mean", "m", [3], {"dims": [2, 3]}, []],
    ]
    tensors = [("f.factors", "F32", [1], b"\0\0\x80\x3f"), ("b.weight", "U8", [1, 1], b"\1")]
    return program_file(nodes, [1, side, side], tensors)


def test_a_small_file_that_takes_gigabytes_is_refused_by_name_and_bytes() -> None:
    with pytest.raises(
        FormatError, match=r"node 'b' \(binary\): with it the program takes \d+ bytes .* limit is 4294967296"
    ):
        from_bytes(spread_factors(8192))
    with pytest.raises(FormatError, match="limit is 100000"):
        from_bytes(spread_factors(64), memory_limit=100_000)
    packed = from_bytes(spread_factors(64))
    assert torch.equal(packed(torch.ones(1, 1, 64, 64)), torch.ones(1, 8).where(torch.arange(8) < 1, -1.0))


def test_a_program_without_nodes_has_an_input() -> None:
    with pytest.raises(FormatError, match=r"the input: with it the program takes \d+ bytes .* limit is 1000000;"):
        from_bytes(program_file([], [64, 100, 100], output=0), memory_limit=10**6)


def test_borders_of_bits_count() -> None:
    """A product that pads 2^15 - 1 pixels, and steps over them, has a result of two by two."""
    far = {"kernel": [1, 1], "padding": [32767, 32767], "stride": [32767, 32767]}
    nodes = [
        ["encode", "e", [0], {"channels": 1}, []],
        ["binary", "b", [1], {"channels": 1, "out_channels": 8, **far}, ["weight"]],
    ]
    with pytest.raises(FormatError, match=r"limit is \d+"):
        from_bytes(program_file(nodes, [1, 1, 1], [("b.weight", "U8", [1, 1], b"\1")]))


ROWS = {"input": 0, "order": [0, 1, 2]}


def with_operator(operator: str, arguments: list[Any], size: int) -> bytes:
    """One operator of torch, on [batch, size, 2] and on the same spread along its first and its second dimension."""
    nodes: list[list[Any]] = [
        ["aten", name, [0], {"operator": "unsqueeze.default", "arguments": [ROWS, dim]}, []]
        for name, dim in (("u", 1), ("v", 2))
    ]
    nodes.append(["aten", "a", [0, 1, 2], {"operator": operator, "arguments": arguments}, []])
    return program_file(nodes, [size, 2])


@pytest.mark.parametrize(
    ("operator", "arguments", "each"),
    [
        ("scaled_dot_product_attention.default", [ROWS, ROWS, ROWS], 12),
        ("cosine_similarity.default", [{"input": 1}, {"input": 2}, -1], 50),
        ("einsum.default", ["bix,bjx,biy->bj", [ROWS, ROWS, ROWS]], 4),
        ("einsum.default", ["b...x,bjx,b...y->bj", [ROWS, ROWS, ROWS]], 4),
    ],
    ids=["attention", "distance", "product of three", "product of three with dots"],
)
def test_memory_that_neither_inputs_nor_results_show_counts(operator: str, arguments: list[Any], each: int) -> None:
    """So many bytes for each pair of rows, a gigabyte for 32,000 numbers."""
    size = 200
    data = with_operator(operator, arguments, size)
    with pytest.raises(FormatError, match=r"node 'a' \(aten\): with it the program takes"):
        from_bytes(data, memory_limit=each * size**2)
    assert from_bytes(data, memory_limit=(each + 10) * size**2)(torch.randn(1, size, 2)).isfinite().all()


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({"x": {"dtype": [], "shape": [], "data_offsets": [0, 0]}}, "dtype that no packed model uses"),
        ({"x": {"dtype": {}, "shape": [], "data_offsets": [0, 0]}}, "dtype that no packed model uses"),
        ({"x": [0]}, "dtype that no packed model uses"),
        ({"x": {"dtype": "F32", "shape": [2**47, 0, 2**47], "data_offsets": [0, 0]}}, "does not fit its position"),
    ],
)
def test_damaged_entries(header: dict[str, Any], text: str) -> None:
    content = json.dumps({"version": 1, "info": {}, "program": {"input": [4], "output": 0, "nodes": []}})
    with pytest.raises(FormatError, match=text):
        from_bytes(in_file({**header, "__metadata__": {"bittern-packed": content}}))


def test_numbers_and_nesting_that_json_alone_allows() -> None:
    node = ["leaky_relu", "r", [0], {"slope": 7}, []]
    for value in ("9" * 5000, "[" * 900 + "]" * 900, "[" * 10**5 + "]" * 10**5):
        with pytest.raises(FormatError):
            from_bytes(program_file([node], [4]).replace(b"7", value.encode()))


def test_names_with_half_a_character() -> None:
    packed = from_bytes(program_file([["relu", "\ud800", [0], {}, []]], [4]))
    with pytest.raises(FormatError, match=r"'\\ud800'"):
        from_bytes(program_file([["relu", "\ud800", [0], {"more": 1}, []]], [4]))
    assert packed(torch.ones(1, 4)).sum() == 4


def test_a_clamp_whose_limits_cross() -> None:
    with pytest.raises(FormatError, match="its least is above its most"):
        from_bytes(program_file([["hardtanh", "h", [0], {"least": 2.0, "most": 1.0}, []]], [4]))


@pytest.mark.parametrize("kind", ["batch_norm", "layer_norm"])
def test_a_norm_with_a_negative_eps(kind: str) -> None:
    attrs, roles = ({}, ["mean", "var"]) if kind == "batch_norm" else ({"shape": [4]}, [])
    tensors = [(f"n.{role}", "F32", [4], b"\0\0\x80\x3f" * 4) for role in roles]
    for eps, text in ((0.0, None), (-1.0, "'eps' is -1.0")):
        data = program_file([[kind, "n", [0], {**attrs, "eps": eps}, roles]], [4], tensors)
        if text is None:
            from_bytes(data)(torch.ones(1, 4))
            continue
        with pytest.raises(FormatError, match=text):
            from_bytes(data)


def test_windows_in_the_padding_alone_keep_their_layout() -> None:
    """oneDNN crashes on this convolution with channels last, which torch itself was never asked for."""
    torch.manual_seed(0)
    model, x = torch.nn.Conv2d(64, 8, 1, (3, 2), (3, 1), 2, 4).eval(), torch.randn(1, 64, 9, 1)
    with torch.no_grad():
        assert torch.equal(pack(model, x)(x), model(x))
