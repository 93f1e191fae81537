# SPDX-License-Identifier: Apache-2.0
"""`bittern train` with losses beside the task's, in stages with teachers, and with attention of bits."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest

from _command import Command
from bittern.binary.attention import ElasticAttention
from bittern.cli import losses, run_folder, stages, train_recipe
from bittern.cli.errors import Misused
from bittern.cli.run_folder import Options
from bittern.train import (
    AttentionMatching,
    DirectionMatching,
    Distillation,
    HiddenMatching,
    KurtosisRegularizer,
    LogitsMatching,
    Recipe,
)

RECIPE = Recipe(epochs=3, learning_rate=0.5)


def test_losses_as_they_are_typed() -> None:
    found = losses.losses(
        (
            "kurtosis:weight=0.1,target=3",
            "logits",
            "attention:points=0+blocks.1@layer2.0,form=larq",
            "directions:points=q,heads=none",
            "hidden:points=a,name=first",
        )
    )
    assert found == (
        KurtosisRegularizer(weight=0.1, target=3),
        LogitsMatching(),
        AttentionMatching(points=("0", ("blocks.1", "layer2.0")), form="larq"),
        DirectionMatching(points=("q",), heads=None),
        HiddenMatching(points=("a",), name="first"),
    )


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["kurtosi"], "unknown loss 'kurtosi': did you mean kurtosis"),
        (["kurtosis:speed=1"], "'speed=1' is none of its options; write NAME=VALUE, e.g. weight=0.5"),
        (["kurtosis:weight=0"], "--loss kurtosis:weight=0: KurtosisRegularizer: weight must be above 0"),
        (["kurtosis:target=x"], "--loss kurtosis:target=x: "),
        (["hidden"], "--loss hidden: it needs points=blocks.0"),
        (["directions:points=q"], "it needs heads=..."),
        (["hidden:points=a@b@c"], "a point is a layer, or the network.s and the teacher.s, as blocks.0"),
        (["logits", "logits:weight=2"], "--loss logits: given 2 times; tell them apart by name="),
    ],
)
def test_losses_that_cannot_be(texts: list[str], message: str) -> None:
    with pytest.raises(Misused, match=message):
        losses.losses(texts)


def test_stages_as_they_are_typed() -> None:
    added = (LogitsMatching(), KurtosisRegularizer())
    texts = (
        "a:operands=tanh,losses=kurtosis,epochs=7",
        "b:start=a,teacher=a,learning_rate=1e-2",
        "c:teacher=b,losses=none",
    )
    first, second, third = stages.of_user(texts, RECIPE, added, has_teacher=False)
    assert (first.name, first.operands, first.start, first.teacher) == ("a", "tanh", None, None)
    assert (first.recipe.epochs, first.recipe.losses, first.recipe.distillation) == (7, added[1:], None)
    assert (second.operands, second.start, second.teacher, second.recipe.learning_rate) == ("low_bit", "a", "a", 1e-2)
    assert (second.recipe.epochs, second.recipe.losses, second.recipe.distillation) == (3, added, None)
    assert (third.recipe.losses, third.recipe.distillation) == ((), Distillation())


@pytest.mark.parametrize(
    ("texts", "has_teacher", "message"),
    [
        (["a:speed=1"], False, "'speed=1' is none of its options"),
        (["a:losses=none,operands=half"], False, "--stage a:losses=none,operands=half: Stage: operands must be one of"),
        (["a:losses=none,epochs=0"], False, "--stage a:losses=none,epochs=0: Recipe: epochs must be at least 1"),
        (["A b:losses=none"], False, "Stage: name must be of a-z"),
        (["a"], False, "--stage a: --loss logits compares with a teacher, and this stage has none"),
        (["a:losses=logit"], False, "losses=logit is none of --loss, which are logits"),
        (["a:teacher=given"], False, "teacher=given is --teacher, which is missing"),
        (["a:losses=none"], True, "--teacher: no --stage has teacher=given"),
    ],
)
def test_stages_that_cannot_be(texts: list[str], has_teacher: bool, message: str) -> None:
    with pytest.raises(Misused, match=message):
        stages.of_user(texts, RECIPE, (LogitsMatching(),), has_teacher=has_teacher)


def test_stages_of_a_paper() -> None:
    chosen = stages.with_paper({"stages": "realTObinary", "epochs": 3})
    assert (chosen["stages"], chosen["method"], chosen["batch_size"]) == ("RealToBinary", "RealToBinary", 256)
    options = Options(**chosen)
    assert train_recipe.stage_names(options) == ("real", "inputs", "binary")
    recipes = train_recipe.recipes_of(train_recipe.plan(options))
    assert [recipe.epochs for recipe in recipes] == [3, 3, 3]
    assert [len(recipe.losses) for recipe in recipes] == [0, 2, 1]
    with pytest.raises(Misused, match="--learning-rate is decided by --stages RealToBinary"):
        stages.with_paper({"stages": "realtobinary", "learning_rate": 0.1})
    bit = stages.with_paper({"stages": "bit", "model": "vit_small", "teacher": "here"})
    plan = train_recipe.plan(Options(**bit))
    assert [loss.points for recipe in train_recipe.recipes_of(plan) for loss in recipe.losses] == [
        ("blocks.0", "blocks.1", "blocks.2", "blocks.3")
    ] * 2
    for changed, message in (({"teacher": None}, "learns from a teacher alone"), ({"model": "mlp"}, "mlp has none")):
        with pytest.raises(Misused, match=message):
            train_recipe.plan(Options(**(bit | changed)))
    waves = Options(**stages.with_paper({"stages": "biper", "epochs": 2}))
    assert [(stage.name, stage.recipe.epochs) for stage in stages.of_paper(waves)] == [("waves", 2), ("binary", 2)]
    with pytest.raises(Misused, match="--teacher: BiPer's stages have none"):
        stages.of_paper(dataclasses.replace(waves, teacher="here"))
    with pytest.raises(Misused, match="unknown stages 'xnor'"):
        stages.paper_name("xnor")


def test_a_run_in_stages_with_losses(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    added = ("--loss", "kurtosis:weight=0.1", "--loss", "hidden:points=features.1")
    named = ("--stage", "real:operands=tanh,losses=none", "--stage", "bits:start=real,teacher=real")
    words = ("--model", "mlp", "--method", "bnn", "--epochs", 1, "--threads", 1)
    command.done("train", "--folder", folder, *words, *added, *named)
    (row,) = csv.DictReader((folder / "bits" / "log.csv").read_text().splitlines())
    parts = [float(row[f"train_loss_{name}"]) for name in ("task", "kurtosis", "hidden")]
    assert all(part > 0 for part in parts)
    assert sum(parts) == pytest.approx(float(row["train_loss"]), rel=1e-4)
    checkpoint = folder / "bits" / run_folder.CHECKPOINT
    command.done("train", "--folder", folder, "--resume")
    found = [json.loads(command.done("eval", t, "--json"))["accuracy"] for t in (folder, checkpoint)]
    assert found == [pytest.approx(float(row["test_accuracy"]))] * 2
    refused = command("train", "--folder", folder, "--resume", "--epochs", 2)
    assert "which has the stages real, bits; leave it out" in refused.error
    checkpoint.unlink()
    assert "its stage 'real' is not finished; go on with" in command("eval", folder).error


def test_attention_of_bits(command: Command, tmp_path: Path) -> None:
    options = Options(model="vit_small", attention="ElasticAttention", method="BiT")
    network = run_folder.Run(options, ("a", "b"), (0.5,), (0.5,), (1, 8, 8)).network()
    assert sum(isinstance(m, ElasticAttention) for m in network.modules()) == 4
    new = ("train", "--folder", tmp_path / "run")
    outcome = command(*new, "--attention", "elasticattention", "--model", "mlp")
    assert outcome.status == 2
    assert (
        outcome.error
        == "--attention elasticattention: mlp has none; leave it out, or take --model vit_small, binary_vit_small"
    )
    assert "unknown attention 'soft'" in command(*new, "--attention", "soft", "--model", "vit_small").error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--loss", "logits"), "--loss logits compares with a teacher; give --teacher FOLDER"),
        (("--stage", "a", "--two-stage"), "--two-stage: --stage says what the stages are"),
        (("--stage", "a", "--recipe", "bnn"), "--recipe: --stage says what the stages are"),
        (("--stage", "a", "--watch-weights"), "--watch-weights watches one training"),
        (("--stages", "realtobinary", "--loss", "kurtosis"), "--loss is decided by --stages RealToBinary"),
    ],
)
def test_options_that_do_not_go_together(
    command: Command, tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    outcome = command("train", "--folder", tmp_path / "run", "--model", "mlp", *words)
    assert outcome.status == 2
    assert message in outcome.error
    assert not (tmp_path / "run").exists()
