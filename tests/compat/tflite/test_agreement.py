# SPDX-License-Identifier: Apache-2.0
"""The integers of a file are those of LiteRT's reference kernels, bit for bit; some files are of other people."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from _tflite_cases import Case, cases
from _tflite_more import more, reals
from _tflite_moves import moves
from _tflite_real import network
from _tflite_recurrent import recurrent
from _tolerance import assert_reduction
from bittern.compat.tflite import load, load_module

pytestmark = pytest.mark.peers("ai_edge_litert")

DATA = Path(os.environ.get("BITTERN_DATA", Path(__file__).parents[4] / "shared" / "data"))
Numbers = npt.NDArray[np.generic]


def by_litert(data: bytes, x: Numbers) -> Numbers:
    """What LiteRT's reference kernels answer, one sample after another."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    made = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    made.allocate_tensors()
    (given,), (answer,) = made.get_input_details(), made.get_output_details()
    found = []
    for one in x:
        made.reset_all_variables()
        made.set_tensor(given["index"], one[None])
        made.invoke()
        found.append(made.get_tensor(answer["index"]))
    return np.concatenate(found)


def assert_agrees(path: Path, x: Numbers, batch: int = 50) -> Numbers:
    wanted, packed = by_litert(path.read_bytes(), x), load(path)
    found = np.concatenate([packed(torch.from_numpy(x[i : i + batch])).numpy() for i in range(0, len(x), batch)])
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)
    return found


@pytest.mark.parametrize("case", [*cases(), *moves("int8"), *more("int8"), *recurrent()], ids=str)
def test_every_operator(case: Case, tmp_path: Path) -> None:
    data, x = case.made()
    path = tmp_path / "net.tflite"
    path.write_bytes(data)
    found = assert_agrees(path, x)
    assert case.label == "softmax-0.01-1.0-1" or len(np.unique(found)) > 1


LONGEST_SUM, LARGEST_TERM = 64, 16.0
"""Of the networks of one operator, in numbers and in their size."""


@pytest.mark.parametrize("case", [*reals(), *moves("float32"), *more("float32")], ids=str)
def test_every_operator_of_float32(case: Case, tmp_path: Path) -> None:
    """Both, and the packed model, are compared with the layers in float64."""
    data, x = case.made()
    path = tmp_path / "net.tflite"
    path.write_bytes(data)
    exact = load_module(path).double()(torch.from_numpy(x).double()).detach()
    for found in (torch.from_numpy(by_litert(data, x)), load(path)(torch.from_numpy(x))):
        assert_reduction(found, exact, LONGEST_SUM, max(LARGEST_TERM, float(exact.abs().max())))


def test_weights_of_few_bytes(tmp_path: Path) -> None:
    data, _, _ = network()
    (tmp_path / "net.tflite").write_bytes(data)
    x = np.random.default_rng(0).standard_normal((3, 3, 5, 6)).astype(np.float32)
    found = load(tmp_path / "net.tflite")(torch.from_numpy(x))
    for wanted, own in zip(all_by_litert(data, x), found, strict=True):
        np.testing.assert_allclose(own.numpy(), wanted, atol=1e-5)


def all_by_litert(data: bytes, x: Numbers) -> list[Numbers]:
    """All results, one sample after another, by the kernels that LiteRT chooses."""
    from ai_edge_litert.interpreter import Interpreter

    made = Interpreter(model_content=data, num_threads=1)
    made.allocate_tensors()
    (given,) = made.get_input_details()
    found = []
    for one in x:
        made.set_tensor(given["index"], one[None])
        made.invoke()
        found.append([made.get_tensor(answer["index"]) for answer in made.get_output_details()])
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


PEOPLE = {
    "pose_mobile_models/cpm": (192, 192, 1.0),
    "pose_mobile_models/hourglass": (192, 192, 1.0),
    "mediapipe_person/pose_detection": (224, 224, 255.0),
    "mediapipe_person/pose_landmark_lite": (256, 256, 255.0),
    "mediapipe_person/selfie_segmentation": (256, 256, 255.0),
    "mediapipe_person/selfie_segmentation_landscape": (144, 256, 255.0),
}
"""Height, width, and by what pixels are divided."""


@pytest.mark.data
@pytest.mark.parametrize("name", PEOPLE)
def test_float_networks_that_look_for_people(name: str) -> None:
    path, (height, width, most) = DATA / f"{name}.tflite", PEOPLE[name]
    if not path.is_file():
        pytest.skip("needs the real data sets")
    image = Image.open(DATA / "photos_sr" / "astronaut.png").convert("RGB").resize((width, height))
    x = (np.asarray(image)[None] / most).astype(np.float32)
    found = load_module(path)(torch.from_numpy(x))
    own = [y.detach().numpy() for y in (found if isinstance(found, tuple) else (found,))]
    for y, wanted in zip(own, all_by_litert(path.read_bytes(), x), strict=True):
        np.testing.assert_allclose(y, wanted, atol=2e-4 * float(np.abs(wanted).max()))


def clips(count: int) -> tuple[Numbers, Numbers]:
    """(key words as int8 MFCC, their labels)."""
    with np.load(DATA / "kws01_speech_commands" / "kws01_mfcc_int8.npz", allow_pickle=False) as arrays:
        return arrays["x"][:count].reshape(-1, 49, 10, 1), arrays["y"][:count]


def photographs(count: int) -> tuple[Numbers, Numbers]:
    """(the first test images of CIFAR-10 about -128, their labels)."""
    with np.load(next((DATA / "cifar10_jpeg75").glob("*.npz")), allow_pickle=False) as arrays:
        jpeg, offsets, labels = (arrays[key] for key in ("test_jpeg", "test_offsets", "y_test"))
    pixels = [Image.open(io.BytesIO(jpeg[offsets[i] : offsets[i + 1]].tobytes())) for i in range(count)]
    return (np.stack([np.asarray(image) for image in pixels]).astype(np.int16) - 128).astype(np.int8), labels[:count]


def pieces(count: int) -> tuple[Numbers, None]:
    """Pieces of photographs, 96 x 96, about -128; nobody says what is on them."""
    draw = np.random.default_rng(0)
    images = [
        np.asarray(Image.open(DATA / "photos_sr" / f"{name}.png").convert("RGB"))
        for name in ("astronaut", "coffee", "chelsea")
    ]
    found = []
    for index in range(count):
        image = images[index % len(images)]
        row, column = (draw.integers(size - 96) for size in image.shape[:2])
        found.append(image[row : row + 96, column : column + 96])
    return (np.stack(found).astype(np.int16) - 128).astype(np.int8), None


Inputs = Callable[[int], tuple[Numbers, Numbers | None]]
NETWORKS = pytest.mark.parametrize(
    ("name", "inputs", "accuracy"),
    [("kws_dscnn", clips, 0.901), ("ic_resnet8", photographs, None), ("vww_mobilenet025", pieces, None)],
)


def check_network(name: str, inputs: Inputs, count: int) -> tuple[Numbers, Numbers | None]:
    path = DATA / "mlperf_tiny_models" / f"{name}_int8.tflite"
    if not path.is_file():
        pytest.skip("needs the real data sets")
    x, labels = inputs(count)
    return assert_agrees(path, x).argmax(1), labels


@pytest.mark.data
@NETWORKS
def test_networks_of_mlperf_tiny(name: str, inputs: Inputs, accuracy: float | None) -> None:
    check_network(name, inputs, 60)


@pytest.mark.data
@pytest.mark.slow
@NETWORKS
def test_networks_of_mlperf_tiny_on_a_thousand_inputs(name: str, inputs: Inputs, accuracy: float | None) -> None:
    answers, labels = check_network(name, inputs, 1000)
    if accuracy is not None:
        assert labels is not None
        assert round(float((answers == labels).mean()), 3) == accuracy


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "shape"),
    [("ad_autoencoder", (640,)), ("ic_resnet8", (32, 32, 3)), ("vww_mobilenet025", (96, 96, 3))],
)
def test_float_networks_of_mlperf_tiny(name: str, shape: tuple[int, ...]) -> None:
    path = DATA / "mlperf_tiny_models" / f"{name}_float.tflite"
    if not path.is_file():
        pytest.skip("needs the real data sets")
    x = np.random.default_rng(0).random((4, *shape)).astype(np.float32)
    exact = load_module(path).double()(torch.from_numpy(x).double()).detach()
    for found in (torch.from_numpy(by_litert(path.read_bytes(), x)), load(path)(torch.from_numpy(x))):
        assert_reduction(found, exact, 640, float(exact.abs().max()))
