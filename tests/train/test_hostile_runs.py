# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile files of a run folder: only the documented errors, whatever the bytes."""

from __future__ import annotations

import json
import shutil
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from bittern import models
from bittern.binary import BNN
from bittern.cli import run_folder
from bittern.train import CheckpointError, checkpoint, load_weights

RUN = Path(__file__).parent / "fixtures" / "adamw"


def small() -> nn.Module:
    return models.mlp(method=BNN, input_size=8, widths=(64, 64))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return small()


@settings(max_examples=60)
@given(data=st.data())
def test_a_checkpoint_with_other_bytes_loads_or_says_so(
    model: nn.Module, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = (RUN / "checkpoint.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", whole[:8])
    at = data.draw(st.integers(0, min(len(whole), size + 200) - 1))
    changed = data.draw(st.sampled_from(["cut", "flip", "insert"]))
    other = {
        "cut": whole[:at],
        "flip": whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :],
        "insert": whole[:at] + data.draw(st.binary(min_size=1, max_size=9)) + whole[at:],
    }[changed]
    path = tmp_path_factory.mktemp("changed") / "checkpoint.safetensors"
    path.write_bytes(other)
    with pytest.raises(CheckpointError):
        load_weights(model, path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(name=st.sampled_from(["options", "classes", "mean", "std", "input_shape", "version"]), value=JSON)
def test_a_run_file_with_other_values_loads_or_says_so(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: Any
) -> None:
    folder = tmp_path_factory.mktemp("run")
    run = json.loads((RUN / "run.json").read_text())
    for changed in ({**run, name: value}, {**run, "options": {**run["options"], "epochs": value, "method": value}}):
        (folder / "run.json").write_text(json.dumps(changed))
        with suppress(ValueError):
            run_folder.load(folder)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "3",
        "{}",
        '{"version": 2}',
        '{"version": 1, "identity": 5}',
        '{"version": 1, "step": 0, "epoch_so_far": [0, 0, 0, 0], "rows": [], "optimizer": {}}',
        '{"version": 1, "step": -1, "epoch_so_far": [0, 0, 0, 0], "rows": [], "identity": {}, "optimizer": {}}',
        '{"version": 1, "step": 1e999, "epoch_so_far": [0, 0, 0, 0], "rows": [], "identity": {}, "optimizer": {}}',
        '{"version": 1, "step": 1, "epoch_so_far": 0, "rows": [[]], "identity": {}, "optimizer": {"scalars": 3}}',
        '{"version": 1, "step": 1, "epoch_so_far": [0, 0, 0, 0], "rows": [], "identity": {}, "optimizer": []}',
    ],
)
def test_a_checkpoint_whose_checksum_fits_is_checked_all_the_same(model: nn.Module, tmp_path: Path, text: str) -> None:
    tensors = load_file(RUN / "checkpoint.safetensors")
    path = tmp_path / "checkpoint.safetensors"
    save_file(tensors, path, {"bittern_checkpoint": text, "crc32": str(checkpoint._checksum(text, tensors))})
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(CheckpointError):
        checkpoint.restore_checkpoint(path, model, optimizer, {}, torch.device("cpu"))


def test_a_run_file_with_an_integer_beyond_every_float(tmp_path: Path) -> None:
    run = json.loads((RUN / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**run, "mean": [10**400]}))
    with pytest.raises(ValueError, match="beyond its range"):
        run_folder.load(tmp_path)


def test_run_files_that_nest_or_are_no_text(tmp_path: Path) -> None:
    for text in (b"[" * 100_000, b"\xff\xfe", b'{"options": ' + b"[" * 100_000, b"NaN", b"1" * 5000):
        (tmp_path / "run.json").write_bytes(text)
        with pytest.raises(ValueError, match=r"run\.json"):
            run_folder.load(tmp_path)


def test_a_log_that_was_damaged_is_written_anew(tmp_path: Path) -> None:
    from bittern.train.history import Epoch
    from bittern.train.logs import write_csv

    shutil.copy(RUN / "log.csv", tmp_path / "log.csv")
    (tmp_path / "log.csv").write_bytes(b"\x00" * 100)
    write_csv(tmp_path, [Epoch(1, 3, 0.1, 1.0, 0.5, 1.0, 0.5, 2.0)])
    assert (tmp_path / "log.csv").read_text().splitlines()[1] == "1,3,0.1,1.0,0.5,1.0,0.5,2.0"
