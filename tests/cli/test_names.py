# SPDX-License-Identifier: Apache-2.0
"""Strings that become objects."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from bittern import binary, models, quant
from bittern.cli import names, optimizers
from bittern.cli.errors import Misused
from bittern.data.mnist import FILES
from bittern.quantizer import InputScale


@pytest.mark.parametrize("method", [*binary.ALL, *quant.ALL])
def test_methods_in_any_case(method: type) -> None:
    for name in (method.__name__, method.__name__.lower(), method.__name__.upper()):
        assert names.method(name, ()) is method


@pytest.mark.parametrize("model", models.ALL)
def test_networks(model: Any) -> None:
    assert names.network(model.__name__) is model


def test_float_is_no_method() -> None:
    assert names.method("Float", ()) is None
    with pytest.raises(Misused, match="float has no options"):
        names.method("float", ["a=1"])


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("XNORNet", "input_scale=per_sample", {"input_scale": InputScale.PER_SAMPLE}),
        ("XNORNet", "clip_latent=1.5", {"clip_latent": 1.5}),
        ("XNORNet", "clip_latent=none", {"clip_latent": None}),
        ("XNORNet", "gradient=full", {"gradient": "full"}),
        ("BNN", "stochastic_weights=true", {"stochastic_weights": True}),
        ("DoReFa", "weight_bits=4", {"weight_bits": 4}),
        ("FDA", "omega=2", {"omega": 2.0}),
    ],
)
def test_options_take_the_type_of_their_default(name: str, text: str, expected: dict[str, Any]) -> None:
    made = names.method(name, [text])
    assert isinstance(made, partial)
    assert made.keywords == expected
    (value,) = made.keywords.values()
    assert type(value) is type(next(iter(expected.values())))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("DoReFa", "weight_bits", "'weight_bits' must be NAME=VALUE; DoReFa has the options: "),
        ("DoReFa", "width=3", "'width=3': no option of that name; DoReFa has the options: "),
        ("DoReFa", "weight_bits=two", "weight_bits must be a whole number; got 'two'"),
        ("DoReFa", "weight_bits=none", "weight_bits must be a whole number; got 'none'"),
        ("BNN", "stochastic_weights=1", "must be one of true, false; got '1'"),
        ("XNORNet", "clip_latent=x", "clip_latent must be a number or none; got 'x'"),
        ("XNORNet", "input_scale=row", "must be one of none, per_sample, spatial; got 'row'"),
        ("IRNet", "t_min=x", "t_min must be a number; got 'x'"),
        ("ReActNet", "a=1", "ReActNet has the options: none"),
    ],
)
def test_options_that_cannot_be(name: str, text: str, message: str) -> None:
    with pytest.raises(Misused, match=message):
        names.method(name, [text])


@pytest.mark.parametrize("name", [name for name in optimizers.OPTIMIZERS if "bit" in name] + ["AdamW-8bit"])
def test_low_bit_optimizers(name: str) -> None:
    bits = int(name.partition("-")[2].removesuffix("bit"))
    made = optimizers.optimizer(name)([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    assert type(made).__module__.startswith("bittern.optim")
    assert made.param_groups[0]["state_bits"] == bits


def test_optimizers() -> None:
    assert optimizers.optimizer("AdamW") is torch.optim.AdamW
    assert optimizers.optimizer("adam") is torch.optim.Adam
    sgd = optimizers.optimizer("sgd")([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    assert sgd.defaults["momentum"] == 0.9


@pytest.mark.parametrize(
    ("folder", "file", "kind"),
    [
        ("fashion_mnist", FILES[0], "fashion_mnist"),
        ("MNIST", f"{FILES[3]}.gz", "mnist"),
        ("pictures", "data_batch_1.bin", "cifar10"),
        ("pictures", "cifar-10-batches-bin/data_batch_1.bin", "cifar10"),
        ("pictures", "cifar10_small.npz", "cifar10"),
    ],
)
def test_kind_of_a_folder(tmp_path: Path, folder: str, file: str, kind: str) -> None:
    path = tmp_path / folder / file
    path.parent.mkdir(parents=True)
    path.touch()
    spec = names.data_spec(str(tmp_path / folder))
    assert spec == f"{kind}:{tmp_path / folder}"
    assert names.data_spec(spec) == spec


def test_doubtful_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no data set; put there CIFAR-10"):
        names.data_spec(str(tmp_path))
    (tmp_path / FILES[0]).touch()
    with pytest.raises(ValueError, match=r"say mnist:.* or fashion_mnist:"):
        names.data_spec(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no folder"):
        names.data_spec(str(tmp_path / "none"))


def test_relative_folders_are_remembered_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert names.data_spec("cifar10:here") == f"cifar10:{tmp_path / 'here'}"
    assert names.data_spec("digits") == "digits"
