# SPDX-License-Identifier: Apache-2.0
"""Packed models as ONNX: what is written gives the answers of the packed model, or is not written."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import _quantizers
from _bit_networks import Inception, Windows
from _cpu import pretend
from bittern import binary, models, pack
from bittern.deploy import ExportError, Packed, to_onnx
from bittern.deploy.onnx import QONNX, RuntimeReport, low_bit
from bittern.deploy.onnx.check import run
from bittern.deploy.onnx.low_bit import split
from bittern.deploy.structure import named
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.quantizer import Method
from deploy.test_executorch import nothing_written, packed_of, signal_cnn, small_cnn, sound, tiny
from deploy.test_models import METHODS, name

pytestmark = pytest.mark.peers("onnxscript", "onnxruntime")


def written(packed: Packed, path: Path, **options: Any) -> RuntimeReport:
    """Write, and run the file as a user does: in ONNX Runtime with its optimizations, on batches of other sizes."""
    import onnxruntime

    report = to_onnx(packed, path, **options)
    assert report is not None
    assert report.agrees, str(report)
    assert report.layers
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        x = options["example"][:1].repeat(batch, *[1] * len(packed.input_shape)) if "example" in options else None
        if x is None:
            x = torch.randn(batch, *packed.input_shape, generator=torch.Generator().manual_seed(batch))
        expected = named(packed(x)) or {}
        names = [output.name for output in session.get_outputs()]
        assert names == [key or "output" for key in expected] or names == [f"output_{key}" for key in expected]
        for y, own in zip(session.run(None, {"input": x.numpy()}), expected.values(), strict=True):
            assert y.shape == own.shape
            assert y.dtype == own.numpy().dtype
            if report.signs_different == 0:
                torch.testing.assert_close(torch.from_numpy(y), own, rtol=1e-3, atol=1e-3)
    return report


NETWORKS: dict[str, Callable[[], Packed]] = {
    "cnn": lambda: packed_of(sound(small_cnn()), 3, 17, 13),
    "signals": lambda: packed_of(signal_cnn(), 2, 17),
    "pools": lambda: packed_of(Windows(), 5, 11, 14),
    "branches": lambda: packed_of(Inception(binary.ReActNet), 3, 9, 10),
    "branches of levels": lambda: packed_of(Inception(partial(binary.DoReFa, weight_bits=2, input_bits=2)), 3, 9, 10),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_networks(network: str, tmp_path: Path) -> None:
    written(NETWORKS[network](), tmp_path / "net.onnx")


def test_the_networks_hold_every_low_bit_kind() -> None:
    programs = [make().program for make in NETWORKS.values()]
    kinds = {node.kind for program in programs for node in program.nodes}
    assert {"encode", "binary", "threshold", "pool_bits", "concatenate_bits"} <= kinds
    assert any("flip" in node.tensors for node in programs[0].nodes if node.kind == "threshold")
    assert any("flip" in node.tensors for node in programs[2].nodes if node.kind == "pool_bits")


STRUCTURES = (binary.XNORNet, binary.XNORNetPlusPlus, METHODS[-1])
"""Methods whose parts are unlike: scales of the input, factors of the output, levels; the others are `slow`."""
ALL_METHODS = [
    pytest.param(method, id=name(method), marks=() if method in STRUCTURES else (pytest.mark.slow,))
    for method in METHODS
]


@pytest.mark.parametrize("method", ALL_METHODS)
def test_every_method(method: Method, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 9, 3, stride=2),
        BinaryConv2d(9, 10, 3, padding=1, method=method),
        nn.BatchNorm2d(10),
        nn.Flatten(),
        BinaryLinear(10 * 4 * 4, 12, method=method),
        nn.BatchNorm1d(12),
        nn.Linear(12, 4),
    )
    model.eval()(torch.zeros(1, 3, 9, 9))  # gives scales that follow the image their shapes
    written(packed_of(model, 3, 9, 9), tmp_path / "net.onnx")


@pytest.mark.parametrize("code", ["ternary", "ternary-3", "five-2", "terms-3-2", "ternary-per-sample"])
def test_other_codes(code: str, tmp_path: Path) -> None:
    """The weights of a product are the numbers of its code."""
    from onnx import load, numpy_helper

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 9, 3, stride=2), BinaryConv2d(9, 10, 3, padding=1, method=_quantizers.METHODS[code])
    )
    written(packed_of(model, 3, 9, 9), tmp_path / "net.onnx")
    weights = [numpy_helper.to_array(t) for t in load(tmp_path / "net.onnx").graph.initializer]
    found = {frozenset(w.flatten().tolist()) for w in weights if w.shape == (10, 9, 3, 3)}
    expected = {"ternary": {-1, 0, 1}, "five": {-2, -1, 0, 1, 2}, "terms": {-1, 1}}
    assert found == {frozenset(expected[code.split("-")[0]])}


class Attention(nn.Module):
    """Token ids in, tensors by name out, and operators of torch between low-bit products."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 16)
        self.query, self.value = (BinaryLinear(16, 16, method=binary.XNORNet) for _ in range(2))
        self.head = nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        x = self.embedding(ids)
        query, value = self.query(x).unsqueeze(1), self.value(x).unsqueeze(1)
        y = F.scaled_dot_product_attention(query, query, value).squeeze(1) + x
        return {"hidden": y, "logits": self.head(y[:, 0])}


@pytest.mark.parametrize("rows", [False, True])
def test_inputs_of_other_levels(rows: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    odd = partial(_quantizers.Ranged, signed=True)
    layer = BinaryLinear(9, 5, method=_quantizers.Rows) if rows else BinaryConv2d(6, 9, 3, padding=1, method=odd)
    written(packed_of(layer, *((9,) if rows else (6, 5, 5))), tmp_path / "net.onnx")


def test_token_ids_and_results_by_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ids = torch.randint(0, 11, (3, 7))
    packed = pack(Attention().eval(), ids)
    assert any(node.kind == "aten" for node in packed.program.nodes)
    with pytest.raises(ValueError, match=r"takes torch.int64 is compared on real inputs; give example="):
        to_onnx(packed, tmp_path / "net.onnx")
    written(packed, tmp_path / "net.onnx", example=ids)


def test_a_model_is_packed_first(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), BinaryLinear(9, 3, method=binary.BNN))
    with pytest.raises(ValueError, match="not packed yet needs example="):
        to_onnx(model, tmp_path / "m.onnx")
    report = to_onnx(model.eval(), tmp_path / "m.onnx", example=torch.randn(5, 6))
    assert report is not None
    assert report.samples == 5


def test_torchs_default_dtype_changes_nothing(tmp_path: Path) -> None:
    packed = NETWORKS["signals"]()
    to_onnx(packed, tmp_path / "own.onnx", verify=False)
    torch.set_default_dtype(torch.float64)
    try:
        to_onnx(packed, tmp_path / "other.onnx")
    finally:
        torch.set_default_dtype(torch.float32)
    x = torch.randn(2, *packed.input_shape)
    own, other = (run((tmp_path / name).read_bytes(), {"input": x})[0] for name in ("own.onnx", "other.onnx"))
    assert torch.equal(own, other)


def test_the_file_holds_nothing_of_what_was_compared(tmp_path: Path) -> None:
    import onnx

    packed = NETWORKS["branches"]()
    to_onnx(packed, tmp_path / "compared.onnx")
    to_onnx(packed, tmp_path / "not.onnx", verify=False)
    graphs = [onnx.load(tmp_path / name).graph for name in ("compared.onnx", "not.onnx")]
    assert [[output.name for output in graph.output] for graph in graphs] == [["output"]] * 2
    compared, plain = ([node.op_type for node in graph.node] for graph in graphs)
    assert sorted(compared) == sorted(plain)


def test_weights_take_a_byte(tmp_path: Path) -> None:
    torch.manual_seed(0)
    packed = packed_of(nn.Sequential(nn.Linear(8, 512), BinaryLinear(512, 512, method=binary.BNN)), 8)
    to_onnx(packed, tmp_path / "m.onnx", verify=False)
    assert 512 * 512 < (tmp_path / "m.onnx").stat().st_size < 1.3 * 512 * 512


# -- QONNX -------------------------------------------------------------------------------------------------


def evaluated(path: Path, x: Tensor) -> Tensor:
    """What QONNX's definition of its nodes gives, written down here once more."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class BipolarQuant(OpRun):
        op_domain = "qonnx.custom_op.general"

        def _run(self, x: Any, scale: Any) -> Any:
            return (np.where(x >= 0, scale, -scale).astype(np.float32),)

    class Quant(OpRun):
        op_domain = "qonnx.custom_op.general"

        def _run(self, x: Any, scale: Any, zero: Any, bits: Any, signed: int, narrow: int, rounding_mode: str) -> Any:
            assert rounding_mode == "ROUND"
            least = -(2 ** (bits - 1)) + narrow if signed else 0
            most = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
            return (((np.clip(np.round(x / scale + zero), least, most) - zero) * scale).astype(np.float32),)

    (y,) = ReferenceEvaluator(str(path), new_ops=[BipolarQuant, Quant]).run(None, {"input": x.numpy()})
    return torch.from_numpy(y)


QONNX_NODES = {
    binary.BNN: ["BipolarQuant"] * 4,
    partial(binary.DoReFa, weight_bits=2, input_bits=2): ["Quant"] * 4,
    _quantizers.METHODS["ternary"]: ["BipolarQuant", "Quant"] * 2,
    _quantizers.METHODS["five-2"]: ["Quant"] * 4,
}
"""Of two layers: a weight and an input each."""


@pytest.mark.parametrize(("method", "expected"), QONNX_NODES.items(), ids=map(name, QONNX_NODES))
def test_qonnx(method: Method, expected: list[str], tmp_path: Path) -> None:
    import onnx

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3),
        BinaryConv2d(5, 6, 3, padding=1, method=method),
        nn.BatchNorm2d(6),
        BinaryConv2d(6, 7, 3, method=method),
        nn.Flatten(),
    )
    packed = packed_of(model, 2, 7, 7)
    report = to_onnx(packed, tmp_path / "q.onnx", low_bit=QONNX)
    assert report is not None
    nodes = [node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node if node.domain]
    assert sorted(nodes) == sorted(expected)
    x = torch.randn(3, 2, 7, 7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(evaluated(tmp_path / "q.onnx", x), packed(x), rtol=1e-4, atol=1e-4)


# -- what is refused ---------------------------------------------------------------------------------------


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        to_onnx(tiny(), tmp_path / "no" / "m.onnx")


def test_other_devices_and_types_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, avx512_bf16=True)
    with pytest.raises(ValueError, match=r"compute in torch.bfloat16; use \.with_real\(torch.float32\)"):
        to_onnx(tiny().with_real(torch.bfloat16), tmp_path / "m.onnx")
    packed = tiny()
    packed.device = torch.device("cuda")  # as .to("cuda") makes it, also where there is no such device
    with pytest.raises(ValueError, match=r"is on cuda; move it with \.to\('cpu'\)"):
        to_onnx(packed, tmp_path / "m.onnx")
    with pytest.raises(TypeError, match="must be a packed model or a torch module; got str"):
        to_onnx("net.safetensors", tmp_path / "m.onnx")  # type: ignore[arg-type]
    assert nothing_written(tmp_path)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.randn(2, 5), r"expected an input \[batch, 6\]; got \[2, 5\]"),
        (torch.randn(0, 6), "has no sample; give at least one"),
        (torch.randn(2, 6).double(), "must be float32; got torch.float64"),
    ],
)
def test_examples_that_do_not_fit(example: Tensor, message: str, tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        to_onnx(tiny(), tmp_path / "m.onnx", example=example)
    assert nothing_written(tmp_path)


def test_nothing_is_ignored(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is for verify=True"):
        to_onnx(tiny(), tmp_path / "m.onnx", verify=False, example=torch.randn(1, 6))


@pytest.mark.parametrize("part", ["product_constants", "tail_constants"])
def test_a_wrong_program_is_not_written(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(low_bit, part)

    def wrong(*given: Any) -> dict[str, Tensor]:
        found = dict(right(*given))
        role = next(iter(found))
        return found | {role: -found[role]}

    torch.manual_seed(0)
    layers = nn.Linear(6, 70), BinaryLinear(70, 66, method=binary.XNORNet), nn.BatchNorm1d(66)
    packed = packed_of(nn.Sequential(*layers), 6)
    assert len(split(packed.program).nodes) > len(packed.program.nodes)
    monkeypatch.setattr(low_bit, part, wrong)
    with pytest.raises(ExportError, match="disagrees with the packed model, nothing was written") as caught:
        to_onnx(packed, tmp_path / "m.onnx")
    assert ("layer '1'" in str(caught.value)) == (part == "product_constants")
    assert nothing_written(tmp_path)


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_packages_are_named(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else find(name, *rest))
    with pytest.raises(ImportError, match=rf"the package '{missing}' is missing; pip install 'bittern\[onnx\]'"):
        to_onnx(tiny(), tmp_path / "m.onnx")
    assert nothing_written(tmp_path)


@pytest.mark.slow
def test_resnet20(tmp_path: Path) -> None:
    model = models.resnet20_cifar(method=binary.ReActNet, num_classes=7, in_channels=3, input_size=16)
    written(packed_of(model, 3, 16, 16), tmp_path / "resnet.onnx")
