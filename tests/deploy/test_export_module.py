# SPDX-License-Identifier: Apache-2.0
"""The torch module that ExecuTorch exports equals the packed model, bit for bit; this needs no ExecuTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import _quantizers
from bittern import binary, models
from bittern.deploy import pack, to_c
from bittern.deploy.executorch.lowering import (
    INPUT_SCALE,
    LOWERINGS,
    ExportError,
    ExportModule,
    lowering,
    split_input_scales,
)
from bittern.deploy.kinds.integer import INTEGER_KINDS
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.onnx import low_bit
from bittern.deploy.onnx.dialect import ARITHMETIC
from bittern.deploy.onnx.module import Parts
from bittern.deploy.packed import Packed
from bittern.nn import BinaryConv2d, BinaryLinear, RPReLU
from bittern.quant import Alternating
from bittern.quantizer import Method
from deploy.test_models import METHODS, SIZES, trained_look

CASES = [(models.mlp, method) for method in METHODS] + [
    (models.resnet20_cifar, binary.DoReFa),
    (models.resnet20_cifar, binary.XNORNet),
    (models.bireal_net18, binary.BiRealNet),
    (models.reactnet_a, binary.ReActNet),
    (models.vgg_small, binary.BNN),
]


@pytest.mark.parametrize(("build", "method"), CASES, ids=lambda value: getattr(value, "__name__", "DoReFa-2-2"))
def test_module_equals_packed(build: Callable[..., nn.Module], method: Method) -> None:
    torch.manual_seed(0)
    size = SIZES[build]
    model = trained_look(build(method=method, num_classes=7, in_channels=size[0], input_size=size[1]))
    batch = torch.randn(2, *size)
    packed = pack(model, batch)
    program = split_input_scales(packed.program)
    module = ExportModule(program, packed.tensors, (program.output,))
    with torch.no_grad():
        (logits,) = module(batch)
    assert torch.equal(logits, with_torchs_means(packed)(batch))


def with_torchs_means(packed: Packed) -> Packed:
    """The same with input scales as other formats have them, by torch's own means."""
    nodes = (node.with_attrs(scale_order="torch") if node.kind == "binary" else node for node in packed.program.nodes)
    return Packed(replace(packed.program, nodes=tuple(nodes)), packed.tensors, packed.info, packed.device)


def test_ones_of_the_weight_and_of_an_input_without_padding() -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(6, 9, 3, groups=3, method=_quantizers.SEVERAL_INPUTS["offsets-2"])
    model, batch = nn.Sequential(layer).eval(), torch.randn(2, 6, 5, 5)
    packed = pack(model, batch)
    module = ExportModule(packed.program, packed.tensors, (packed.program.output,))
    with torch.no_grad():
        assert torch.equal(module(batch)[0], packed(batch))


@pytest.mark.parametrize("code", _quantizers.METHODS)
def test_other_codes(code: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), BinaryConv2d(6, 9, 3, padding=1, method=_quantizers.METHODS[code]))
    batch = torch.randn(2, 3, 9, 9)
    packed = pack(trained_look(model), batch)
    program = split_input_scales(packed.program)
    module = ExportModule(program, packed.tensors, (program.output,))
    with torch.no_grad():
        (logits,) = module(batch)
    assert torch.equal(logits, packed(batch))


@pytest.mark.parametrize("rows", [False, True])
def test_inputs_of_other_levels(rows: bool) -> None:
    odd = partial(_quantizers.Ranged, signed=True)
    torch.manual_seed(0)
    layer = BinaryLinear(9, 5, method=_quantizers.Rows) if rows else BinaryConv2d(6, 9, 3, padding=1, method=odd)
    batch = torch.randn(2, *((9,) if rows else (6, 5, 5)))
    packed = pack(layer.eval(), batch)
    module = ExportModule(packed.program, packed.tensors, (packed.program.output,))
    with torch.no_grad():
        assert torch.equal(module(batch)[0], packed(batch))


@pytest.mark.parametrize("size", [4, 5], ids=["even", "uneven"])
def test_pools_that_round_up_and_prelus_of_any_shape(size: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 1),
        nn.PReLU(3),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Flatten(2),
        RPReLU(3),
        nn.Flatten(),
        nn.PReLU(),
    )
    batch = torch.randn(2, 2, size, size)
    packed = pack(trained_look(model), batch)
    module = ExportModule(packed.program, packed.tensors, (packed.program.output,))
    with torch.no_grad():
        (logits,) = module(batch)
    assert torch.equal(logits, packed(batch))


def test_every_kind_but_those_of_torch_has_a_lowering() -> None:
    """A weight is decoded before anything is lowered (`export_arguments.decoded_model`)."""
    without = {"aten", "part", "decoded", "ones_product", "sign_residual", "multibit_linear"}
    without |= {kind.name for kind in INTEGER_KINDS}
    assert set(LOWERINGS) == set(KINDS) - without | {INPUT_SCALE}


@pytest.mark.parametrize(("code", "kind"), [("residuals-spatial", "sign_residual"), ("offsets-2", "ones_product")])
def test_what_has_no_lowering_is_refused_by_name(code: str, kind: str, tmp_path: Path) -> None:
    method = _quantizers.SEVERAL_INPUTS[code]
    packed = pack(nn.Sequential(BinaryConv2d(6, 9, 3, padding=1, method=method)).eval(), torch.randn(2, 6, 5, 5))
    program = split_input_scales(packed.program)
    with pytest.raises(ExportError, match=f"to_executorch: node .* is of kind .{kind}., which has no Execu"):
        ExportModule(program, packed.tensors, (program.output,))
    with pytest.raises(ExportError, match=r"to_c: node .* has no C code"):
        to_c(packed, tmp_path / "net.c")
    if kind == "sign_residual":
        residual = next(node for node in packed.program.nodes if node.kind == kind)
        with pytest.raises(ExportError, match=r"to_onnx: node .0\.residual. takes the mean off an input"):
            Parts(low_bit.split(packed.program), packed.tensors, ARITHMETIC).of(residual)


def test_exports_refuse_inputs_of_planes_by_name(tmp_path: Path) -> None:
    method = partial(Alternating, input_bits=2)
    packed = pack(nn.Sequential(BinaryLinear(9, 3, method=method)), torch.randn(2, 9))
    with pytest.raises(ExportError, match=r"to_c: node '0' .*has no C code"):
        to_c(packed, tmp_path / "net.c")
    with pytest.raises(ExportError, match="to_onnx: node '0' finds the planes of its input by 2 cycles"):
        Parts(packed.program, packed.tensors, ARITHMETIC).of(packed.program.nodes[0])
    with pytest.raises(ExportError, match="to_executorch: node '0' is of kind 'multibit_linear'"):
        ExportModule(packed.program, packed.tensors, (packed.program.output,))
    assert not list(tmp_path.iterdir())


def test_unknown_kind_is_named() -> None:
    packed = pack(models.mlp(method=binary.BNN, num_classes=3, in_channels=1, input_size=4), torch.randn(1, 1, 4, 4))
    nodes = list(packed.program.nodes)
    nodes[1] = replace(nodes[1], kind="fused_block")
    with pytest.raises(
        ExportError, match=f"node {nodes[1].name!r} is of kind 'fused_block', which has no ExecuTorch form"
    ):
        ExportModule(replace(packed.program, nodes=tuple(nodes)), packed.tensors, (packed.program.output,))
    with pytest.raises(ExportError, match="known are"):
        lowering(nodes[1])


def test_input_scales_become_nodes() -> None:
    model = models.mlp(method=binary.XNORNet, num_classes=3, in_channels=1, input_size=4)
    packed = pack(model, torch.randn(1, 1, 4, 4))
    program = split_input_scales(packed.program)
    before = [node for node in packed.program.nodes if node.kind == "binary"]
    products = [node for node in program.nodes if node.kind == "binary"]
    scales = [node for node in program.nodes if node.kind == INPUT_SCALE]
    assert before
    assert all(len(node.inputs) == 2 for node in before)
    assert all(len(node.inputs) == 1 and node.attrs["input_scale"] == "none" for node in products)
    assert [node.output for node in scales] == [node.output for node in before]
    assert len({node.output for node in program.nodes}) == len(program.nodes)
