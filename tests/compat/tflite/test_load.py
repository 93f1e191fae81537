# SPDX-License-Identifier: Apache-2.0
"""Files of TensorFlow Lite: what is read of them, what is refused and how, and files that are damaged."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from _tflite_cases import cases
from _tflite_files import Filed, Step, file_of, written
from _tflite_more import more, reals
from _tflite_moves import moves
from _tflite_real import network
from _tolerance import assert_exact
from bittern import load as load_packed
from bittern.compat.tflite import load, load_module
from bittern.compat.tflite.file import read_network
from bittern.compat.tflite.flatbuffer import DamagedError

CASES = {str(case): case for case in (*cases(), *moves("int8"), *more("int8"), *moves("float32"), *reals())}
ROWS = Filed((1, 4))
SUM = Step("ADD", [0, 0], [1], {0: ("b", 0)}, 11)


def loaded(folder: Path, data: bytes) -> object:
    path = folder / "net.tflite"
    path.write_bytes(data)
    return load(path)


def test_a_batch_is_its_samples_and_a_saved_file_answers_alike(tmp_path: Path) -> None:
    data, x = CASES["conv-same-stride23-dilation11"].made()
    (tmp_path / "net.tflite").write_bytes(data)
    packed = load(tmp_path / "net.tflite")
    inputs = torch.from_numpy(x)
    together = packed(inputs)
    assert together.dtype == torch.int8
    assert_exact(torch.cat([packed(one[None]) for one in inputs]), together)
    packed.save(tmp_path / "net.bit")
    again = load_packed(tmp_path / "net.bit")
    assert_exact(again(inputs), together)
    assert again.info["model"] == "net.tflite"
    assert float(again.info["input_scale"]) > 0


def test_images_are_turned_once(tmp_path: Path) -> None:
    data, _ = CASES["joined"].made()
    (tmp_path / "net.tflite").write_bytes(data)
    kinds = [node.kind for node in load(tmp_path / "net.tflite").program.nodes]
    assert kinds.count("integer_max") == 1
    assert [k for k in kinds if k != "integer_max"] == ["aten"] * 5  # pad, turn, turn back, join, reshape


def opened(label: str, folder: Path) -> tuple[Path, torch.Tensor]:
    data, x = CASES[label].made()
    path = folder / "net.tflite"
    path.write_bytes(data)
    return path, torch.from_numpy(x)


def test_a_network_of_float32_is_layers_of_torch_and_packs(tmp_path: Path) -> None:
    path, x = opened("conv-real", tmp_path)
    module = load_module(path)
    assert [type(layer).__name__ for layer in module.layers.values()] == [
        *("Permute", "Pad", "Conv2d", "ReLU6", "Permute")
    ]
    assert module(x).shape == (5, 3, 4, 7)
    assert_exact(load(path)(x), module(x).detach())
    module(x).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_weights_of_few_bytes_and_several_results(tmp_path: Path) -> None:
    data, dense, up = network()
    path = tmp_path / "net.tflite"
    path.write_bytes(data)
    module, x = load_module(path), torch.randn(2, 3, 5, 6)
    larger, own = module(x)
    wanted = F.relu(x.permute(0, 3, 1, 2).transpose(1, -1) @ torch.from_numpy(dense[:, 0, 0]).float().T).transpose(
        1, -1
    )
    torch.testing.assert_close(own.permute(0, 3, 1, 2), wanted)
    weight, bias = torch.from_numpy(up).permute(3, 0, 1, 2), torch.tensor([0.5, -1.0, 2.0])
    torch.testing.assert_close(larger.permute(0, 3, 1, 2), F.conv_transpose2d(wanted, weight, bias, 2))
    for found, exact in zip(load(path)(x), (larger, own), strict=True):
        assert_exact(found, exact.detach())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"order": [0, 1, 2, 2]}, "levels for 4 dimensions"),
        ({"segments": np.array([0, 9, 3, 4, 5], np.uint8)}, "segments"),
        ({"segments": np.array([0, 1], np.uint8)}, "segments"),
        ({"places": np.full(20, 6, np.uint8)}, "places outside"),
        ({"kind": 7}, "places of the type 7"),
        ({"options": b"1234"}, "must be three numbers"),
        ({"options": bytes(12)}, "must be 1 or more"),
    ],
)
def test_damaged_weights_of_few_bytes(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(network(**wrong)[0])
    with pytest.raises(ValueError, match=said):
        load_module(path)


def test_networks_of_integers_are_no_layers(tmp_path: Path) -> None:
    path, _ = opened("conv-each=True", tmp_path)
    with pytest.raises(ValueError, match="it computes with integers; load it as a packed model"):
        load_module(path)


def left_out(tensors: list[Filed], steps: list[Step]) -> None:
    steps[0] = replace(steps[0], inputs=[0, -1])


def moved_batch(tensors: list[Filed], steps: list[Step]) -> None:
    tensors.append(Filed((2,), "int32", [], [], 0, np.array([1, 0], np.int32)))
    steps[0] = Step("TRANSPOSE", [0, 2], [1], {})


def cut_beyond(tensors: list[Filed], steps: list[Step]) -> None:
    tensors += [Filed((2,), "int32", [], [], 0, np.array([0, at], np.int32)) for at in (2, 3)]
    steps[0] = Step("SLICE", [0, 2, 3], [1], {})


def flat_amounts(tensors: list[Filed], steps: list[Step]) -> None:
    tensors.append(Filed((4,), "int32", [], [], 0, np.zeros(4, np.int32)))
    steps[0] = Step("PAD", [0, 2], [1])


def other_scale(tensors: list[Filed], steps: list[Step]) -> None:
    tensors[1] = replace(tensors[1], scales=[0.25])
    steps[0] = Step("MAXIMUM", [0, 0], [1], {})


Change = Callable[[list[Filed], list[Step]], None]


def two_unknown(tensors: list[Filed], steps: list[Step]) -> None:
    steps[:] = [Step("LSTM", [0], [1]), Step("COS", [0], [1]), Step("LSTM", [0], [1])]


def two_scales(tensors: list[Filed], steps: list[Step]) -> None:
    tensors[0] = Filed((1, 4), scales=[0.5, 0.25, 1.0, 2.0], zeros=[0] * 4, dim=1)


def of_uint8(tensors: list[Filed], steps: list[Step]) -> None:
    tensors[1] = replace(tensors[1], type="uint8")


def a_tanh(tensors: list[Filed], steps: list[Step]) -> None:
    steps[0] = replace(steps[0], options={0: ("b", 4)})


def no_scale(tensors: list[Filed], steps: list[Step]) -> None:
    tensors[0] = replace(tensors[0], scales=[0.0])


def infinite(tensors: list[Filed], steps: list[Step]) -> None:
    tensors[0] = replace(tensors[0], scales=[float("inf")])


def out_of_order(tensors: list[Filed], steps: list[Step]) -> None:
    tensors.append(ROWS)
    steps[0] = replace(steps[0], inputs=[0, 2])


def beyond(tensors: list[Filed], steps: list[Step]) -> None:
    steps[0] = replace(steps[0], inputs=[0, 7])


def nothing_read(tensors: list[Filed], steps: list[Step]) -> None:
    steps[0] = replace(steps[0], inputs=[])


def unknown_size(tensors: list[Filed], steps: list[Step]) -> None:
    tensors[0] = replace(tensors[0], shape=(1, -1))


def short(tensors: list[Filed], steps: list[Step]) -> None:
    tensors.append(Filed((1, 9), data=np.zeros((1, 4), np.int8)))


def another_batch(tensors: list[Filed], steps: list[Step]) -> None:
    steps[0] = Step("RESHAPE", [0], [1])
    tensors[1] = Filed((4, 1))


def another_answer(tensors: list[Filed], steps: list[Step]) -> None:
    steps[0] = Step("SOFTMAX", [0], [1], {0: ("f", 1.0)}, 9)


def no_options(tensors: list[Filed], steps: list[Step]) -> None:
    steps[0] = Step("SOFTMAX", [0], [1], None)
    tensors[1] = Filed((1, 4), scales=[1 / 256], zeros=[-128])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (two_unknown, r"has operators that are not read: COS, LSTM; there are CONV_2D, DEPTHWISE_CONV_2D"),
        (two_scales, r"operator 0 \(ADD\): tensor 'tensor 0' must be int8 with one scale; got int8, 4 scales"),
        (of_uint8, r"operator 0 \(ADD\): tensor 'tensor 1' must be int8 with one scale; got uint8"),
        (left_out, r"operator 0 \(ADD\): it leaves out what it must read"),
        (moved_batch, r"operator 0 \(TRANSPOSE\): it must order the dimensions behind the batch; got \[1, 0\]"),
        (cut_beyond, r"operator 0 \(SLICE\): it must cut \[1, 4\] out of \[1, 4\]"),
        (flat_amounts, r"operator 0 \(PAD\): its amounts must be two numbers from 0 on for each dimension"),
        (other_scale, r"operator 0 \(MAXIMUM\): tensors .* must have one type, scale and zero point"),
        (a_tanh, r"operator 0 \(ADD\): its fused activation is number 4"),
        (no_scale, "tensor 'tensor 0': needs one finite scale above 0"),
        (infinite, "tensor 'tensor 0': needs one finite scale above 0"),
        (out_of_order, r"operator 0 \(ADD\): it reads what nothing wrote"),
        (beyond, r"it names tensors \[0, 7\]; there are 2"),
        (nothing_read, r"operator 0 \(ADD\): it reads 0 tensors and writes 1"),
        (unknown_size, r"tensor 'tensor 0' has the shape \[1, -1\]; sizes must be known"),
        (short, r"tensor 'tensor 2' of \[1, 9\] int8 has 4 bytes"),
        (another_batch, r"operator 0 \(RESHAPE\): it must keep the batch of 1 first"),
        (another_answer, r"operator 0 \(SOFTMAX\): .* its result has the scale 1/256 about -128"),
        (no_options, r"operator 0 \(SOFTMAX\): it has no options"),
    ],
)
def test_refuses(tmp_path: Path, change: Change, message: str) -> None:
    tensors, steps = [ROWS, ROWS], [SUM]
    loaded(tmp_path, file_of(tensors, steps, [0], [1]))  # is read as it is
    change(tensors, steps)
    with pytest.raises(ValueError, match=message) as error:
        loaded(tmp_path, file_of(tensors, steps, [0], [1]))
    assert str(error.value).startswith(f"tflite: {tmp_path / 'net.tflite'}: ")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "its bytes 4 to 8 must be b'TFL3'; got b''"),
        (b"\0\0\0\0TFL3", "its version is 0"),
        (b"\xff\xff\xff\x7fTFL3", "it points to byte 2147483647; the file has 8"),
        (written({0: ("I", 4)}), "its version is 4; this bittern reads version 3"),
        (file_of([ROWS, ROWS], [SUM], [0], [1], graphs=2), "it has 2 graphs; networks have one"),
        (file_of([ROWS, ROWS], [SUM], [0, 1], [1]), "it has 2 inputs and 1 results; one of each is read"),
        (file_of([ROWS, ROWS], [], [0], [1]), "nothing writes its result"),
    ],
)
def test_refuses_bytes(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loaded(tmp_path, data)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.tflite")


@pytest.mark.parametrize("label", ["conv-groups", "joined", "softmax-0.2-2.5-33", "chain", "strided-int8", "conv-real"])
def test_damaged_files_are_refused_or_read(tmp_path: Path, label: str) -> None:
    whole, _ = CASES[label].made()
    r, errors = random.Random(0), []
    for _ in range(80):
        data = bytearray(whole)
        for _ in range(r.choice((1, 1, 2, 8))):
            place = r.randrange(len(data))
            data[place] = r.choice((0, 1, 127, 128, 255, r.randrange(256)))
        if r.random() < 0.2:
            del data[r.randrange(len(data)) :]
        try:
            loaded(tmp_path, bytes(data))
        except ValueError as error:
            errors.append(str(error))
    assert 0 < len(errors) < 80
    assert all(error.startswith("tflite: ") for error in errors)


def test_every_cut_is_refused() -> None:
    whole, _ = CASES["linear-one scale-bias"].made()
    for length in range(0, len(whole) - 64, 7):
        with pytest.raises(DamagedError):
            read_network(whole[:length])


def test_the_snippet_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "tflite.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    data, _ = CASES["conv-each=True"].made()
    monkeypatch.chdir(tmp_path)
    Path("kws_dscnn_int8.tflite").write_bytes(data)
    names: dict[str, Any] = {}
    exec(compile(snippet.replace("(8, 49, 10, 1", "(8, 9, 8, 6"), "tflite.md", "exec"), names)
    assert len(names["answers"]) == 8
    assert Path("kws.bit").is_file()
