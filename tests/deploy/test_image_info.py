# SPDX-License-Identifier: Apache-2.0
"""What pack notes about images: given in full or in part, refused where it does not fit, read back from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bittern
from bittern.data import digits, normalize
from bittern.deploy.image_info import ImageInfo, read_image_info


def network(channels: int = 1) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, 10)).eval()


def test_a_data_set_says_everything(tmp_path: Path) -> None:
    data = digits()
    packed = bittern.pack(network(), normalize(data.test_images[:2], data.mean, data.std), data=data)
    packed.save(tmp_path / "packed")
    found = read_image_info(bittern.load(tmp_path / "packed").info)
    assert found == ImageInfo(data.classes, data.mean, data.std, "digits")


def test_nothing_said_is_nothing_noted() -> None:
    packed = bittern.pack(network(), torch.randn(1, 1, 8, 8))
    assert set(packed.info) == {"bittern", "model"}
    assert read_image_info(packed.info) == ImageInfo()


def test_one_number_stands_for_all_channels() -> None:
    packed = bittern.pack(network(3), torch.randn(1, 3, 8, 8), mean=0.5, std=[0.1, 0.2, torch.tensor(0.5)])
    assert json.loads(packed.info["mean"]) == [0.5, 0.5, 0.5]
    assert json.loads(packed.info["std"]) == [0.1, 0.2, 0.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["a"] * 9}, "classes need a name for each of 10 answers; got 9"),
        ({"classes": "0123456789"}, "classes must be a sequence of texts"),
        ({"classes": range(10)}, "classes must be a sequence of texts"),
        ({"mean": 0.5}, "mean and std go together"),
        ({"mean": [0.1, 0.2], "std": 1.0}, "mean needs one number for each of 1 channels; got 2"),
        ({"mean": 0.5, "std": 0.0}, "std must be finite and above 0"),
        ({"mean": float("nan"), "std": 1.0}, "mean must be finite"),
        ({"mean": "half", "std": 1.0}, "mean must be a number, or one for each channel; got 'half'"),
        ({"data": digits(), "mean": 0.5}, "data brings classes, mean and std with it"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(bittern.deploy.PackError, match=message):
        bittern.pack(network(), torch.randn(1, 1, 8, 8), **arguments)


def test_classes_need_one_answer_each() -> None:
    with pytest.raises(bittern.deploy.PackError, match="does not give one number for each class"):
        bittern.pack(nn.Conv2d(1, 2, 3).eval(), torch.randn(1, 1, 8, 8), classes=["a", "b"])


def test_arrays_are_no_tensors() -> None:
    x = torch.randn(1, 1, 8, 8)
    model = network()
    packed = bittern.pack(model, x)
    array: Any = x.numpy()
    advice = "must be a torch.Tensor; got numpy.ndarray; use torch.from_numpy"
    others = r"must be a torch.Tensor, a tuple of .* or a dict of .*; got numpy.ndarray; use torch.from_numpy"
    with pytest.raises(bittern.deploy.PackError, match=f"pack: example {others}"):
        bittern.pack(model, array)
    with pytest.raises(TypeError, match=f"packed model: the input {advice}"):
        packed(array)
    with pytest.raises(TypeError, match=f"verify: the batch {advice}"):
        bittern.verify(packed, model, array)
    nested: Any = [[1.0]]
    with pytest.raises(TypeError, match=r"got list; use torch\.as_tensor"):
        packed(nested)
