# SPDX-License-Identifier: Apache-2.0
"""Run folders that an earlier version wrote: they load, evaluate and go on to the weights of then."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bittern import models
from bittern.cli import main, names, run_folder
from bittern.data import ImageData
from bittern.train import evaluate

FIXTURES = Path(__file__).parent / "fixtures"
RUNS = ("adamw", "adamw_8bit", "two_stage")
STEPS = 3
"""From the checkpoint of each run to its end."""


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def small(name: str) -> Callable[..., nn.Module]:
        assert name == "mlp"
        return partial(models.mlp, widths=(64, 64))

    monkeypatch.setattr(names, "network", small)
    folder = tmp_path / request.param
    shutil.copytree(FIXTURES / request.param, folder)
    return folder


def last_stage(run: Path) -> Path:
    return run / "stage2" if (run / "stage2").is_dir() else run


def test_weights_load_and_have_the_accuracy_of_then(run: Path, data: ImageData) -> None:
    final = load_file(run / "final.safetensors")
    found, model = run_folder.trained(run)
    assert {name: (v.shape, v.dtype) for name, v in model.state_dict().items()} == {
        name: (v.shape, v.dtype) for name, v in final.items()
    }
    assert evaluate(model, data).accuracy > 0.1
    assert found.options.epochs == 2


def test_it_goes_on_to_the_weights_of_then(run: Path) -> None:
    assert main(["train", "--folder", str(run), "--resume", "--threads", "1"]) == 0
    _, model = run_folder.trained(run)
    for name, wanted in load_file(run / "final.safetensors").items():
        # on the CPU that wrote the file the weights are equal; elsewhere torch adds up in another order
        torch.testing.assert_close(model.state_dict()[name], wanted, rtol=1e-4, atol=1e-5 * STEPS, msg=name)


def test_rows_of_then_stand_in_the_log(run: Path) -> None:
    def rows() -> list[list[str]]:
        with (last_stage(run) / "log.csv").open(newline="") as file:
            return list(csv.reader(file))

    before: Any = rows()
    assert main(["train", "--folder", str(run), "--resume", "--threads", "1"]) == 0
    assert rows()[: len(before)] == before
    assert len(rows()) == 3
