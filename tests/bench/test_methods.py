# SPDX-License-Identifier: Apache-2.0
"""The table of trainings: complete, resumable, honest. Nothing here asserts an accuracy or a speed."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from bittern import binary
from bittern.bench.core.store import load
from bittern.bench.methods import run as bench
from bittern.bench.methods.report import TWIN, MethodsReport, Trained
from bittern.data import ImageData
from bittern.models import mlp
from bittern.recipes import for_method
from bittern.train import Recipe

METHODS = (None, binary.BNN)


def images(name: str = "toy", size: int = 8) -> ImageData:
    draw = torch.Generator().manual_seed(0)
    train, test = (torch.randint(256, (n, 1, size, size), generator=draw, dtype=torch.uint8) for n in (120, 30))
    labels = torch.arange(120) % 3
    return ImageData(name, ("a", "b", "c"), train, labels, test, labels[:30], (0.5,), (0.25,))


def small_run(out: Path, **changes: Any) -> MethodsReport:
    arguments: dict[str, Any] = {
        "command": "bittern bench methods --tiny",
        "epochs": 1,
        "train_size": 100,
        "seeds": (0,),
        "threads": 1,
        "methods": METHODS,
        "progress": False,
    }
    data = changes.pop("data", images())
    return bench.run(data, out=out, **{**arguments, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / "new"


@pytest.fixture(scope="module")
def report(folder: Path) -> MethodsReport:
    return small_run(folder)


def test_every_training_is_there(report: MethodsReport, folder: Path) -> None:
    assert [(r.method, r.seed) for r in report.runs] == [(TWIN, 0), ("BNN", 0)]
    assert sorted(path.name for path in folder.iterdir()) == ["methods_toy.json", "methods_toy.md"]
    assert load(folder / "methods_toy.json", MethodsReport) == report
    assert (folder / "methods_toy.md").read_text() == report.page()


def test_results_are_what_they_say(report: MethodsReport) -> None:
    twin, bnn = report.runs
    assert twin.exact is None
    assert bnn.exact is True
    assert bnn.file_bytes < twin.file_bytes
    assert all(0.0 <= r.train_accuracy <= 1.0 and 0.0 <= r.test_accuracy <= 1.0 for r in report.runs)
    setting = report.setting
    assert (setting.train_size, setting.train_available, setting.test_size) == (100, 120, 30)
    assert dict(setting.recipe)["learning_rate"] == str(bench.LEARNING_RATE)


def test_page_names_setting_machine_and_command(report: MethodsReport) -> None:
    page = report.page()
    for part in ("100 of the 120 training images", "1 epochs", "2 steps", "seeds 0", "bittern bench methods --tiny"):
        assert part in page
    assert report.machine.cpu in page
    for r in report.runs:
        assert f"| {r.method} |" in page


def test_finished_trainings_are_not_repeated(
    report: MethodsReport, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> Trained:
        raise AssertionError("trained again")

    monkeypatch.setattr(bench, "train_one", refuse)
    assert small_run(folder) == report


def test_killed_run_keeps_what_was_finished(
    report: MethodsReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def train_one(data: ImageData, method: Any, *rest: object) -> Trained:
        name = TWIN if method is None else method.__name__
        if done == [TWIN] and name == "BNN":
            done.append("killed")
            raise KeyboardInterrupt
        done.append(name)
        return next(r for r in report.runs if r.method == name)

    monkeypatch.setattr(bench, "train_one", train_one)
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path)
    assert load(tmp_path / "methods_toy.json", MethodsReport).runs == report.runs[:1]
    assert small_run(tmp_path) == report
    assert done == [TWIN, "killed", "BNN"]


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"epochs": 2}, "setting .other epochs."),
        ({"train_size": 50}, "setting .other train_size."),
        ({"seeds": (0, 1)}, "setting .other seeds."),
        ({"augment": True}, "setting .other recipe."),
        ({"threads": 2}, "machine .other threads."),
    ],
)
def test_other_settings_are_not_mixed(
    report: MethodsReport, folder: Path, change: dict[str, Any], differs: str
) -> None:
    before = (folder / "methods_toy.json").read_bytes()
    with pytest.raises(ValueError, match=differs):
        small_run(folder, **change)
    assert (folder / "methods_toy.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_size": 121}, r"train_size must lie in 50 \(one batch\) ... 120 \(all of toy\); got 121"),
        ({"train_size": 49}, "got 49"),
        ({"seeds": ()}, "seeds must be different from each other, at least one"),
        ({"seeds": (1, 1)}, r"got \[1, 1\]"),
        ({"methods": ()}, "methods must be different from each other, at least one"),
        ({"threads": 0}, "threads: must be at least 1"),
    ],
)
def test_bad_arguments(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_run(tmp_path, **change)
    assert not list(tmp_path.iterdir())


def test_images_must_be_square(tmp_path: Path) -> None:
    square = images()
    wide = dataclasses.replace(
        square, train_images=square.train_images[:, :, :4], test_images=square.test_images[:, :, :4]
    )
    with pytest.raises(ValueError, match="needs square images; got 4 x 8 in toy"):
        small_run(tmp_path, data=wide)


def test_subset_depends_on_its_size_alone() -> None:
    first, again = bench._subset(images(), 60), bench._subset(images(), 60)
    assert torch.equal(first.train_images, again.train_images)
    assert len(first.train_labels) == 60
    assert len(first.test_labels) == 30


def test_gap_is_the_mean_over_shared_seeds(report: MethodsReport) -> None:
    def result(method: str, seed: int, accuracy: float) -> Trained:
        return Trained(method, seed, 0.5, accuracy, None if method == TWIN else True, 100, 1.0)

    rows = (result(TWIN, 0, 0.9), result(TWIN, 1, 0.8), result("BNN", 0, 0.85), result("BNN", 1, 0.7))
    full = dataclasses.replace(report, runs=(*rows, result("ReCU", 2, 0.5)))
    assert full.gap_points("BNN") == pytest.approx(7.5)
    assert full.gap_points(TWIN) is None
    assert full.gap_points("ReCU") is None  # the float twin was never trained from seed 2
    page = full.page()
    assert "| BNN | 50.0 % ± 0.0 | 77.5 % ± 10.6 | 7.5 | yes | 100 |" in page


def test_disagreement_shows(report: MethodsReport) -> None:
    wrong = dataclasses.replace(report.runs[1], exact=False)
    page = dataclasses.replace(report, runs=(report.runs[0], wrong)).page()
    assert "| NO |" in page


def test_lossy_images_are_named(report: MethodsReport) -> None:
    lossy = dataclasses.replace(report, setting=dataclasses.replace(report.setting, dataset="cifar10_jpeg"))
    assert "lossy" in lossy.page()
    assert "lossy" not in report.page()


def test_all_methods_are_in_the_default() -> None:
    assert (None, *binary.COMPARED) == bench.ALL


def test_papers_recipes_are_scaled_and_named(tmp_path: Path) -> None:
    methods = (None, binary.BNN, binary.ReActNet)
    report = small_run(tmp_path, methods=methods, record_of=for_method)
    assert set(report.papers) == {"BNN", "ReActNet"}
    assert "epochs 1 of 500" in report.papers["BNN"]
    assert report.papers["ReActNet"].endswith("batches of 100 instead of 512, labels in place of a teacher")
    page = report.page()
    assert "every method, its paper's recipe" in page
    for text in report.papers.values():
        assert f"- {text}. " in page
    assert "Published: 88.6 % (CIFAR-10, VGG-like; MatthieuCourbariaux/" in page
    assert "labels in place of a teacher. Published: 65.5 to 65.9 % (ImageNet, " in page
    assert "Recipe of the float twin: batch_size 50" in page
    assert load(tmp_path / "methods_toy.json", MethodsReport) == report
    with pytest.raises(ValueError, match=r"setting .other recipe"):
        small_run(tmp_path, methods=methods)
    with pytest.raises(ValueError, match="augment=True is for the common recipe"):
        small_run(tmp_path, methods=methods, record_of=for_method, augment=True)
    with pytest.raises(ValueError, match="batch_size is for the papers' recipes; the common one has 50; got 8"):
        small_run(tmp_path, methods=methods, batch_size=8)


def test_batches_of_papers_have_a_limit(tmp_path: Path) -> None:
    methods = (binary.BNN, binary.ReCU)
    report = small_run(tmp_path, methods=methods, record_of=for_method, batch_size=60, network=mlp)
    assert "batches of" not in report.papers["BNN"]  # its authors' have 50
    assert report.papers["ReCU"].endswith("batches of 60 instead of 256")


def test_another_network(tmp_path: Path) -> None:
    report = small_run(tmp_path, network=mlp)
    assert report.setting.model == "mlp"
    assert report.page().startswith("# An MLP on toy")
    assert [r.exact for r in report.runs] == [None, True]
    with pytest.raises(ValueError, match=r"setting .other model"):
        small_run(tmp_path)


def test_common_recipe_is_recorded_as_before(report: MethodsReport) -> None:
    assert report.papers == {}
    assert {key for key, *_ in report.setting.recipe} == set(Recipe(epochs=1).identity()) - {"seed", "epochs"}
    assert "every method, one recipe" in report.page()


def test_a_partial_is_another_method(tmp_path: Path) -> None:
    two, four = (partial(binary.DoReFa, weight_bits=bits) for bits in (2, 4))
    report = small_run(tmp_path, methods=(two, four), network=mlp)
    assert [r.method for r in report.runs] == ["DoReFa(weight_bits=2)", "DoReFa(weight_bits=4)"]
    assert report.runs[0].file_bytes < report.runs[1].file_bytes
