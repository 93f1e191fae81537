# SPDX-License-Identifier: Apache-2.0
"""Models and data of a user's: what they may be, what is refused, and what becomes of them."""

from __future__ import annotations

import pickle  # noqa: TID251 - what multiprocessing does with a problem
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset, WeightedRandomSampler

from _own_files import DATA, MODEL, written
from _tracks import choice, run_all
from bittern._own_code import own_code
from bittern.bench.speed.peers import PEERS
from bittern.bench.tracks import own_data
from bittern.bench.tracks.all import ALL
from bittern.bench.tracks.corruption_robustness import CorruptionRobustness
from bittern.bench.tracks.hardware_inference import HardwareInference
from bittern.bench.tracks.learning_task import LearningTask
from bittern.bench.tracks.own_problem import own_problem, takes_method
from bittern.bench.tracks.problem import Problem
from bittern.bench.tracks.theoretical_complexity import TheoreticalComplexity
from bittern.bench.tracks.training_consumption import TrainingConsumption
from bittern.binary import BNN, XNORNetPlusPlus
from bittern.data import digits
from bittern.nn import BinaryLinear
from bittern.nn.binarize import LowBitLayer
from bittern.nn.conv import BinaryConv2d


def problem(folder: Path, text: str = MODEL + DATA, *, build: str = "build", data: str = "sets") -> Problem:
    path = written(folder, text)
    return own_problem(own_code(f"{path}:{build}"), own_code(f"{path}:{data}"))


def test_the_key_changes_with_the_file_and_with_what_it_imports(tmp_path: Path) -> None:
    beside = written(tmp_path, "WIDTH = 16\n")
    path = written(tmp_path, f"from {beside.stem} import WIDTH\n{MODEL}{DATA}")
    other = written(tmp_path, "nobody imports this")
    code = own_code(f"{path}:build")
    digests = [code.digest()]
    other.write_text("WIDTH = 3\n")
    assert code.digest() == digests[0]
    for file in (beside, path):
        file.write_text(file.read_text() + "# another\n")
        digests.append(code.digest())
    assert len(set(digests)) == 3
    with pytest.raises(ValueError, match="has changed since the run began"):
        code.load_as(digests[0])
    made = own_problem(code, own_code(f"{path}:sets"))
    for track in (LearningTask, TheoreticalComplexity, HardwareInference, TrainingConsumption):
        for trial in track((made,)).plan(choice(tasks=(), networks=())).trials:
            assert trial.setting("model") == digests[2]
            assert trial.setting("data") != digests[2]


def test_own_code_that_is_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, "raise KeyError('no')")
    with pytest.raises(ImportError, match=r"cannot import own_file_[0-9]+: KeyError"):
        own_code(f"{path}:build").load()
    with pytest.raises(ImportError, match="has no bild; name what it defines"):
        own_code(f"{written(tmp_path)}:bild").load()
    with pytest.raises(FileNotFoundError, match="no file"):
        own_code(f"{tmp_path}/none.py:build")
    for text in ("build", "a.py", ":build", "a.py:", "a.py:1"):
        with pytest.raises(ValueError, match=r"must be FILE\.py:NAME or MODULE:NAME"):
            own_code(text)
    taken = tmp_path / "random.py"
    taken.write_text("")
    with pytest.raises(ImportError, match="Python has another module random already"):
        own_code(f"{taken}:build").load()


def test_data_may_be_datasets_loaders_three_parts_or_images() -> None:
    x, y = torch.randn(50, 3), torch.randint(0, 2, (50,))
    part = TensorDataset(x, y)
    two = own_data.given("f", (DataLoader(part, batch_size=7, shuffle=True), part))
    assert isinstance(two, own_data.Given)
    assert (two.batch_size, two.held_out, two.train) == (7, None, part)
    parts = own_data.parts_of(two, None)
    assert [len(p) for p in (*parts.final, *parts.choice)] == [45, 50, 45, 5]  # type: ignore[arg-type]
    three = own_data.given("f", (part, TensorDataset(x[:8], y[:8]), part))
    assert isinstance(three, own_data.Given)
    assert [len(p) for p in own_data.parts_of(three, None).choice] == [50, 8]  # type: ignore[arg-type]
    assert [len(p) for p in own_data.parts_of(three, 20).final] == [20, 50]  # type: ignore[arg-type]
    images = digits()
    assert own_data.given("f", images) is images
    assert own_data.digest_of(two) == own_data.digest_of(own_data.given("f", (part, part)))
    for changed in (
        (TensorDataset(x, 1 - y), part),
        (part, TensorDataset(x + 1, y)),
        (part, ConcatDataset([part, part])),
        (part, part, part),
    ):
        assert own_data.digest_of(own_data.given("f", changed)) != own_data.digest_of(two)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, r"f: must return \(training, test\) or .* got NoneType"),
        ((1, 2), "the training part must be a Dataset with a length"),
        ((TensorDataset(torch.zeros(0, 2), torch.zeros(0).long()),) * 2, "the training part is empty"),
        ((TensorDataset(torch.zeros(4, 2)),) * 2, r"must be \(input, class number\); got \(Tensor\)"),
        ((TensorDataset(torch.zeros(4, 2), torch.zeros(4)),) * 2, "must be a whole number, its class; got .*float32"),
        (([("a", "b")],) * 2, r"must be \(tensor, class number\); got \(str, str\)"),
        (
            (
                DataLoader(
                    TensorDataset(torch.zeros(4, 2), torch.zeros(4).long()), sampler=WeightedRandomSampler([1.0] * 4, 4)
                ),
            )
            * 2,
            "the training loader has a collate_fn, a sampler or batches of its own",
        ),
    ],
)
def test_other_data_are_refused(found: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        own_data.given("f", found)


def test_a_float_model_is_converted_and_its_twin_is_not(tmp_path: Path) -> None:
    made = problem(tmp_path, data="loaders")
    ((name, network),) = made.networks.items()
    assert name.endswith(":build")
    assert made.recipe.batch_size == 20
    assert made.classes == ("0", "1")
    twin, low = network.build(None), network.build(BNN)
    assert [type(m) for m in twin if isinstance(m, nn.Linear | nn.ReLU)] == [nn.Linear, nn.ReLU] * 2 + [nn.Linear]  # type: ignore[attr-defined]
    assert isinstance(low[3], BinaryLinear)  # type: ignore[index]
    assert sum(isinstance(m, LowBitLayer) for m in low.modules()) == 1
    assert sum(isinstance(m, nn.Hardtanh) for m in low.modules()) == 2
    assert network.about[:2] == (
        "Made low-bit by bittern.convert: 1 layer.",
        "Hardtanh takes the place of 2 ReLUs, which the float twin has.",
    )
    assert all(
        not isinstance(p, nn.parameter.UninitializedParameter) for p in network.build(XNORNetPlusPlus).parameters()
    )
    sent = pickle.loads(pickle.dumps(made))
    assert sent.settings == made.settings
    assert len(sent.load(None).final[1]) == 40


def test_trained_weights_are_kept_and_others_start_as_the_method_has_them(tmp_path: Path) -> None:
    trained = MODEL.replace("    return", "    torch.manual_seed(7)\n    return") + DATA
    kept = next(iter(problem(tmp_path, trained).networks.values()))
    assert any("count as trained" in sentence for sentence in kept.about)
    assert torch.equal(kept.build(BNN)[3].weight, kept.build(None)[3].weight)  # type: ignore[index]
    torch.manual_seed(0)
    fresh = next(iter(problem(tmp_path).networks.values()))
    assert not any("count as trained" in sentence for sentence in fresh.about)
    torch.manual_seed(1)
    twin = fresh.build(None)
    torch.manual_seed(1)
    assert not torch.equal(fresh.build(BNN)[3].weight, twin[3].weight)  # type: ignore[index]


def test_a_function_of_method_makes_its_own(tmp_path: Path) -> None:
    own = """
from torch import nn
from bittern.nn import BinaryLinear
def build(method, width=16):
    inner = nn.Linear(width, width) if method is None else BinaryLinear(width, width, method=method)
    return nn.Sequential(nn.Linear(8, width), nn.BatchNorm1d(width), inner, nn.Linear(width, 2))
"""
    network = next(iter(problem(tmp_path, own + DATA).networks.values()))
    assert network.about == ()
    assert isinstance(network.build(BNN)[2], BinaryLinear)  # type: ignore[index]
    assert type(network.build(None)[2]) is nn.Linear  # type: ignore[index]
    assert not takes_method("f", nn.Identity)
    with pytest.raises(TypeError, match="it needs width; give them defaults"):
        takes_method("f", lambda width: None)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("return nn.Linear(9, 2)", "the model does not run on the data's inputs, .2, 8. torch.float32: RuntimeError"),
        ("return nn.Unflatten(1, (2, 4))", "must return logits .batch, classes.; got .2, 2, 4."),
        ("return 3", "must return an nn.Module; got int"),
        ("raise KeyError('a')", "own_file_[0-9]+.py:build raised KeyError: 'a'"),
    ],
)
def test_models_that_do_not_fit_are_refused_at_once(tmp_path: Path, build: str, message: str) -> None:
    with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
        problem(tmp_path, f"from torch import nn\ndef build():\n    {build}\n{DATA}")


def test_what_cannot_be_converted_names_the_layer_and_costs_its_cell_alone(tmp_path: Path) -> None:
    odd = MODEL.replace("nn.Linear(16, 16)", "Odd(16, 16)") + (
        "\nclass Odd(nn.Linear):\n    def forward(self, x):\n        return super().forward(x * 2)\n"
    )
    network = next(iter(problem(tmp_path, odd + DATA).networks.values()))
    assert network.about[0].startswith("Cannot be made low-bit: convert: cannot convert '3' (Odd)")
    assert isinstance(network.build(None), nn.Module)
    with pytest.raises(ValueError, match="cannot convert '3' \\(Odd\\)"):
        network.build(BNN)


def test_data_that_are_drawn_anew_are_found_out(tmp_path: Path) -> None:
    drawn = DATA.replace("generator=torch.Generator().manual_seed(0)", "generator=None")
    made = problem(tmp_path, MODEL + drawn)
    with pytest.raises(ValueError, match="gives other examples than when the run began; draw parts with a seed"):
        made.load(None)


def test_all_tracks_that_can_be_asked_are(tmp_path: Path) -> None:
    made = problem(tmp_path)
    asked = choice(tasks=(), networks=(), train_size=None, epochs=2)
    for track in ALL:
        plan = track((made,)).plan(asked)  # type: ignore[call-arg]
        assert bool(plan.trials) == (track.name not in ("neural_architecture", "corruption_robustness"))
        assert plan.trials or plan.dropped
    learning = LearningTask((made,))
    trials = learning.plan(asked).trials
    found = run_all([learning], trials, asked, tmp_path)
    low = next(found[t.key].result for t in trials if t.method == "BNN")
    assert low.metrics["exact"] == 1.0
    assert "Made low-bit by bittern.convert: 1 layer." in low.notes
    step = TrainingConsumption((made,), budget_s=0.01)
    timed = HardwareInference((made,), PEERS[:1], budget_s=0.01)
    for track_, count in ((TheoreticalComplexity((made,)), 2), (step, 2), (timed, 2)):
        chosen = [t for t in track_.plan(asked).trials if t.setting("model")][:count]
        found = run_all([track_], chosen, asked, tmp_path)
        assert len(found) == count
    metrics = next(one.result.metrics for one in found.values() if one.trial.method == "BNN")
    assert metrics["speedup"] > 0.0, "the process of an engine finds the user's file"


def test_images_of_a_user_are_corrupted(tmp_path: Path) -> None:
    images = """
from torch import nn
from bittern.data import digits
def build():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.LazyLinear(10))
"""
    made = problem(tmp_path, images, data="digits")
    assert len(CorruptionRobustness((made,)).plan(choice(tasks=(), networks=())).trials) == 2
    network = next(iter(made.networks.values()))
    assert network.family == "CNN"
    assert any(isinstance(m, BinaryConv2d) for m in network.build(BNN).modules())
    assert network.build(BNN)[4].weight.shape == (10, 64)  # type: ignore[index]
