# SPDX-License-Identifier: Apache-2.0
"""The papers' recipes: one for each method, scaled honestly, and fit for `train`."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from bittern import binary, data, quant, recipes
from bittern.data import ImageData, RandomCropFlip
from bittern.models import mlp
from bittern.nn.parameters import parameter_groups
from bittern.recipes import PaperRecipe, for_method
from bittern.train import CrossEntropy, Distillation, SquaredHinge, Steps, train, train_two_stage

every_record = pytest.mark.parametrize("record", recipes.ALL, ids=lambda r: r.name)


def test_every_method_has_a_recipe() -> None:
    assert [record.method for record in recipes.ALL] == [*binary.ALL, *quant.ALL]


def test_recipe_of_a_method_or_of_a_partial_of_it() -> None:
    assert for_method(binary.ReCU) is recipes.RECU
    assert for_method(partial(binary.BNN, limit=1.3)) is recipes.BNN

    class Own(binary.BNN):
        pass

    with pytest.raises(ValueError, match=r"no paper's recipe for Own; there are those of BNN, .*write a train\.Recipe"):
        for_method(Own)


def test_numbers_are_the_authors() -> None:
    """As their files have them, read once more by hand."""
    rates = {r.name: (r.epochs, r.batch_size, r.learning_rate) for r in recipes.ALL}
    assert rates == {
        "BNN": (500, 50, 1e-3),
        "XNORNet": (55, 800, 1e-3),
        "DoReFa": (200, 128, 1e-3),
        "BiRealNet": (256, 512, 1e-3),
        "XNORNetPlusPlus": (90, 256, 1e-3),
        "ReActNet": (128, 512, 2.5e-3),
        "ReCU": (600, 256, 0.1),
        "FDA": (400, 128, 0.1),
        "IRNet": (400, 128, 0.1),
        "ReSTE": (1000, 256, 0.1),
        "RBNN": (1000, 256, 0.1),
        "FracBNN": (250, 128, 1e-3),
        "EWGS": (400, 256, 1e-3),
        "BiT": (10, 8, 1e-4),
        "SiMaN": (400, 256, 0.1),
        "BNNPlus": (500, 50, 1e-3),
        "BiPer": (300, 256, 3.7e-3),
        "ReBNN": (128, 512, 2.5e-3),
        "BNext": (512, 512, 1e-3),
        "DSQ": (400, 128, 0.1),
        "HORQ": (55, 800, 1e-3),
        "ABCNet": (55, 800, 1e-3),
        "AdaBin": (400, 128, 0.1),
        "RealToBinary": (75, 256, 2e-4),
        "BiBERT": (10, 16, 1e-4),
        "ABBNN": (256, 256, 1e-3),
        "BMXNet": (100, 256, 0.5),
        "BWN": (55, 128, 1e-2),
        "TWN": (25, 50, 1e-2),
        "TTQ": (400, 128, 0.1),
        "Alternating": (55, 128, 1e-2),
        "OneBit": (50, 128, 4e-4),
        "ParetoQ": (1, 2, 2e-5),
        "BitNet": (1, 128, 1.5e-3),
        "DynamicFixedPoint": (90, 512, 1e-2),
        "IntegerOnly": (90, 512, 1e-2),
        "FQN": (90, 512, 1e-2),
        "PACT": (200, 128, 0.1),
        "LSQ": (90, 512, 1e-2),
        "TQT": (5, 512, 1e-2),
        "LSQPlus": (90, 512, 1e-2),
        "WAGE": (300, 128, 8.0),
        "GFPQ": (5, 128, 1e-4),
        "MSFP": (5, 128, 1e-4),
        "UI8": (100, 256, 0.1),
    }
    decays = {r.name: (r.first_decay, r.decay) for r in recipes.ALL if any(r.decay) or r.first_decay}
    assert decays == {
        "XNORNet": (None, (5e-4, 0, 0)),
        "DoReFa": (None, (1e-7, 0, 0)),
        "XNORNetPlusPlus": ((1e-2, 1e-2, 1e-2), (0, 0, 0)),
        "ReActNet": ((1e-5, 0, 0), (0, 0, 0)),
        "ReCU": (None, (5e-4, 5e-4, 5e-4)),
        "FDA": (None, (1e-4, 1e-4, 1e-4)),
        "IRNet": (None, (1e-4, 1e-4, 1e-4)),
        "ReSTE": (None, (1e-4, 1e-4, 1e-4)),
        "RBNN": (None, (1e-4, 1e-4, 1e-4)),
        "FracBNN": ((1e-5, 1e-5, 1e-5), (0, 0, 0)),
        "EWGS": (None, (1e-4, 1e-4, 1e-4)),
        "BiT": (None, (1e-2, 1e-2, 0)),
        "SiMaN": (None, (5e-4, 0, 5e-4)),
        "BiPer": (None, (1.6e-4, 1.6e-4, 1.6e-4)),
        "ReBNN": ((1e-5, 0, 0), (0, 0, 0)),
        "BNext": (None, (1e-8, 1e-8, 1e-3)),
        "DSQ": (None, (1e-4, 1e-4, 0)),
        "HORQ": (None, (5e-4, 0, 0)),
        "ABCNet": (None, (5e-4, 0, 0)),
        "AdaBin": (None, (1e-4, 1e-4, 1e-4)),
        "RealToBinary": ((2e-5, 0, 0), (0, 0, 0)),
        "BiBERT": (None, (1e-2, 1e-2, 0)),
        "ABBNN": ((5e-6, 0, 0), (0, 0, 0)),
        "BMXNet": (None, (1e-4, 1e-4, 0)),
        "BWN": (None, (5e-4, 0, 0)),
        "TWN": (None, (1e-4, 1e-4, 1e-4)),
        "TTQ": (None, (2e-4, 2e-4, 0)),
        "Alternating": (None, (5e-4, 0, 0)),
        "OneBit": (None, (1e-2, 1e-2, 0)),
        "BitNet": (None, (0.1, 0.1, 0)),
        "PACT": (None, (2e-4, 2e-4, 2e-4)),
        **dict.fromkeys(
            ("DynamicFixedPoint", "IntegerOnly", "FQN", "LSQ", "TQT", "LSQPlus", "UI8"), (None, (1e-4, 1e-4, 0))
        ),
    }
    assert recipes.BNN.loss == SquaredHinge()
    assert recipes.BNN.glorot_rates
    assert recipes.BIREAL_NET.loss == CrossEntropy(0.1)
    assert recipes.REACTNET.distillation == Distillation()


def test_last_rates_are_the_authors() -> None:
    # 3e-7 after 500 epochs; 1e-2, 5e-3, 1e-3, 5e-4, 1e-4 of SGD, a tenth with Adam, from epochs 1, 19, 30, 44, 53
    assert 1e-3 * recipes.BNN.schedule(4999, 5000) == pytest.approx(3e-7, rel=0.01)
    rates = [1e-3 * recipes.XNOR_NET.schedule(epoch - 1, 55) for epoch in (1, 18, 19, 29, 30, 43, 44, 52, 53, 55)]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 1e-4, 1e-4, 5e-5, 5e-5, 1e-5, 1e-5])
    recu = [recipes.RECU.schedule(epoch, 600) for epoch in range(600)]
    assert recu[5] == max(recu) == 1.0


def test_papers_on_training_have_records_of_their_own() -> None:
    """AdamBNN's two run.sh; Bop's hyper-parameters of section 5.2; BayesBiNN's main_cifar10.py."""
    first, second = recipes.ADAM_BNN.stages()
    assert (first.weight_decay, second.weight_decay) == (5e-6, 0.0)
    assert {(s.epochs, s.batch_size, s.learning_rate, s.optimizer) for s in (first, second)} == {
        (256, 256, 1.25e-3, torch.optim.Adam)
    }
    assert str(recipes.ADAM_BNN) == "AdamBNN (ImageNet, ReActNet-A), all 256 epochs of each stage"
    bop, rest = recipes.BOP.optimizer.cases
    assert (bop.lr, bop.optimizer.keywords, rest.lr) == (1e-4, {"threshold": 1e-8}, None)
    gammas = [1e-4 * bop.schedule(epoch, 500) for epoch in (0, 99, 100, 200, 300, 400, 499)]
    assert gammas == pytest.approx([1e-4, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-8])
    assert (recipes.BOP.learning_rate, recipes.BOP.schedule(499, 500)) == (1e-2, 1.0)
    assert recipes.BAYES_BINN.learning_rate == 3e-4
    assert for_method(binary.SignWeights) is recipes.BOP
    assert for_method(binary.ReActNet) is recipes.REACTNET
    assert [r.name for r in recipes.OF_OPTIMIZERS] == ["AdamBNN", "Bop", "BayesBiNN"]
    for record in recipes.OF_OPTIMIZERS:
        described = record.scaled(epochs=2).stages()[0].describe()
        assert json.loads(json.dumps(described)) == described
        assert "0x" not in str(described)


@every_record
def test_scaling_keeps_the_shape_and_says_so(record: PaperRecipe) -> None:
    scaled = record.scaled(epochs=3, batch_size=10).scaled(epochs=4)
    assert f"epochs 4 of {record.epochs}" in str(scaled)
    assert f"batches of 10 instead of {record.batch_size}" in str(scaled)
    assert str(record).startswith(f"{record.name} ({record.task}), all {record.epochs} epochs")
    for stage, whole in zip(scaled.stages(seed=5), record.stages(), strict=True):
        assert stage.origin == str(scaled)
        assert (stage.epochs, stage.batch_size, stage.seed) == (4, 10, 5)
        assert stage.schedule == whole.schedule
        assert stage.learning_rate == whole.learning_rate
        described = stage.describe()
        assert json.loads(json.dumps(described)) == described
    if isinstance(record.schedule, Steps):
        # a run of 20 steps goes through every milestone
        assert {record.schedule(step, 20) for step in range(20)} >= {1.0, *(f for _, f in record.schedule.milestones)}


@every_record
def test_records_say_everything(record: PaperRecipe) -> None:
    assert record.source.startswith("arXiv ")
    assert record.augmentation
    assert record.start
    assert (record.stages()[0].augment is not None) == record.crop_and_flip


def test_scaling_refuses_what_is_no_run() -> None:
    with pytest.raises(ValueError, match="ReCU: epochs and batch_size must be at least 1; got 0 and 256"):
        recipes.RECU.scaled(epochs=0)
    with pytest.raises(ValueError, match="got 1 and 0"):
        recipes.RECU.scaled(epochs=1, batch_size=0)


def test_two_stages_are_not_one() -> None:
    with pytest.raises(ValueError, match=r"ReActNet: trains in two stages: train_two_stage"):
        recipes.REACTNET.recipe()
    assert recipes.RECU.recipe(augment=None).augment is None


def test_without_a_teacher_says_so() -> None:
    alone = recipes.REACTNET.without_teacher()
    assert alone.stages()[0].distillation is None
    assert "labels in place of a teacher" in str(alone)
    assert recipes.RECU.without_teacher() is recipes.RECU


def test_decays_reach_the_parameters() -> None:
    """ReCU decays everything; ReActNet's first stage its real weights, its second nothing."""
    for record, wanted in ((recipes.RECU, [{5e-4}]), (recipes.REACTNET, [{1e-5, 0.0}, {0.0}])):
        model = mlp(record.method, input_size=8)
        for stage, decays in zip(record.stages(), wanted, strict=True):
            groups = parameter_groups(
                model,
                stage.weight_decay,
                latent_weight_decay=stage.latent_weight_decay,
                elementwise_weight_decay=stage.elementwise_weight_decay,
            )
            assert {group["weight_decay"] for group in groups} == decays


def test_images_are_shifted_by_their_size_and_digits_never_mirrored() -> None:
    digits = data.digits()
    assert recipes.RECU.augment_for(digits) == RandomCropFlip(padding=1, flip=False)
    images = {
        f"{part}_images": torch.zeros(len(getattr(digits, f"{part}_labels")), 1, 28, 28) for part in ("train", "test")
    }
    clothes = dataclasses.replace(digits, name="fashion_mnist", **images)
    assert recipes.RECU.augment_for(clothes) == RandomCropFlip(padding=2, flip=True)
    assert recipes.BNN.augment_for(clothes) is None


@pytest.fixture(scope="module")
def few() -> ImageData:
    every = data.digits()
    parts = {
        name: getattr(every, name)[:128] for name in ("train_images", "train_labels", "test_images", "test_labels")
    }
    return dataclasses.replace(every, **parts)


@every_record
def test_every_recipe_trains(record: PaperRecipe, few: ImageData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: nn.Module = mlp(record.method, input_size=8, widths=(32, 32))
    scaled = record.scaled(epochs=1, batch_size=32).without_teacher()
    stages = scaled.stages(augment=scaled.augment_for(few))
    if len(stages) == 1:
        last = train(model, few, stages[0], folder=tmp_path, progress=False).final
        folders = [tmp_path]
    else:
        last = train_two_stage(model, few, *stages, folder=tmp_path, progress=False).second.final
        folders = [tmp_path / "stage1", tmp_path / "stage2"]
    assert last.step == 4
    for folder in folders:
        assert json.loads((folder / "recipe.json").read_text())["origin"] == str(scaled)
