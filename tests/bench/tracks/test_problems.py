# SPDX-License-Identifier: Apache-2.0
"""Problems: parts that share no example, data that are not there, and networks that take what the problem gives."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from _few_photographs import with_few_photographs
from bittern.bench.tracks.parts import PEEK, SHOWN, VERIFIED, png, split, tensor_parts
from bittern.bench.tracks.problem import Problem, find
from bittern.bench.tracks.problems import CIFAR10_JPEG75, DIGITS, FASHION_MNIST, PROBLEMS
from bittern.binary import BNN, XNORNetPlusPlus
from bittern.data import ImageData
from bittern.nn import LowBitLayer

DATA = Path(os.environ.get("BITTERN_DATA", Path(__file__).parents[4] / "shared" / "data"))


def test_split_shares_no_example_and_grows_with_train_size() -> None:
    every, held_out = split(101, None)
    assert len(held_out) == 10
    assert sorted([*every.tolist(), *held_out.tolist()]) == list(range(101))
    few, same = split(101, 7)
    assert torch.equal(same, held_out)
    assert set(few.tolist()) < set(split(101, 30)[0].tolist()) < set(every.tolist())
    assert torch.equal(split(101, 1000)[0], every)
    assert [len(part) for part in split(2, None)] == [1, 1]


@pytest.mark.parametrize(("count", "train_size"), [(1, None), (0, None), (10, 0), (10, -1)])
def test_split_refuses_what_leaves_a_part_empty(count: int, train_size: int | None) -> None:
    with pytest.raises(ValueError, match="split: needs at least 2 examples"):
        split(count, train_size)


def test_parts_of_digits() -> None:
    parts = DIGITS.load(None, 200)
    final, choice, peek = parts.final, parts.choice, parts.peek
    assert isinstance(final, ImageData)
    assert isinstance(choice, ImageData)
    assert isinstance(peek, ImageData)
    assert final.counts[0] == choice.counts[0] == peek.counts[0] == 200
    assert choice.counts[1] == round(0.1 * DIGITS_COUNTS[0])
    assert final.counts[1] == DIGITS_COUNTS[1]
    assert torch.equal(peek.test_images, final.test_images[:PEEK])
    held_out = {image.numpy().tobytes() for image in choice.test_images}
    # two digits of the set are equal to the bit, so a few may be in both
    assert sum(image.numpy().tobytes() in held_out for image in final.train_images) <= 1
    assert parts.inputs.shape == (VERIFIED, 1, 8, 8)
    assert len(parts.shown) == SHOWN


DIGITS_COUNTS = (1438, 359)


def test_parts_of_tensors() -> None:
    train, test = (torch.arange(20.0), torch.arange(20)), (torch.arange(100.0, 103.0), torch.arange(3))
    parts = tensor_parts(train, test, 5, ["a", "b"])
    learned, held_out = parts.choice
    assert (len(learned), len(held_out), len(parts.final[1]), len(parts.peek[1])) == (5, 2, 3, 3)  # type: ignore[arg-type,index]
    assert not {float(x) for x, _ in learned} & {float(x) for x, _ in held_out}
    assert all(float(x) == int(y) for x, y in learned)
    assert parts.inputs.tolist() == [100.0, 101.0, 102.0]
    assert parts.shown == ("a", "b")


@pytest.mark.parametrize(
    "image",
    [
        torch.arange(6, dtype=torch.uint8).view(1, 2, 3) * 40,
        torch.arange(18, dtype=torch.uint8).view(3, 2, 3) * 14,
        torch.linspace(0, 1, 6).view(1, 2, 3),
    ],
)
def test_png_holds_the_pixels(image: Tensor) -> None:
    head, _, text = png(image).partition(",")
    assert head == "data:image/png;base64"
    found = torch.from_numpy(np.array(Image.open(io.BytesIO(base64.b64decode(text)))))
    wanted = image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)
    assert torch.equal(found, wanted[0] if len(image) == 1 else wanted.permute(1, 2, 0))


def test_png_refuses_other_channels() -> None:
    with pytest.raises(ValueError, match=r"1 or 3 channels, height, width\]; got \[2, 4, 4\]"):
        png(torch.zeros(2, 4, 4))


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_networks_take_inputs(problem: Problem) -> None:
    for name in problem.networks:
        for method in (None, BNN, XNORNetPlusPlus) if problem is DIGITS else (BNN,):
            model = problem.network(name).build(method).eval()
            with torch.no_grad():
                logits = model(problem.inputs(2))
            if problem.task is None:
                assert logits.shape == (2, len(problem.classes))
            assert any(isinstance(m, LowBitLayer) for m in model.modules()) == (method is not None)


def test_names_differ() -> None:
    assert len({problem.name for problem in PROBLEMS}) == len(PROBLEMS)
    assert all(problem.metric == "accuracy" for problem in PROBLEMS if problem.task is None)


def test_unknown_names() -> None:
    assert find(PROBLEMS, "digits") is DIGITS
    with pytest.raises(ValueError, match=r"bench: no task cats; there are digits, fashion_mnist"):
        find(PROBLEMS, "cats")
    with pytest.raises(ValueError, match="digits: has no network lenet; there are resnet20_cifar, vgg_small"):
        DIGITS.network("lenet")


def test_data_that_are_not_there(tmp_path: Path) -> None:
    assert DIGITS.missing(None) is None
    assert "needs a folder of data sets that holds fashion_mnist; none was given" in str(FASHION_MNIST.missing(None))
    with pytest.raises(FileNotFoundError, match=r"needs the data set fashion_mnist, which .* does not hold"):
        FASHION_MNIST.load(tmp_path)


@pytest.mark.data
@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p.folder], ids=lambda p: p.name)
def test_real_data(problem: Problem, tmp_path: Path) -> None:
    if problem.missing(DATA) is not None:
        pytest.skip("needs the real data sets")
    parts = problem.load(with_few_photographs(DATA, tmp_path) if problem is CIFAR10_JPEG75 else DATA, 100)
    assert parts.inputs.shape[1:] == problem.inputs(1).shape[1:]
    if isinstance(parts.final, ImageData):
        assert parts.final.classes == problem.classes
