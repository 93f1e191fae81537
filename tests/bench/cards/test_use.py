# SPDX-License-Identifier: Apache-2.0
"""What a published network makes of a raw example is what it was trained on."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from _few_photographs import with_few_photographs
from _tolerance import assert_exact, assert_reduction
from bittern.bench.tracks.parts import Parts
from bittern.bench.tracks.problem import Problem, find
from bittern.bench.tracks.problems import CIFAR10_JPEG75, DIGITS, PROBLEMS
from bittern.bench.tracks.problems.wand import test_part as wand_test_part
from bittern.data import ImageData, clinc150, spoken_digits, strokes
from bittern.data.npz import read_npz
from bittern.data.spoken_digits import LOUDEST, TEST_TAKES
from bittern.pretrained.use import Use, read_use

DATA = Path(os.environ.get("BITTERN_DATA", Path(__file__).parents[4] / "shared" / "data"))


def _raw(task: str, parts: Parts) -> list[Any]:
    """The first test examples, as a user has them."""
    if isinstance(parts.final, ImageData):
        return list(parts.final.test_images[:3])
    folder = DATA / (find(PROBLEMS, task).folder or "")
    if task == "intents":
        return list(clinc150(folder).test.texts[:3])
    if task == "spoken_digits":
        sound = spoken_digits(folder)
        chosen = (sound.takes < TEST_TAKES).nonzero().flatten().tolist()[:3]
        return [sound.recording(i) / LOUDEST for i in chosen]
    if task == "wand":
        found = strokes(folder)
        return [found.points[i] for i in wand_test_part(found.labels).nonzero().flatten().tolist()[:3]]
    assert task == "blood_cells", f"say what a raw example of {task} is"
    kinds = {"jpeg": np.uint8, "offsets": np.int64, "split": np.int8}
    arrays = read_npz(folder / "bccd.npz", {key: np.dtype(kind) for key, kind in kinds.items()})
    jpeg, offsets = arrays["jpeg"], arrays["offsets"]
    chosen = np.flatnonzero(arrays["split"] == 2)[:3]
    return [Image.open(io.BytesIO(jpeg[offsets[i] : offsets[i + 1]].tobytes())) for i in chosen]


def _check(problem: Problem, data: Path | None) -> Use:
    assert problem.use is not None
    use, parts = problem.use(data), problem.load(data, 100)
    assert read_use(use.to_info()) == use
    assert use.preparation.shape == parts.inputs.shape[1:]
    assert use.classes == problem.classes or problem.task is not None
    for raw, wanted in zip(_raw(problem.name, parts), parts.inputs, strict=False):
        prepared = use.preparation(raw).x[0]
        if problem.name == "spoken_digits":  # sums over frequencies, in another order for another batch
            assert_reduction(prepared, wanted.double(), 129, 4.0)
        else:
            assert_exact(prepared, wanted)
    return use


def test_digits() -> None:
    assert _check(DIGITS, None).classes == tuple("0123456789")


@pytest.mark.data
@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p.use and p.folder and p.licence], ids=lambda p: p.name)
def test_every_task_that_publishes(problem: Problem, tmp_path: Path) -> None:
    if problem.missing(DATA) is not None:
        pytest.skip("needs the real data sets")
    _check(problem, with_few_photographs(DATA, tmp_path) if problem is CIFAR10_JPEG75 else DATA)
