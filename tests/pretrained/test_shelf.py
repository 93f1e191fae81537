# SPDX-License-Identifier: Apache-2.0
"""Loading by name: what is found, what is answered, and what is refused."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import bittern
from _shelf import COLOURS, GREY, WORDS, card_of, classifier, detector, put, with_use
from _tolerance import assert_exact
from bittern import pretrained
from bittern.deploy import FormatError, Packed
from bittern.pretrained import Answer
from bittern.pretrained.answers import Boxes, Classes
from bittern.pretrained.card import read_card
from bittern.pretrained.use import ANSWERS, PREPARATION, Use, read_use


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    put(folder, "toy", classifier())
    put(folder, "two-boxes", detector(), classes=2)
    return folder


def test_one_of_each_kind(shelf: Path) -> None:
    assert pretrained.names(shelf) == ("toy", "two-boxes")
    net = pretrained.load("toy", shelf)
    assert net.classes == ("dark", "grey", "bright")
    assert net.card == pretrained.card("toy", shelf) == read_card((shelf / "toy.json").read_bytes())
    assert repr(net) == f"Pretrained('toy': Toy, {net.card.bytes:,} bytes)"
    raw = torch.rand(1, 8, 8)
    shares = net(net.prepare(raw)).softmax(1)[0]
    answers = net.predict(raw, top=9)
    assert [answer.score for answer in answers] == sorted(shares.tolist(), reverse=True)
    assert {answer.name: answer.score for answer in answers} == dict(zip(net.classes, shares.tolist(), strict=True))
    assert net.predict(raw) == answers[:1]
    assert net.predict(raw, top=3, least=answers[1].score) == answers[:2]
    assert net.predict(raw, least=1.0) == ()


def test_boxes_are_those_of_the_raw_picture(shelf: Path) -> None:
    """Twice as wide and five times as high: the boxes of the network's own picture, stretched."""
    net = pretrained.load("two-boxes", shelf)
    small = torch.rand(3, 8, 16)
    image = Image.fromarray((small * 255).round().byte().permute(1, 2, 0).numpy())
    own = net.predict(image, least=0.0)
    assert own
    assert all(answer.box is not None for answer in own)
    stretched = net.predict(image.resize((32, 40), Image.Resampling.NEAREST), least=0.0)
    assert [(a.name, pytest.approx(a.score)) for a in own] == [(a.name, a.score) for a in stretched]
    for a, b in zip(own, stretched, strict=True):
        assert a.box is not None
        assert b.box == pytest.approx([side * by for side, by in zip(a.box, (2, 5, 2, 5), strict=True)])
    assert net.predict(image) == tuple(answer for answer in own if answer.score >= 0.1)
    assert net.predict(image, top=1, least=0.0) == own[:1]


def test_a_box_by_hand() -> None:
    """Cell (0, 1) of stride 8, centre (8 + 4, 4), sides e^0 * 8; sure 1/2, of class 1 with 3/4."""
    z = torch.full((1, 7, 1, 2), -100.0)
    z[0, :, 0, 1] = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, torch.tensor(3.0).log()])
    assert Boxes(8, 0.1)(z, ("cat", "dog"), (2.0, 1.0)) == [Answer("dog", pytest.approx(0.375), (16.0, 0.0, 32.0, 8.0))]


@pytest.mark.parametrize(("top", "least"), [(0, None), (None, -0.1), (None, 1.5), (None, float("nan"))])
def test_predict_refuses(shelf: Path, top: int | None, least: float | None) -> None:
    with pytest.raises(ValueError, match=r"top must be at least 1 and least in \[0, 1\]"):
        pretrained.load("toy", shelf).predict(torch.rand(1, 8, 8), top=top, least=least)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tay", r"no pretrained network 'tay'; did you mean toy\?"),
        ("TOY", r"did you mean toy\?"),
        ("two", r"did you mean two-boxes or toy\?"),
        ("cifar10", "there are toy, two-boxes"),
        ("", "there are toy, two-boxes"),
        ("../toy", r"no pretrained network '\.\./toy'"),
    ],
)
def test_unknown_names(shelf: Path, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pretrained.load(name, shelf)


def test_an_empty_shelf(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pretrained network 'toy'; there are none"):
        pretrained.load("toy", tmp_path)


def test_a_name_is_no_file_and_a_file_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    classifier().save("model")
    for source in (Path("model"), "./model", str(tmp_path / "model")):
        assert isinstance(bittern.load(source), Packed)
    with pytest.raises(ValueError, match=r"no pretrained network 'model'.* For the file of that name give '\./model'"):
        bittern.load("model")
    with pytest.raises(FileNotFoundError, match=r"no file 'digits\.safetensors'"):
        bittern.load("digits.safetensors")
    Path("digits").write_bytes(b"a file")
    assert isinstance(bittern.load("digits"), pretrained.Pretrained), "what lies in the folder has no say"


def test_files_that_are_not_those_of_their_card(tmp_path: Path) -> None:
    card = put(tmp_path, "toy", classifier())
    path = tmp_path / "toy.bittern"
    content = path.read_bytes()
    for other, got in (
        (bytes([*content[:-1], content[-1] ^ 1]), "has others"),
        (content[:-1], f"has {len(content) - 1:,}"),
    ):
        path.write_bytes(other)
        with pytest.raises(ValueError, match=f"must hold the {card.bytes:,} bytes of its card, and {got}"):
            pretrained.load("toy", tmp_path)
    os.remove(path)
    with pytest.raises(ValueError, match="and is missing; install it again"):
        pretrained.load("toy", tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("score", 0.5, "score of a card must be that of its seed 1"),
        ("score", 2, r"must lie in \[0, 1\]"),
        ("scores", [1], "scores of a card must be an object"),
        ("sha256", "0", "sha256 of a card must be like"),
        ("name", "Toy", "name of a card must be like"),
        ("name", "other", "is the card of 'other'"),
        ("bytes", -1, "bytes of a card must be a whole number of at least 0"),
        ("commands", "all", "commands of a card must be a list; got str"),
        ("curves", {"loss": []}, "curves of a card must be a list of numbers"),
        ("probe", [-1], "probe of a card must be a whole number of at least 0"),
        ("published", 7, "published of a card must be a text; got 7"),
        ("extra", 7, "a card has extra, which nothing reads"),
        ("data", ..., "a card lacks data"),
    ],
)
def test_damaged_cards(field: str, value: object, words: str, tmp_path: Path) -> None:
    put(tmp_path, "toy", classifier())
    card = json.loads((tmp_path / "toy.json").read_text()) | {field: value}
    (tmp_path / "toy.json").write_text(json.dumps({n: v for n, v in card.items() if v is not ...}))
    with pytest.raises(ValueError, match=words):
        pretrained.load("toy", tmp_path)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b'{"name": NaN}', b"[" * 100_000, b" " * 2**21])
def test_what_is_no_card(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "toy.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"toy\.json is damaged"):
        pretrained.card("toy", tmp_path)


def hostile(changes: dict[str, str | None]) -> Packed:
    packed = classifier()
    info = {name: text for name, text in {**packed.info, **changes}.items() if text is not None}
    return Packed(packed.program, packed.tensors, info, packed.device)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({PREPARATION: None}, "it lacks its preparation"),
        ({"classes": None}, "it does not name its classes"),
        ({"classes": '["a"]'}, "the network must give [1] for 1 classes; it gives [3]"),
        ({PREPARATION: "7"}, "its preparation must be an object of JSON; got int"),
        ({PREPARATION: '{"kind": "smell"}'}, "is of the kind 'smell'; known are image, text, sound, stroke"),
        ({PREPARATION: '{"kind": ["image"]}'}, "kind of its preparation must be a text"),
        ({ANSWERS: '{"kind": "boxes", "stride": 0, "least": 0}'}, "stride must be a whole number of at least 1"),
        ({ANSWERS: '{"kind": "boxes", "stride": 8, "least": 2}'}, "least in [0, 1]"),
        ({ANSWERS: '{"kind": "boxes", "stride": 3, "least": 0}'}, "multiples of 3"),
        ({ANSWERS: '{"kind": "boxes", "stride": 8, "least": 0}'}, "the network must give [8, 1, 1]"),
        (Use(("a", "b", "c"), WORDS, Classes()).to_info(), "its preparation gives inputs [4]"),
    ],
)
def test_hostile_files(changes: dict[str, str | None], words: str, tmp_path: Path) -> None:
    put(tmp_path, "toy", hostile(changes))
    with pytest.raises(FormatError, match=re.escape(words)):
        pretrained.load("toy", tmp_path)


def test_a_card_of_what_is_no_packed_file(tmp_path: Path) -> None:
    content = b"no packed file"
    (tmp_path / "toy.bittern").write_bytes(content)
    (tmp_path / "toy.json").write_text(card_of("toy", content).to_json())
    with pytest.raises(FormatError, match=r"toy\.bittern is no pretrained network"):
        pretrained.load("toy", tmp_path)


def test_use_says_what_run_reads() -> None:
    """Mean and std of pictures stand where `bittern pack` writes them, too."""
    use = Use(("a", "b"), COLOURS, Boxes(8, 0.25))
    assert read_use(use.to_info()) == use
    assert json.loads(use.to_info()["mean"]) == list(COLOURS.mean)
    packed = with_use(classifier(), Use(("x", "y", "z"), GREY, Classes()))
    assert_exact(packed(torch.zeros(1, 1, 8, 8)), classifier()(torch.zeros(1, 1, 8, 8)))
