# SPDX-License-Identifier: Apache-2.0
"""Packed models as ExecuTorch programs: what is written gives the answers of the packed model, or is not written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from _bit_networks import Inception, Windows
from _edge import building, built_kernels
from bittern import binary, models, pack
from bittern.deploy import Packed, to_executorch
from bittern.deploy.executorch import EdgeReport, ExportError, MissingKernels, cmake_config, load, lowering
from bittern.deploy.executorch import kernels as kernels_module
from bittern.deploy.executorch.blob import MAGIC, VERSION
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear, RPReLU
from bittern.quantizer import Method
from deploy.test_models import METHODS, name, trained_look

pytestmark = pytest.mark.peers("executorch")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kernels() -> Path:
    return built_kernels()


def packed_of(model: nn.Module, *shape: int) -> Packed:
    torch.manual_seed(0)
    return pack(trained_look(model), torch.randn(1, *shape))


def small_cnn() -> nn.Module:
    """Odd sizes, groups, stride, a chain of integers alone (threshold and flip), and real parts of many kinds."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 70, 3, padding=1),
        nn.BatchNorm2d(70),
        RPReLU(70),
        BinaryConv2d(70, 66, 3, padding=1, stride=2, groups=2, method=binary.BNN),
        nn.BatchNorm2d(66),
        BinaryConv2d(66, 33, (3, 1), padding=(1, 0), pad_value=1, dilation=(1, 2), method=binary.BNN),
        nn.BatchNorm2d(33),
        nn.AvgPool2d(2),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        BinaryLinear(33 * 4 * 3, 17, method=binary.XNORNet),
        nn.BatchNorm1d(17),
        nn.PReLU(),
        nn.Linear(17, 5),
        nn.Softmax(dim=1),
    )


def sound(model: nn.Module) -> nn.Module:
    """Slopes of both signs, so that a threshold needs its flip."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight[::2].neg_()
    return model


def signal_cnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(2, 9, 3),
        BinaryConv1d(9, 12, 5, padding=2, stride=2, method=binary.BNN),
        nn.BatchNorm1d(12),
        nn.Hardtanh(),
        nn.Flatten(),
        nn.Linear(12 * 8, 4),
    )


def written(packed: Packed, path: Path, kernels: Path, **options: Any) -> EdgeReport:
    """Write, load again, and compare with the packed model on other inputs."""
    report = to_executorch(packed, path, kernels=kernels, **options)
    assert report is not None
    assert report.agrees, str(report)
    assert len(report.layers) > 0
    assert "agrees: yes" in str(report)
    program = load(path)
    assert program.input_shape == packed.input_shape
    batch = torch.randn(3, *packed.input_shape, generator=torch.Generator().manual_seed(1))
    logits = program(batch)
    assert logits.shape == packed(batch).shape
    if report.signs_different == 0:
        assert report.max_difference <= 1e-3 * max(1.0, report.max_logit), str(report)
    return report


@pytest.mark.parametrize("method", [binary.BNN, binary.XNORNet, METHODS[-1]], ids=name)
def test_mlp(method: Method, tmp_path: Path, kernels: Path) -> None:
    written(
        packed_of(models.mlp(method=method, num_classes=7, in_channels=3, input_size=8), 3, 8, 8),
        tmp_path / "m.pte",
        kernels,
    )


@pytest.mark.parametrize("xnnpack", [True, False], ids=["xnnpack", "portable"])
def test_small_cnn(xnnpack: bool, tmp_path: Path, kernels: Path) -> None:
    packed = packed_of(sound(small_cnn()), 3, 17, 13)
    assert {"encode", "binary", "threshold"} <= {node.kind for node in packed.program.nodes}
    assert any("flip" in node.tensors for node in packed.program.nodes)
    path = tmp_path / "small.pte"
    written(packed, path, kernels, xnnpack=xnnpack, example=torch.randn(3, 3, 17, 13))
    assert (b"XnnpackBackend" in path.read_bytes()) == xnnpack


def test_signals(tmp_path: Path, kernels: Path) -> None:
    written(packed_of(signal_cnn(), 2, 17), tmp_path / "signal.pte", kernels)


def test_pools_of_bits(tmp_path: Path, kernels: Path) -> None:
    packed = packed_of(Windows(), 5, 11, 14)
    assert any(node.kind == "pool_bits" and "flip" in node.tensors for node in packed.program.nodes)
    written(packed, tmp_path / "windows.pte", kernels)


@pytest.mark.parametrize(
    "method",
    [binary.ReActNet, pytest.param(partial(binary.DoReFa, weight_bits=2, input_bits=2), marks=pytest.mark.slow)],
    ids=name,
)
def test_concatenations_of_bits(method: Method, tmp_path: Path, kernels: Path) -> None:
    packed = packed_of(Inception(method), 3, 9, 10)
    assert any(node.kind == "concatenate_bits" for node in packed.program.nodes)
    written(packed, tmp_path / "branches.pte", kernels)


RESNET_METHODS = [
    pytest.param(method, id=name(method), marks=() if method is binary.ReActNet else (pytest.mark.slow,))
    for method in METHODS
]


@pytest.mark.parametrize("method", RESNET_METHODS)
def test_resnet20(method: Method, tmp_path: Path, kernels: Path) -> None:
    model = models.resnet20_cifar(method=method, num_classes=7, in_channels=3, input_size=16)
    written(packed_of(model, 3, 16, 16), tmp_path / "resnet.pte", kernels)


def test_bireal_net18(tmp_path: Path, kernels: Path) -> None:
    packed = packed_of(
        models.bireal_net18(method=binary.BiRealNet, num_classes=7, in_channels=3, input_size=64), 3, 64, 64
    )
    path = tmp_path / "bireal.pte"
    written(packed, path, kernels)
    # bits stay bits: what ExecuTorch adds is far less than one of its copies in bytes would be
    assert path.stat().st_size < 1.2 * packed.nbytes


# -- what is refused ---------------------------------------------------------------------------------------


def tiny() -> Packed:
    torch.manual_seed(0)
    return packed_of(nn.Sequential(nn.Linear(6, 70), BinaryLinear(70, 66, method=binary.BNN), nn.Linear(66, 3)), 6)


@pytest.fixture(scope="module")
def tiny_file(kernels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of `tiny`; to be read only."""
    path = tmp_path_factory.mktemp("tiny") / "m.pte"
    to_executorch(tiny(), path, kernels=kernels)
    return path


def nothing_written(folder: Path) -> bool:
    return list(folder.iterdir()) == []


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        to_executorch(tiny(), tmp_path / "no" / "m.pte")


def test_other_devices_are_refused(tmp_path: Path) -> None:
    packed = tiny()
    packed.device = torch.device("cuda")  # as .to("cuda") makes it, also where there is no such device
    with pytest.raises(ValueError, match=r"is on cuda; move it with \.to\('cpu'\)"):
        to_executorch(packed, tmp_path / "m.pte")
    assert nothing_written(tmp_path)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.randn(2, 5), r"expected an input \[batch, 6\]; got \[2, 5\]"),
        (torch.randn(0, 6), "has no sample; give at least one"),
        (torch.randn(2, 6).double(), "must be float32"),
    ],
)
def test_examples_that_do_not_fit(example: Tensor, message: str, tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        to_executorch(tiny(), tmp_path / "m.pte", example=example)
    assert nothing_written(tmp_path)


def test_nothing_is_ignored(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="are for verify=True"):
        to_executorch(tiny(), tmp_path / "m.pte", verify=False, example=torch.randn(1, 6))


def test_unknown_node_is_named(tmp_path: Path) -> None:
    packed = tiny()
    nodes = tuple(replace(n, kind="fused") if n.kind == "binary" else n for n in packed.program.nodes)
    packed.program = replace(packed.program, nodes=nodes)
    with pytest.raises(ExportError, match="node '1' is of kind 'fused', which has no ExecuTorch form"):
        to_executorch(packed, tmp_path / "m.pte")
    assert nothing_written(tmp_path)


@pytest.mark.parametrize("kind", ["binary", "linear"])
def test_a_wrong_program_is_not_written(
    kind: str, tmp_path: Path, kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = lowering.LOWERINGS[kind]

    def wrong(node: Any, tensors: Any) -> dict[str, Tensor]:
        found = right.constants(node, tensors)
        role = "weight0" if kind == "binary" else "bias"
        return found | {role: found[role] ^ 1 if kind == "binary" else found[role] + 0.01}

    packed = tiny()
    monkeypatch.setitem(lowering.LOWERINGS, kind, right._replace(constants=wrong))
    with pytest.raises(ExportError, match="disagrees with the packed model, nothing was written") as caught:
        to_executorch(packed, tmp_path / "m.pte", kernels=kernels)
    assert ("layer '1'" in str(caught.value)) == (kind == "binary")
    assert nothing_written(tmp_path)


def test_without_verify_no_kernels_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels_module, "BUILD", tmp_path / "nowhere")
    assert to_executorch(tiny(), tmp_path / "m.pte", verify=False) is None
    assert (tmp_path / "m.pte").is_file()


def test_loading_what_is_no_program(tmp_path: Path, kernels: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        load(tmp_path / "m.pte")
    (tmp_path / "m.pte").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(ValueError, match="ExecuTorch cannot read"):
        load(tmp_path / "m.pte")


def test_program_checks_its_input(tiny_file: Path) -> None:
    program = load(tiny_file)
    with pytest.raises(ValueError, match=r"expected an input \[batch, 6\]; got \[2, 5\]"):
        program(torch.randn(2, 5))
    with pytest.raises(TypeError, match="must be float32"):
        program(torch.randn(2, 6).double())


def test_damaged_calls_are_refused(tiny_file: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "m.pte", tiny_file.read_bytes()
    header = MAGIC.to_bytes(8, "little") + VERSION.to_bytes(8, "little")
    at = data.index(header)
    for offset, number in ((8, 99), (16, 2**50), (32, 2**30), (64, 7), (72, -1)):
        path.write_bytes(data[: at + offset] + number.to_bytes(8, "little", signed=True) + data[at + offset + 8 :])
        with pytest.raises(ValueError, match="ExecuTorch cannot read"):
            load(path)


def test_message_where_no_kernels_are_loaded(tiny_file: Path, kernels: Path) -> None:
    code = f"""
from pathlib import Path
from bittern.deploy.executorch import MissingKernels, load, load_kernels, runtime
runtime.BUILD = Path("/nowhere")
try:
    load({str(tiny_file)!r})
except MissingKernels as error:
    print(error)
load_kernels({str(kernels)!r})
print(load({str(tiny_file)!r}).input_shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "needs Bittern's kernels, which are not loaded; build it with 'make edge'" in done.stdout
    assert "(6,)" in done.stdout
    assert "BitternBackend" in done.stdout + done.stderr  # ExecuTorch's own words


def test_a_library_that_is_none(tmp_path: Path) -> None:
    code = f"""
from bittern.deploy.executorch import MissingKernels, load_kernels
for path in ({str(tmp_path / "none.so")!r}, {__file__!r}):
    try:
        load_kernels(path)
    except MissingKernels as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no library" in done.stdout
    assert "does not fit the installed ExecuTorch" in done.stdout


# -- without Python ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runner() -> Path:
    build = kernels_module.BUILD.parent / "runner"
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    assert cmake is not None
    configure = [cmake, "-S", ROOT / "examples" / "edge", "-B", build, f"-Dexecutorch_DIR={cmake_config()}"]
    with building():
        for command in (configure, [cmake, "--build", build, "--parallel"]):
            done = subprocess.run([str(w) for w in command], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    return build / "bittern_runner"


def test_runner(runner: Path, tmp_path: Path, kernels: Path) -> None:
    packed = packed_of(signal_cnn(), 2, 17)
    to_executorch(packed, tmp_path / "m.pte", kernels=kernels)
    sample = torch.randn(1, 2, 17)
    sample.numpy().tofile(tmp_path / "sample.bin")
    command = [str(runner), str(tmp_path / "m.pte"), str(tmp_path / "sample.bin"), "--single-thread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    logits = torch.tensor([float(line) for line in done.stdout.splitlines()])
    assert torch.equal(logits, load(tmp_path / "m.pte")(sample)[0])
    (tmp_path / "sample.bin").write_bytes(b"1234")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "holds 4 bytes; the model takes 136" in done.stderr


def test_runner_is_short() -> None:
    assert len((ROOT / "examples" / "edge" / "main.cpp").read_text().splitlines()) < 120


def test_kernels_are_loaded_once(kernels: Path) -> None:
    kernels_module.load_kernels(kernels)
    kernels_module.load_kernels(kernels)
    assert kernels_module.kernels_loaded()
    assert issubclass(MissingKernels, RuntimeError)
