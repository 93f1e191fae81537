# SPDX-License-Identifier: Apache-2.0
"""Networks that take int8 or the bytes of images and answer int8: the very integers of those that take floats."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bittern
from _c_integers import answers
from _tolerance import assert_exact
from bittern.data import normalize
from bittern.deploy import Packed, PackError, load, to_c, to_onnx
from bittern.deploy.integer_ends import End, of_reals, read_end
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.onnx import IntegerReport
from bittern.ptq import QuantizedNetwork

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HERE = pytest.mark.parametrize(
    ("input_type", "output_type"), [("int8", "int8"), ("uint8", "int8"), ("uint8", "float32"), ("int8", "float32")]
)


class Net(nn.Module):
    """The image is padded by a convolution, so that its 0 must stay an integer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 6, 3, 1, 1), nn.Conv2d(6, 6, 3, 2), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.two(F.relu(self.one(x)))).mean((2, 3)))


def images(count: int = 24) -> Tensor:
    return torch.randint(0, 256, (count, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def network() -> QuantizedNetwork:
    torch.manual_seed(0)
    return bittern.quantize(Net().eval(), normalize(images(), MEAN, STD))


def packed(network: QuantizedNetwork, input_type: str, output_type: str) -> Packed:
    return network.pack(mean=MEAN, std=STD, input_type=input_type, output_type=output_type)


def taken(own: Packed, pixels: Tensor) -> Tensor:
    """What a network with integers for its input takes of images, by what it says."""
    if own.inputs[0].type == "uint8":
        return pixels
    end = read_end(own.info, "input")
    assert end is not None
    real = normalize(pixels, MEAN, STD)
    return (torch.floor(real / end.scale + 0.5) + end.zero).clamp(-128, 127).to(torch.int8)


@HERE
def test_the_same_answers(network: QuantizedNetwork, input_type: str, output_type: str, tmp_path: Path) -> None:
    own = packed(network, input_type, output_type)
    every = torch.arange(256, dtype=torch.uint8).repeat(6)[: 8 * 3 * 9 * 7].view(8, 3, 9, 7)  # every byte a channel
    pixels = torch.cat((images(), every))
    wanted = network(normalize(pixels, MEAN, STD))
    got = own(taken(own, pixels))
    if output_type == "int8":
        end = read_end(own.info, "output")
        assert end is not None
        assert got.dtype == torch.int8
        got = (got.float() - end.zero) * end.scale
    assert_exact(got, wanted)
    assert (own.inputs[0].type, own.inputs[0].shape) == (input_type, (3, 9, 7))
    kinds = {node.kind for node in own.program.nodes}
    assert "quantize" not in kinds
    assert ("dequantize" in kinds) == (output_type == "float32")
    own.save(tmp_path / "net.bit")
    found = load(tmp_path / "net.bit")
    assert found.info == own.info
    assert_exact(found(taken(own, pixels)), own(taken(own, pixels)))
    one_by_one = Interpreter(own.program, own.tensors, own.device)
    assert_exact(one_by_one(taken(own, pixels)), own(taken(own, pixels)))


@HERE
def test_c_code(network: QuantizedNetwork, input_type: str, output_type: str, tmp_path: Path) -> None:
    own = packed(network, input_type, output_type)
    x = taken(own, images(6))
    assert_exact(answers(own, tmp_path, x), own(x))
    made, text = to_c(own, tmp_path / "net.c"), (tmp_path / "net.c").read_text()
    assert (made.input_types, made.output_type) == ((input_type,), "int8" if output_type == "int8" else "real")
    end = read_end(own.info, "input")
    assert end is not None
    assert f"#define NET_INPUT_ZERO ({end.zero})" in text
    assert "#define NET_INPUT_SCALE 0.0" in text
    assert ("#define NET_OUTPUT_SCALE 0." in text) == (output_type == "int8")
    if output_type == "int8":
        assert "float" not in re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


@pytest.mark.peers("onnxscript", "onnxruntime")
def test_onnx_looks_bytes_up(network: QuantizedNetwork, tmp_path: Path) -> None:
    report = to_onnx(packed(network, "uint8", "int8"), tmp_path / "net.onnx")
    assert isinstance(report, IntegerReport)
    assert report.layers[0].integers == 8 * 3 * 9 * 7
    assert report.layers[0].different == 0


def test_bytes_say_that_nothing_is_left_to_normalize(network: QuantizedNetwork) -> None:
    own = packed(network, "uint8", "int8")
    assert own.info["mean"] == "[0.0, 0.0, 0.0]"
    assert own.info["std"] == "[1.0, 1.0, 1.0]"
    assert read_end(own.info, "input") == End(1 / 255, 0)
    run = of_reals(own, "int8")
    assert_exact(run(images().float() / 255), network(normalize(images(), MEAN, STD)))


def test_a_network_of_reals_is_given_back(network: QuantizedNetwork) -> None:
    own = network.pack()
    assert of_reals(own, "real") is own


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ({}, "does not say their output_scale"),
        ({"output_scale": "0.1"}, "must be a number above 0 and an integer"),
        ({"output_scale": "-0.1", "output_zero": "3"}, "must be a number above 0"),
        ({"output_scale": "inf", "output_zero": "3"}, "must be a number above 0"),
        ({"output_scale": "0.1", "output_zero": "3000"}, "must be a number above 0"),
        ({"output_scale": "0.1", "output_zero": "x"}, "must be a number above 0"),
    ],
)
def test_integers_of_which_nothing_sound_is_said(network: QuantizedNetwork, info: dict[str, str], text: str) -> None:
    own = packed(network, "float32", "int8")
    del own.info["output_scale"], own.info["output_zero"]
    own.info.update(info)
    with pytest.raises(ValueError, match=text):
        of_reals(own, "int8")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"input_type": "int4"}, "input_type must be one of float32, int8, uint8; got 'int4'"),
        ({"output_type": "uint8"}, "output_type must be one of float32, int8; got 'uint8'"),
        ({"input_type": "uint8"}, "takes the bytes of images; give mean= and std="),
    ],
)
def test_types_that_are_none(network: QuantizedNetwork, options: dict[str, Any], text: str) -> None:
    with pytest.raises(PackError, match=text):
        network.pack(**options)


class FloatEnds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner, self.last = nn.LayerNorm(6), nn.Linear(6, 6), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(self.norm(x)))


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.left(a), self.right(b)


def test_ends_of_floats_are_refused_by_name() -> None:
    x = torch.randn(16, 6)
    made = bittern.quantize(FloatEnds().eval(), x)
    with pytest.raises(PackError, match=r"input_type needs one input .*read by 'norm'"):
        made.pack(input_type="int8")
    with pytest.raises(PackError, match=r"output_type='int8' needs one answer .*ends in 'last'"):
        made.pack(output_type="int8")
    two = bittern.quantize(Several().eval(), [(x, x)])
    with pytest.raises(PackError, match="this network has 2 inputs"):
        two.pack(input_type="int8")
    with pytest.raises(PackError, match="needs one answer"):
        two.pack(output_type="int8")
    rows = bittern.quantize(nn.Linear(6, 5).eval(), x)
    with pytest.raises(PackError, match=r"is for images \[channels, height, width\]"):
        rows.pack(input_type="uint8", mean=0.0, std=1.0)


def test_an_answer_that_a_layer_reads_too() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            y = self.one(x)
            return self.two(y) + y

    x = torch.randn(16, 6)
    made = bittern.quantize(Twice().eval(), x)
    own = made.pack(input_type="int8", output_type="int8")
    assert_exact(of_reals(own, "int8")(x), made(x))
