# SPDX-License-Identifier: Apache-2.0
"""Published figures beside trainings: the right one, its twin's, and how the recipes differ."""

from __future__ import annotations

import dataclasses

import pytest

from _tracks import done
from bittern import recipes
from bittern.bench.tracks.problems import CIFAR10_JPEG75, DIGITS, INTENTS
from bittern.bench.tracks.published import differences, figures_of, nearest
from bittern.bench.tracks.stages import common_stages, paper_stages
from bittern.bench.trials.groups import Group, grouped
from bittern.bench.trials.trial import Result, Trial
from bittern.binary import IRNet, ReActNet
from bittern.data import digits
from bittern.recipes import Published


def group(method: str, recipe: str = "common", task: str = "digits", note: str = "", epochs: int = 3) -> Group:
    trial = Trial("learning_task", task, "resnet20_cifar", method, recipe, 0, epochs)
    (found,) = grouped([done(trial, Result({"score": 0.9}, notes=("Other.", note)))])
    return found


def test_gaps_by_hand() -> None:
    """IR-Net on ResNet-20: 85.40 beside 92.10. DoReFa on SVHN: errors of 3.1 to 3.2 beside 2.9 %."""
    figure = nearest("IRNet", "resnet20_cifar")
    assert figure is not None
    assert (figure.percent, figure.gap, figure.place) == ("85.4 %", -6.7, "CIFAR-10, ResNet-20")
    svhn = figures_of("DoReFa")[0]
    assert (svhn.percent, svhn.gap) == ("96.8 to 96.9 %", -0.25)
    assert str(figure).startswith("85.4 % (CIFAR-10, ResNet-20, float 92.1 %; arXiv 2103.00841, table 1")


@pytest.mark.parametrize(
    ("method", "network", "network_there"),
    [
        ("IRNet", "vgg_small", "VGG-small"),
        ("ReCU", "resnet20_cifar", "ResNet-20"),
        ("ReCU", "mlp", "ResNet-18"),
        ("BNN", "resnet20_cifar", "VGG-small"),
    ],
)
def test_the_nearest_is_of_that_network_then_beside_a_twin(method: str, network: str, network_there: str) -> None:
    found = nearest(method, network)
    assert found is not None
    assert found.network == network_there


def test_what_nobody_read_is_not_made_up() -> None:
    assert figures_of("XNORNetPlusPlus") == ()
    assert nearest("XNORNetPlusPlus", "resnet20_cifar") is None
    for name in ("DoReFa(weight_bits=2)", "my_file:BNN", "Other"):
        assert nearest(name, "resnet20_cifar") is None
        assert differences(group(name)) is None
    for record in recipes.ALL:
        for figure in record.published:
            assert figure.source
            assert "memory" not in str(figure)


def test_a_figure_is_a_percentage() -> None:
    good = Published(80.0, "d", "n", "s")
    assert good.gap is None
    for change in ({"accuracy": 0.8e3}, {"twin": 0.0}, {"up_to": 79.0}, {"accuracy": -1.0}):
        with pytest.raises(ValueError, match="accuracies are percentages, ranges rise"):
            dataclasses.replace(good, **change)


def test_differences_in_words() -> None:
    problems = (DIGITS, CIFAR10_JPEG75, INTENTS)
    common = differences(group("IRNet", note=common_stages(DIGITS, "resnet20_cifar", 1000, 3, 0).notes[0]), problems)
    assert common is not None
    assert (common.epochs, common.batch) == ("3 of 400", "128")
    assert common.augmentation == "random crop of 32 from 40 pixels, mirrored; here none"
    assert common.trained_for == "CIFAR-10, ResNet-20"
    assert common.here.startswith(f"batch_size {DIGITS.recipe.batch_size}, ")
    stages = paper_stages(DIGITS, IRNet, digits(), 1000, 3, 0)
    paper = differences(group("IRNet", "paper", note=stages.notes[0]), problems)
    assert paper is not None
    assert paper.here.endswith("epochs 3 of 400, schedule and warm-up scaled, batches of 25 instead of 128.")
    assert paper.augmentation.endswith("; here shifted"), "a mirrored digit is no digit"
    elsewhere = differences(group("IRNet", "paper", "cifar10_jpeg75"), problems)
    assert elsewhere is not None
    assert elsewhere.augmentation.endswith("; here shifted and mirrored")
    assert elsewhere.here == ""
    words = differences(group("IRNet", "paper", "intents"), problems)
    assert words is not None
    assert words.augmentation.endswith("; here none")
    unknown = differences(group("IRNet", task="mine"), problems)
    assert unknown is not None
    assert unknown.augmentation == "random crop of 32 from 40 pixels, mirrored"


def test_two_stages_are_told() -> None:
    assert recipes.for_method(ReActNet).first_decay is not None
    found = [differences(group("ReActNet", recipe)) for recipe in ("common", "paper")]
    assert [one.epochs for one in found if one is not None] == [
        "3, there 128 in each of two stages",
        "3 of 128 in each of two stages",
    ]
