"""Files that no writer writes: refused with FormatError, within the memory budget, or they run."""

from __future__ import annotations

import pytest
import torch

from _packed_files import program_file
from bittern.deploy.node_by_node import NodeByNode
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
    expected = NodeByNode(packed.program, packed.tensors, packed.device)(x)
    assert torch.equal(packed(x), expected)
    assert torch.equal(packed(x), expected)
