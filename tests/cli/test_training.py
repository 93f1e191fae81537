# SPDX-License-Identifier: Apache-2.0
"""`bittern train` and `bittern eval`."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from _command import Command, Trained, run, start
from bittern.binary import DoReFa
from bittern.cli import run_folder
from bittern.cli.program import command as typed
from bittern.train import load_weights

SMALL = ("--model", "mlp", "--epochs", 1, "--threads", 1)


def test_run_folder_remembers_what_was_chosen(trained: Trained) -> None:
    run_ = run_folder.load(trained.folder)
    assert run_.options.method == "XNORNetPlusPlus"
    assert (run_.options.model, run_.options.data, run_.options.epochs) == ("mlp", "digits", 2)
    assert run_.classes == tuple("0123456789")
    assert run_.input_shape == (1, 8, 8)
    assert {path.name for path in trained.folder.iterdir()} >= {"checkpoint.safetensors", "log.csv", "run.json"}


def test_train_says_what_and_what_next(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    out = command.done("train", "--folder", folder, *SMALL).splitlines()
    assert out[0] == "mlp, ReActNet, on digits: 1,438 images of 1 x 8 x 8, 1 epoch"
    assert out[1].startswith("epoch 1 of 1: train loss ")
    assert out[2].startswith("test accuracy ")
    assert out[3] == f"next: {typed('pack', folder, '-o', 'a run.safetensors')}"
    done = subprocess.run(out[3].removeprefix("next: "), shell=True, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a run.safetensors").is_file()


def test_signs_train_by_their_own_optimizers_and_are_watched(command: Command, tmp_path: Path) -> None:
    words = ("--method", "signweights", "--watch-weights", *SMALL)
    command.done("train", "--folder", tmp_path / "bop", "--optimizer", "bop:lr=1e-3,threshold=1e-6", *words)
    header, row = (tmp_path / "bop" / "log.csv").read_text().splitlines()
    shares = dict(zip(header.split(","), row.split(","), strict=True))
    assert 0.0 < float(shares["flips"]) < float(shares["epoch_flips"]) < 1.0
    assert sum(name.startswith("flips/") for name in shares) == 2
    _, network = run_folder.trained(tmp_path / "bop")
    weights = [m.weight.detach() for m in network.modules() if hasattr(m, "method")]
    assert torch.cat(weights).unique().tolist() == [-1.0, 1.0]
    out = command.done("train", "--folder", tmp_path / "bayes", "--recipe", "bayesbinn", *SMALL)
    assert "recipe: BayesBiNN (CIFAR-10, VGG-like), epochs 1 of 500" in out
    assert run_folder.load(tmp_path / "bayes").options.method == "SignWeights"
    for text, message in (("bop:speed=2", "'speed=2' is none of its options"), ("bop", "claims no parameter")):
        assert message in command("train", "--folder", tmp_path / f"new {text}", "--optimizer", text, *SMALL).err


def test_same_seed_same_weights(command: Command, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        command.done("train", "--folder", tmp_path / name, "--seed", seed, *SMALL)
        model = run_folder.load(tmp_path / name).network()
        load_weights(model, tmp_path / name / run_folder.CHECKPOINT)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_options_reach_the_method_and_the_recipe(command: Command, tmp_path: Path) -> None:
    words = ("--method", "dorefa", "--option", "weight_bits=2", "--option", "input_bits=3", "--optimizer", "SGD")
    command.done("train", "--folder", tmp_path / "run", *words, "--augment", *SMALL)
    model = run_folder.load(tmp_path / "run").network()
    found = {(m.weight_bits, m.input_bits) for m in model.modules() if isinstance(m, DoReFa)}
    assert found == {(2, 3)}
    assert run_folder.load(tmp_path / "run").options.augment
    packed = tmp_path / "packed"
    command.done("pack", tmp_path / "run", "-o", packed)


def test_float_teacher_and_two_stages(command: Command, tmp_path: Path) -> None:
    command.done("train", "--folder", tmp_path / "float", "--method", "float", *SMALL)
    words = ("--teacher", tmp_path / "float", "--two-stage")
    command.done("train", "--folder", tmp_path / "run", *words, *SMALL)
    assert (tmp_path / "run" / "stage1" / run_folder.CHECKPOINT).is_file()
    assert run_folder.find(tmp_path / "run")[1] == tmp_path / "run" / "stage2" / run_folder.CHECKPOINT
    assert "accuracy" in command.done("eval", tmp_path / "run")
    assert "exact: yes" in command.done("pack", tmp_path / "run", "-o", tmp_path / "packed")


def test_existing_run_is_not_overwritten(command: Command, trained: Trained) -> None:
    before = (trained.folder / run_folder.FILE_NAME).read_bytes()
    outcome = command("train", "--folder", trained.folder, "--method", "BNN", *SMALL)
    assert outcome.status == 1
    assert (
        outcome.error == f"{trained.folder} holds a run already; go on with it by --resume, or choose another --folder"
    )
    assert (trained.folder / run_folder.FILE_NAME).read_bytes() == before


def test_finished_run_resumes_to_nothing_more(command: Command, trained: Trained) -> None:
    before = (trained.folder / run_folder.CHECKPOINT).read_bytes()
    command.done("train", "--folder", trained.folder, "--resume", "--method", "xnornetPLUSplus", "--data", "digits")
    assert (trained.folder / run_folder.CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--epochs", 1), "--epochs was 2 in"),
        (("--init", "x"), "--init was None in"),
        (("--method", "BNN"), "--method was 'XNORNetPlusPlus' in"),
        (("--learning-rate", 1.0), "--learning-rate was 0.003 in"),
        (("--option", "case=1"), "--option was () in"),
        (("--two-stage",), "--two-stage was False in"),
    ],
)
def test_resume_refuses_other_options(
    command: Command, trained: Trained, words: tuple[object, ...], message: str
) -> None:
    outcome = command("train", "--folder", trained.folder, "--resume", *words)
    assert outcome.status == 1
    assert outcome.error.startswith(message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--epochs", 0), "epochs must be at least 1; got 0"),
        (("--learning-rate", -1), "learning_rate must be finite and at least 0"),
        (("--data", "/no/such/folder"), "no folder /no/such/folder; give 'digits', or a folder with CIFAR-10"),
        (("--data", "mnist:/no/such/folder"), "mnist: needs train-images-idx3-ubyte"),
        (("--teacher", "/no/such/folder"), "/no/such/folder"),
        (("--resume",), "is no run folder: it has no run.json"),
        (("--option", "case=9", "--method", "xnornetplusplus"), "case must be one of 1, 2, 3, 4; got 9"),
        (("--two-stage", "--method", "float"), "no low-bit layer"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    command: Command, tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    outcome = command("train", "--folder", tmp_path / "run", "--model", "mlp", *words)
    assert outcome.status == 1
    assert message in outcome.error


def test_unknown_option_of_a_method(command: Command, tmp_path: Path) -> None:
    outcome = command("train", "--folder", tmp_path / "run", "--method", "BNN", "--option", "width=3")
    assert outcome.status == 2
    assert "'width=3': no option of that name" in outcome.error


def test_eval_of_folder_checkpoint_and_packed_agree(command: Command, trained: Trained) -> None:
    targets = (trained.folder, trained.folder / run_folder.CHECKPOINT, trained.packed)
    found = [json.loads(command.done("eval", target, "--json")) for target in targets]
    assert len({(f["accuracy"], f["loss"]) for f in found}) == 1
    assert found[0]["images"] == 359
    assert found[0]["accuracy"] > 0.5
    assert f"accuracy {found[0]['accuracy']:.2%}" in command.done("eval", trained.packed, "--data", "digits")


def test_eval_refuses_a_checkpoint_of_another_model(command: Command, trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    path = tmp_path / "run" / run_folder.FILE_NAME
    path.write_text(path.read_text().replace('"mlp"', '"resnet20_cifar"'))
    outcome = command("eval", tmp_path / "run")
    assert outcome.status == 1
    assert "is from another model" in outcome.error


@pytest.mark.parametrize("text", ["", "{}", '{"options": 3}', "not json"])
def test_damaged_run_file(command: Command, trained: Trained, tmp_path: Path, text: str) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    (tmp_path / "run" / run_folder.FILE_NAME).write_text(text)
    outcome = command("eval", tmp_path / "run")
    assert outcome.status == 1
    assert "run.json" in outcome.error


def test_checkpoint_alone_needs_its_folder(command: Command, trained: Trained, tmp_path: Path) -> None:
    lone = tmp_path / "deep" / "er" / "lone.safetensors"
    lone.parent.mkdir(parents=True)
    shutil.copy(trained.folder / run_folder.CHECKPOINT, lone)
    outcome = command("pack", lone, "-o", tmp_path / "packed")
    assert outcome.status == 1
    assert f"no run.json beside {lone}" in outcome.error


def test_interrupted_training_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start("train", "--folder", folder, "--model", "mlp", "--method", "BNN", "--epochs", 6)
    log = folder / "log.csv"
    deadline = time.monotonic() + 100
    while not log.is_file():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last == f"bittern: stopped and saved; go on with: {typed('train', '--folder', folder, '--resume')}"
    assert len(log.read_text().splitlines()) < 7
    outcome = run("train", "--folder", folder, "--resume")
    assert outcome.status == 0, outcome.err
    assert len(log.read_text().splitlines()) == 7


def test_recipe_of_a_paper_is_followed_and_named(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    out = command.done("train", "--folder", folder, "--method", "bnn", "--recipe", "paper", *SMALL)
    assert "recipe: BNN (CIFAR-10, VGG-like), epochs 1 of 500, schedule and warm-up scaled" in out.splitlines()
    options = run_folder.load(folder).options
    assert (options.recipe, options.batch_size, options.learning_rate) == ("BNN", 50, 1e-3)
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["glorot_rates"]
    assert recipe["loss"] == "SquaredHinge()"
    command.done("train", "--folder", folder, "--resume", "--recipe", "paper")


def test_recipe_of_two_stages(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command.done("train", "--folder", folder, "--recipe", "reactnet", "--batch-size", 128, *SMALL)
    decays = [json.loads((folder / stage / "recipe.json").read_text())["weight_decay"] for stage in run_folder.STAGES]
    assert decays == [1e-5, 0.0]
    assert "accuracy" in command.done("eval", folder)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--recipe", "recu", "--learning-rate", 1.0), "--learning-rate is decided by --recipe recu; leave one"),
        (("--recipe", "paper", "--one-stage"), "--two-stage is decided by --recipe paper"),
        (("--recipe", "paper", "--method", "float"), "--recipe paper needs a method, and float has no paper"),
        (("--recipe", "recu", "--teacher", "somewhere"), "--teacher: ReCU's recipe has none"),
        (("--recipe", "adam"), "unknown method 'adam'"),
    ],
)
def test_recipe_refuses_what_it_decides(
    command: Command, tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    outcome = command("train", "--folder", tmp_path / "run", "--model", "mlp", *words)
    assert outcome.status == 2
    assert message in outcome.error


def test_latent_weights_decay_when_asked_to(command: Command, tmp_path: Path) -> None:
    command.done("train", "--folder", tmp_path / "run", "--latent-weight-decay", 0.5, *SMALL)
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert (recipe["latent_weight_decay"], recipe["weight_decay"]) == (0.5, 0.0)


def test_run_folder_of_before_recipes_opens(command: Command, trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    path = tmp_path / "run" / run_folder.FILE_NAME
    old = json.loads(path.read_text())
    for name in run_folder.ADDED:
        del old["options"][name]
    path.write_text(json.dumps(old))
    assert run_folder.load(tmp_path / "run") == run_folder.load(trained.folder)
    command.done("train", "--folder", tmp_path / "run", "--resume")


def test_a_run_without_a_checkpoint_starts_anew(command: Command, trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(trained.folder / run_folder.FILE_NAME, tmp_path / "run")
    error = command("train", "--folder", tmp_path / "run", "--resume").error
    assert error == f"{tmp_path / 'run'} holds no checkpoint yet, nothing to go on from; start anew without --resume"
    command.done("train", "--folder", tmp_path / "run", *SMALL)


def test_two_commands_never_train_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    first = start("train", "--folder", folder, "--model", "mlp", "--method", "BNN", "--epochs", 300)
    assert first.stdout is not None
    assert "300 epochs" in first.stdout.readline()
    again = run("train", "--folder", folder, *SMALL)
    assert again.status == 1
    assert "another bittern train runs there; wait" in again.error or "holds a run already" in again.error
    resumed = run("train", "--folder", folder, "--resume")
    assert resumed.status == 1
    assert resumed.error == f"{folder}: another bittern train runs there; wait for its end, or choose another --folder"
    first.kill()
    first.communicate()


def test_more_epochs_extend_a_run_and_say_so(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command.done("train", "--folder", folder, *SMALL)
    out = command.done("train", "--folder", folder, "--resume", "--epochs", 3, "--threads", 1)
    assert "was planned for 1 epochs and now for 3: from here on the learning rate follows the schedule of 3" in out
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith("epoch")] == [
        "epoch 2 of 3",
        "epoch 3 of 3",
    ]
    assert run_folder.load(folder).options.epochs == 3
    assert len((folder / "log.csv").read_text().splitlines()) == 4


def test_more_epochs_extend_the_second_of_two_stages(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    command.done("train", "--folder", folder, "--two-stage", *SMALL)
    for epochs in (2, 3):
        out = command.done("train", "--folder", folder, "--resume", "--epochs", epochs, "--threads", 1)
        assert f"was planned for {epochs - 1} epochs and now for {epochs} in its second stage: from here on" in out
    options = run_folder.load(folder).options
    assert (options.first_epochs, options.epochs) == (1, 3)
    assert [len((folder / stage / "log.csv").read_text().splitlines()) for stage in ("stage1", "stage2")] == [2, 4]
    assert "--epochs was 3 in" in command("train", "--folder", folder, "--resume", "--epochs", 2).error


def test_more_epochs_extend_both_stages_while_the_first_runs(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    command.done("train", "--folder", folder, "--two-stage", *SMALL)
    shutil.rmtree(folder / "stage2")  # as if it had been stopped before
    out = command.done("train", "--folder", folder, "--resume", "--epochs", 2, "--threads", 1)
    assert "was planned for 1 epochs and now for 2 in each stage: from here on" in out
    assert [len((folder / stage / "log.csv").read_text().splitlines()) for stage in ("stage1", "stage2")] == [3, 3]


def test_a_papers_recipe_is_not_extended(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "paper"
    words = ("--method", "BNN", "--recipe", "paper", "--model", "mlp", "--epochs", 1, "--threads", 1)
    command.done("train", "--folder", folder, *words)
    refusal = command("train", "--folder", folder, "--resume", "--epochs", 2).error
    assert "which follows the recipe of BNN to its end; leave it out" in refusal


def test_init_begins_with_the_weights_of_another_run(command: Command, trained: Trained, tmp_path: Path) -> None:
    words = ("--method", "xnornetplusplus", "--learning-rate", 1e-9, *SMALL)
    out = command.done("train", "--folder", tmp_path / "run", "--init", trained.folder, *words)
    wanted = json.loads(command.done("eval", trained.folder, "--json"))["accuracy"]
    # a rate of nothing: what it knows at the end it knew at the beginning, but for the statistics of norms
    found = json.loads(command.done("eval", tmp_path / "run", "--json"))["accuracy"]
    assert abs(found - wanted) < 0.05
    assert out.count("epoch 1 of 1") == 1
    assert run_folder.load(tmp_path / "run").options.init == str(trained.folder)
    outcome = command("train", "--folder", tmp_path / "other", "--init", trained.folder, "--method", "float", *SMALL)
    assert outcome.status == 1
    assert "is from another model" in outcome.error


def test_divergence_is_one_line_with_what_to_do(command: Command, tmp_path: Path) -> None:
    outcome = command("train", "--folder", tmp_path / "run", "--method", "float", "--learning-rate", 1e30, *SMALL)
    assert outcome.status == 1
    last = outcome.err.splitlines()[-1]
    assert "bittern: diverged: " in last
    assert "start anew in another --folder with a --learning-rate below 1e+30" in last


def test_a_folder_of_classes_is_trained_tested_and_packed(command: Command, tmp_path: Path) -> None:
    for name, shade in (("dark", 40), ("bright", 200)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("L", (8, 9), shade + i).save(tmp_path / "images" / name / f"{i}.png")
    data = f"folder@8:{tmp_path / 'images'}"
    words = ("--method", "BNN", "--batch-size", 8, "--model", "mlp", "--epochs", 3, "--threads", 1)
    out = command.done("train", "--folder", tmp_path / "run", "--data", data, "--augment", *words)
    assert "on images: 32 images of 1 x 8 x 8, 3 epochs" in out
    assert json.loads(command.done("eval", tmp_path / "run", "--json"))["images"] == 8
    assert "compared on 8 test images" in command.done("pack", tmp_path / "run", "-o", tmp_path / "packed.safetensors")
    assert command.done("eval", tmp_path / "packed.safetensors").startswith("packed model")
    outcome = command("train", "--folder", tmp_path / "x", "--data", tmp_path / "images", *words)
    assert "networks take square images" in outcome.error


OWN = """
from functools import partial
from bittern.binary import BNN, DoReFa

class Mine(BNN):
    pass

four = partial(DoReFa, weight_bits=4)
number = 4
"""


def test_own_methods_by_module_and_class(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_methods.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    for name, kind in (("own_methods:Mine", "Mine"), ("own_methods:four", "DoReFa")):
        folder = tmp_path / kind
        command.done("train", "--folder", folder, "--method", name, *SMALL)
        assert run_folder.load(folder).options.method == name
        assert kind in {type(m).__name__ for m in run_folder.load(folder).network().modules()}
        assert "accuracy" in command.done("eval", folder)
    for name, message in (
        ("own_methods:none", "there is none of that name"),
        ("own_methods:number", "must be a Quantizer class or a functools.partial of one; it is a int"),
        ("own_missing:Mine", "cannot import own_missing: ModuleNotFoundError"),
        ("own_broken:Mine", "cannot import own_broken: ZeroDivisionError"),
    ):
        outcome = command("train", "--folder", tmp_path / "none", "--method", name, *SMALL)
        assert outcome.status == 2
        assert message in outcome.error
    assert (
        "set them there" in command("train", "--folder", "n", "--method", "own_methods:four", "--option", "a=1").error
    )
