# SPDX-License-Identifier: Apache-2.0
"""Packed parts give the trained network's numbers at every exit, and run for nothing that has left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from _ddnn import EXAMPLES, SIZE, Case
from bittern.binary import BNN
from bittern.ddnn import Tiling, normalized_entropy, open_ddnn, pack_ddnn, save_ddnn
from bittern.deploy import FormatError
from bittern.models import ddnn


@pytest.fixture(params=["plain", "with_edge"])
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("away", [None, 0, 1])
def test_every_exit_equals_the_trained_one(case: Case, away: int | None) -> None:
    views = [None if index == away else view for index, view in enumerate(case.views)]
    trained, packed = case.trained(views), case.packed.exits(views)
    assert list(packed) == list(trained)
    for name, scores in trained.items():
        assert torch.equal(packed[name], scores), name
    assert len({tuple(row.tolist()) for row in packed["cloud"]}) > EXAMPLES // 2, "the cloud looks at what it gets"


def test_what_leaves_runs_no_further_part(case: Case) -> None:
    trained = case.trained(list(case.views))
    entropy = normalized_entropy(trained["local"])
    threshold = float(entropy.sort().values[EXAMPLES // 2])
    unsure = entropy > threshold
    case.packed.runs.clear()
    early = [threshold] if case.packed.edge is None else [threshold, 0.0]
    answers = case.packed(case.views, early)
    assert 0 < int(unsure.sum()) < EXAMPLES
    assert answers.exits == tuple("cloud" if more else "local" for more in unsure)
    assert case.packed.runs["cloud"] == int(unsure.sum())
    assert case.packed.runs["local"] == case.packed.runs["device 1"] == EXAMPLES
    assert torch.equal(answers.scores[unsure], trained["cloud"][unsure])
    assert torch.equal(answers.scores[~unsure], trained["local"][~unsure])
    case.packed.runs.clear()
    assert set(case.packed(case.views, [1.0] * len(early)).exits) == {"local"}
    assert not {"edge", "cloud"} & set(case.packed.runs)


def test_a_folder_holds_all_parts(case: Case, tmp_path: Path) -> None:
    thresholds = [0.5] if case.packed.edge is None else [0.5, 0.25]
    tiling = Tiling(1, 2, (0.5,), (0.25,))
    save_ddnn(case.packed, tmp_path / "net", thresholds=thresholds, classes=("a", "b", "c"), tiling=tiling)
    opened = open_ddnn(tmp_path / "net")
    assert (opened.shapes, opened.thresholds, opened.classes) == (
        case.packed.shapes,
        tuple(thresholds),
        ("a", "b", "c"),
    )
    assert opened.tiling == tiling
    again = opened.network().exits(case.views)
    assert all(torch.equal(scores, again[name]) for name, scores in case.packed.exits(case.views).items())
    with pytest.raises(ValueError, match=r"devices 0 \.\.\. 1"):
        opened.device(2)


def test_a_damaged_folder_is_refused(plain: Case, tmp_path: Path) -> None:
    save_ddnn(plain.packed, tmp_path, thresholds=[0.5])
    file = tmp_path / "ddnn.json"
    sound = json.loads(file.read_text())
    assert open_ddnn(tmp_path).tiling is None
    changes = [
        *({"version": 2}, {"devices": 0}, {"devices": True}, {"classes": 1}, {"view": [1, 9]}, {"local": "XX"}),
        *(
            {"thresholds": [1.5]},
            {"thresholds": "0"},
            {"edge": "CC"},
            {"tiling": {"rows": 1}},
            {"features": [8, -3, 2]},
        ),
    ]
    for change in changes:
        file.write_text(json.dumps(sound | change))
        with pytest.raises(FormatError, match=r"ddnn\.json"):
            open_ddnn(tmp_path)
    file.write_text(json.dumps(sound | {"view": [1, 9, 8]}))
    with pytest.raises(FormatError, match="takes other inputs"):
        open_ddnn(tmp_path).device(0)
    file.write_text("[" * 100_000)
    with pytest.raises(FormatError):
        open_ddnn(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no ddnn\.json"):
        open_ddnn(tmp_path / "nowhere")


def test_what_does_not_fit_is_refused(plain: Case) -> None:
    with pytest.raises(ValueError, match="needs 2 views"):
        plain.packed(plain.views[:1], [0.5])
    with pytest.raises(ValueError, match="each of 2 devices"):
        pack_ddnn(plain.model, plain.views[:1])
    with pytest.raises(TypeError, match="packs a DDNN"):
        pack_ddnn(torch.nn.Linear(1, 1), plain.views)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="classes"):
        save_ddnn(plain.packed, "unused", thresholds=[0.5], classes=("a",))
    assert ddnn(BNN, 3, views=2, input_size=SIZE).views == 2
