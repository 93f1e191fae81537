# SPDX-License-Identifier: Apache-2.0
"""From trials to a file and a card: which seed, what is in it, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from _shelf import GREY, low_bit
from _tracks import done
from bittern import pretrained
from bittern.bench.cards import Subject, publish
from bittern.bench.cards.choice import median_seed
from bittern.bench.cards.page import PAGE, page
from bittern.bench.cards.publish import published
from bittern.bench.cards.words import gap, of_file, over_seeds, rows
from bittern.bench.tracks.artefacts import LAYERS, PACKED
from bittern.bench.tracks.parts import Parts, tensor_parts
from bittern.bench.tracks.problem import Network, Problem
from bittern.bench.tracks.problems import CIFAR10_JPEG75, DIGITS
from bittern.bench.tracks.published import nearest
from bittern.bench.trials.groups import Group, grouped
from bittern.bench.trials.trial import TWIN, Done, Result, Trial
from bittern.binary import BNN
from bittern.deploy import pack
from bittern.nn.summary import summary
from bittern.pretrained.answers import Classes
from bittern.pretrained.use import Use
from bittern.train import Recipe

ROOT = Path(__file__).parents[3]
NAMES = ("dark", "grey", "bright")
SUBJECT = Subject("toy", "small", "BNN", "common")


def _inputs(count: int) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8)


def _read(data: Path | None, train_size: int | None) -> Parts:
    x = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(60) % 3
    return tensor_parts((x[:50], y[:50]), (x[50:], y[50:]), train_size)


TOY = Problem(
    name="toy",
    title="Toy",
    source="made up",
    networks={"small": Network(lambda method: low_bit(1, 3), "CNN")},
    recipe=Recipe(epochs=1, batch_size=10, learning_rate=0.5),
    inputs=_inputs,
    read=_read,
    classes=NAMES,
    use=lambda data: Use(NAMES, GREY, Classes()),
    licence="none needed",
)


def _model(seed: int) -> nn.Module:
    model = low_bit(1, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return model


def _trainings(scores: tuple[float, ...] = (0.8, 0.4, 0.6), **metrics: float) -> list[Done]:
    found = []
    for seed, score in enumerate(scores):
        trial = Trial("learning_task", "toy", "small", "BNN", "common", seed, 2, (("train_size", None),))
        twin = dataclasses.replace(trial, method=TWIN)
        model = _model(seed)
        layers = json.dumps([row._asdict() for row in summary(model, _inputs(1)).rows]).encode()
        artefacts = {PACKED: pack(model, _inputs(2)).to_bytes(), LAYERS: layers}
        curves = {"train_loss": (2.0, 1.0 + seed)}
        found.append(done(twin, {"score": score + 0.1 + 0.05 * seed}))
        found.append(done(trial, Result({"score": score, "exact": 1.0, **metrics}, curves, artefacts, ("a note",))))
    return found


@pytest.mark.parametrize(
    ("scores", "seed"),
    [
        ({0: 0.9, 1: 0.5, 2: 0.7}, 2),
        ({0: 0.9, 1: 0.5}, 1),
        ({3: 0.9, 1: 0.5, 2: 0.7, 0: 0.8}, 2),
        ({5: 0.5, 4: 0.5, 3: 0.5}, 4),
        ({7: 0.1}, 7),
    ],
)
def test_the_median_seed(scores: dict[int, float], seed: int) -> None:
    assert median_seed(scores) == seed


def test_no_seed() -> None:
    with pytest.raises(ValueError, match="at least one seed; got none"):
        median_seed({})


def test_a_network_is_published_and_read(tmp_path: Path) -> None:
    trainings = _trainings()
    timed = [
        done(Trial("hardware_inference", "toy", "small", method, "", 0, 0), metrics)
        for method, metrics in ((TWIN, {"latency": 4e-4}), ("BNN", {"latency": 1e-4, "speedup": 3.75}))
    ]
    card = publish([*trainings, *timed], SUBJECT, BNN, "my-toy", tmp_path, data=None, problems=(TOY,))
    assert pretrained.card("my-toy", tmp_path) == card
    net = pretrained.load("my-toy", tmp_path)
    assert card.scores == {"0": 0.8, "1": 0.4, "2": 0.6}
    assert card.seed == median_seed({int(seed): score for seed, score in card.held_out.items()})
    assert card.score == card.scores[str(card.seed)]
    assert card.curves == {"train_loss": (2.0, 1.0 + card.seed)}
    assert card.examples == {"trained on": 45, "held out": 5, "tested on": 10}
    assert (card.latency_s, card.speedup) == (1e-4, 3.75)
    assert dict(rows(card))["latency"].startswith("100 µs for one input, 3.8 times as fast as the float twin in torch")
    assert card.training == "2 epochs of AdamW, rate 0.5, batches of 10, Cosine(warmup=0.0)"
    assert card.binary_weights == 27
    assert card.published is None
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        assert card.probe == tuple(_model(card.seed)(_inputs(8)).argmax(1).tolist())
    x = _inputs(3)
    assert torch.equal(net(x), _model(card.seed)(x)), "the network of that seed"
    # the card's held-out score is that of the file on what was not trained on
    held_out = TOY.load(None).choice[1]  # type: ignore[index]
    right = [int(net(x.unsqueeze(0)).argmax()) == int(y) for x, y in held_out]
    assert card.held_out[str(card.seed)] == sum(right) / len(right)


def test_words_of_a_card(tmp_path: Path) -> None:
    card = publish(_trainings(), SUBJECT, BNN, "my-toy", tmp_path, data=None, problems=(TOY,))
    assert of_file(card) == f"{100 * card.score:.1f}"
    assert over_seeds(card) == "60.0 ± 20.0"
    assert gap(card) == "-15.0 ± 5.0"
    said = dict(rows(card))
    assert said["latency"] == "not measured"
    assert "no figure of the authors" in said["published"]
    text = page([card])
    assert "| [`my-toy`](#my-toy) | Toy | BNN, `small` |" in text
    assert "| 2 | 1.0000 |" in text or f"| 2 | {1.0 + card.seed:.4f} |" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"subject": dataclasses.replace(SUBJECT, method="ReCU")}, "no trainings of .*; there are: .*BNN"),
        ({"subject": dataclasses.replace(SUBJECT, epochs=3)}, "no trainings of .*epochs=3"),
        ({"subject": dataclasses.replace(SUBJECT, method=TWIN)}, "no trainings of"),
        ({"name": "My_toy"}, "a name is small letters and digits"),
        ({"problems": (dataclasses.replace(TOY, licence=None),)}, "states no licence to pass networks on under"),
        ({"problems": (dataclasses.replace(TOY, use=None),)}, "or not how they are used"),
    ],
)
def test_what_is_not_published(change: dict[str, object], words: str, tmp_path: Path) -> None:
    asked = {"subject": SUBJECT, "name": "my-toy", "problems": (TOY,), **change}
    with pytest.raises(ValueError, match=words):
        publish(_trainings(), method=BNN, folder=tmp_path, data=None, **asked)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_trials_that_do_not_do(tmp_path: Path) -> None:
    trainings = _trainings()
    alone = [one for one in trainings if one.trial.method != TWIN]
    with pytest.raises(ValueError, match=r"the float twin of .* is missing"):
        publish(alone, SUBJECT, BNN, "my-toy", tmp_path, data=None, problems=(TOY,))
    with pytest.raises(ValueError, match="packed model and training graph disagree"):
        publish(_trainings(exact=0.0), SUBJECT, BNN, "my-toy", tmp_path, data=None, problems=(TOY,))
    longer = [dataclasses.replace(o, trial=dataclasses.replace(o.trial, epochs=9)) for o in trainings]
    with pytest.raises(ValueError, match="several trainings, say which epochs and train_size"):
        publish([*trainings, *longer], SUBJECT, BNN, "my-toy", tmp_path, data=None, problems=(TOY,))


def test_figures_of_the_authors_are_for_cifar10_alone() -> None:
    def trained(method: str) -> Group:
        trial = Trial("learning_task", "cifar10_jpeg75", "resnet20_cifar", method, "common", 0, 10)
        return grouped([done(trial, {"score": 0.5})])[0]

    said = published(CIFAR10_JPEG75, trained("ReCU"))
    assert said is not None
    assert str(nearest("ReCU", "resnet20_cifar")) in said
    assert "on a JPEG copy that costs about ten points" in said
    assert "Epochs: 10 of 600" in said
    assert published(DIGITS, trained("ReCU")) is None
    assert published(CIFAR10_JPEG75, trained("XNORNetPlusPlus")) is None, "none was read"


def test_committed_page_is_fresh() -> None:
    cards = [pretrained.card(name) for name in pretrained.names()]
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(cards), "run: python -m bittern.bench.cards.page"
