# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from bittern.data import ImageData, channel_statistics


def small(**changes: Any) -> ImageData:
    parts = {
        "name": "small",
        "classes": ("a", "b"),
        "train_images": torch.zeros(3, 1, 2, 2, dtype=torch.uint8),
        "train_labels": torch.tensor([0, 1, 1]),
        "test_images": torch.zeros(2, 1, 2, 2, dtype=torch.uint8),
        "test_labels": torch.tensor([0, 1]),
        "mean": (0.5,),
        "std": (0.5,),
    }
    return ImageData(**(parts | changes))


def test_accepts_a_consistent_set() -> None:
    assert small().image_shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"classes": ()}, ValueError, "at least one class"),
        ({"train_images": torch.zeros(3, 1, 2, 2, dtype=torch.float64)}, TypeError, "uint8 or float32"),
        ({"train_labels": torch.tensor([0, 1, 1], dtype=torch.int32)}, TypeError, "int64"),
        ({"train_images": torch.zeros(3, 4, dtype=torch.uint8)}, ValueError, "channels, height, width"),
        ({"train_images": torch.zeros(0, 1, 2, 2), "train_labels": torch.zeros(0).long()}, ValueError, "not empty"),
        ({"train_labels": torch.tensor([0, 1])}, ValueError, "one label per image"),
        ({"train_labels": torch.tensor([0, 1, 2])}, ValueError, r"0 \.\.\. 1"),
        ({"test_labels": torch.tensor([-1, 1])}, ValueError, r"got -1 \.\.\. 1"),
        ({"test_images": torch.zeros(2, 1, 3, 2, dtype=torch.uint8)}, ValueError, "alike"),
        ({"test_images": torch.zeros(2, 1, 2, 2)}, ValueError, "alike"),
        ({"test_images": torch.full((2, 1, 2, 2), float("nan"))}, ValueError, "finite"),
        ({"mean": (0.5, 0.5)}, ValueError, "one mean"),
        ({"std": (0.0,)}, ValueError, "positive std"),
        ({"std": (float("nan"),)}, ValueError, "positive std"),
    ],
)
def test_refuses_parts_that_do_not_fit(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        small(**changes)


def test_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        small().name = "other"  # type: ignore[misc]


def test_statistics_of_uint8_equal_those_of_the_same_brightness_in_float64() -> None:
    images = torch.randint(0, 256, (11, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = channel_statistics(images)
    brightness = images.double() / 255
    torch.testing.assert_close(torch.tensor(mean).double(), brightness.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.tensor(std).double(), brightness.std((0, 2, 3), correction=0), rtol=1e-6, atol=0)


def test_statistics_of_floats() -> None:
    mean, std = channel_statistics(torch.tensor([0.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 2))
    assert (mean, std) == ((0.5,), (0.5,))


def test_statistics_of_nothing() -> None:
    with pytest.raises(ValueError, match="needs images"):
        channel_statistics(torch.zeros(0, 1, 2, 2))
