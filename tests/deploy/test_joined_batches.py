# SPDX-License-Identifier: Apache-2.0
"""Low-bit convolutions of several batches in one, as torch.cat([a, b]) makes them, and what becomes of these."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import _quantizers
from _c_program import STRICT
from _several_inputs import assert_same
from bittern.binary import BNN
from bittern.deploy import Packed, PackError, pack, to_c, to_onnx, verify
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.packed import from_bytes
from bittern.nn import BinaryConv2d, BinaryLinear
from deploy.test_several_inputs import Doubled, by_chunk


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


class Trunk(nn.Module):
    """Two low-bit convolutions of several batches with what is fused behind them, and a mean that is not."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem, self.norm, self.activation = stem, nn.BatchNorm2d(8), nn.PReLU(8)
        self.one = BinaryConv2d(4, 8, 3, padding=1, method=BNN)
        self.two = BinaryConv2d(8, 8, 3, padding=1, method=BNN)

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.norm(self.one(self.stem(x))))
        return self.two(F.max_pool2d(y, 2)) + F.max_pool2d(y, 2)


def pair(batch: int, size: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 4, size, size), torch.randn(batch, 4, size, size)


def assert_same_everywhere(packed: Packed, model: nn.Module, example: tuple[Tensor, ...]) -> None:
    """Also of the file, and node by node."""
    again = from_bytes(packed.to_bytes())
    assert_same(packed, model, example)
    assert_same(again, model, example)
    fixed = again if not again.sizes else again.at(**{size.name: example[0].shape[2] for size in again.sizes})
    alone = Interpreter(fixed.program, fixed.tensors, fixed.device)(*example)
    assert torch.equal(alone, model(*example))


@lru_cache(maxsize=1)
def doubled() -> tuple[Packed, nn.Module]:
    model = Doubled(Trunk(nn.Identity()), by_chunk).eval()
    return pack(model, pair(3)), model


def test_convolutions_of_two_batches_in_one() -> None:
    """They go through each by itself, and no node puts the batches together where nothing asks for them."""
    packed, model = doubled()
    assert "aten" not in {node.kind for node in packed.program.nodes}
    assert sum(node.kind == "binary" for node in packed.program.nodes) == 4
    assert len(packed.tensors) == 4  # each but once
    for batch in (1, 2, 5):
        assert_same_everywhere(packed, model, pair(batch))
    found = packed.accumulators(*pair(5))
    assert {name: tuple(x.shape) for name, x in found.items()} == {
        "layer.one": (10, 8, 6, 6),
        "layer.two": (10, 8, 3, 3),
    }
    report = verify(packed, model, pair(2))
    assert report.exact
    assert [layer.name for layer in report.layers] == ["layer.one", "layer.two"]


class Triplet(nn.Module):
    """A real stem over three batches in one; halves of halves; the whole as a result too; any height and width."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk(nn.Conv2d(4, 4, 3, padding=1))
        self.head = BinaryLinear(8, 3, method=BNN)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        n = a.shape[0]
        both = self.trunk(torch.cat([torch.cat([a, b]), a.flip(3)]))
        rest = both[n:]
        near = (rest[:n] - rest[-n:]).amax((2, 3))
        return self.head(both.mean((2, 3)) - 0.25).split(n)[1] + near[:, :3]


def test_three_batches_with_sizes_that_a_call_chooses() -> None:
    model = Triplet().eval()
    sizes = {2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}
    packed = pack(model, pair(3), dynamic={"a": sizes, "b": sizes})
    for batch, size in ((1, 6), (4, 9)):
        assert_same_everywhere(packed, model, pair(batch, size))


def test_samples_by_the_frame_reach_a_convolution() -> None:
    """A view of [batch, frames, ...] is several batches too, whatever their order."""
    layer = BinaryConv2d(4, 5, 3, method=BNN)

    class Frames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(0, 1)).unflatten(0, (x.shape[0], 3)).amax((1, 3, 4))

    model = Frames().eval()
    packed = pack(model, torch.randn(2, 3, 4, 5, 5))
    assert_same_everywhere(packed, model, (torch.randn(4, 3, 4, 5, 5),))


@pytest.mark.parametrize("code", ["ternary", "terms-3-2"])
def test_a_layer_called_on_one_and_on_two_batches(code: str) -> None:
    """Accumulators are named by the call, and by the term of a weight, as those of the model."""

    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = BinaryConv2d(4, 4, 3, padding=1, method=_quantizers.METHODS[code])

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            both = self.layer(torch.cat([self.layer(a), b]))
            return self.layer(both[a.size(0) :]) - both[: a.size(0)]

    model = Calls().eval()
    assert_same_everywhere(pack(model, pair(3, 5)), model, pair(2, 5))


@pytest.mark.parametrize("frames", [17, 64])
def test_many_batches_in_one_are_refused_with_their_place(frames: int) -> None:
    model = nn.Sequential(nn.Flatten(0, 1), BinaryConv2d(1, 5, 3, method=BNN), nn.Unflatten(0, (-1, frames)))
    text = rf"layer '1' must be called with float32 \[batch, ...\], .* got torch.float32 \[{frames} \* batch, 1, 4, 4\]"
    with pytest.raises(PackError, match=text):
        pack(model, torch.randn(2, frames, 1, 4, 4))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_as_c(tmp_path: Path) -> None:
    packed, _ = doubled()
    made = to_c(packed, tmp_path / "net.c")
    library = tmp_path / "net.so"
    command = ["gcc", *STRICT, "-Wno-missing-prototypes", "-fPIC", "-shared", str(made.path), "-o", str(library), "-lm"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    given, output = pair(1), torch.empty(1, 8, 3, 3)
    ctypes.CDLL(str(library)).net_run(*(ctypes.c_void_p(x.data_ptr()) for x in (*given, output)))
    torch.testing.assert_close(output, packed(*given), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.peers("onnxscript", "onnxruntime")
def test_as_onnx(tmp_path: Path) -> None:
    packed, _ = doubled()
    report = to_onnx(packed, tmp_path / "net.onnx")
    assert report is not None
    assert report.agrees, str(report)
    assert len(report.layers) >= 8
