# SPDX-License-Identifier: Apache-2.0
"""The benchmark's page as text: complete, escaped, self-contained, the same for the same trials."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import _page_trials as made
from bittern.bench.core.seeds import Estimate
from bittern.bench.page import report
from bittern.bench.page.data import chart_data
from bittern.bench.page.metrics import estimate_text, found_text, points_text, times_text, title, value_text
from bittern.bench.page.tables import trial_links
from bittern.bench.page.view import view
from bittern.bench.trials.builds import builds_told
from bittern.bench.trials.track import Companion
from bittern.bench.trials.trial import TWIN, Result, Trial

VOID = {"meta", "link", "input"}


class Page(HTMLParser):
    """Tags with their attributes, texts of cells by tables, and whether every tag that opens closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: dict[str, list[list[str]]] = {}
        self._table = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._table = dict(attrs)["id"] or ""
            self.rows[self._table] = []
        if tag == "tr":
            self.rows[self._table].append([])
        if tag in ("td", "th"):
            self.rows[self._table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[self._table][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def text() -> str:
    return report.render(made.trials(), [made.failed()], made.tracks())


def data_of(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def test_same_trials_same_page_in_any_order(text: str) -> None:
    trials = made.trials()
    random.Random(1).shuffle(trials)
    assert report.render(trials, [made.failed()], made.tracks()) == text


def test_tags_close_ids_are_unique_and_links_lead_somewhere(text: str) -> None:
    page = Page(text)
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in (attributes.get("aria-labelledby") or "").split():
            assert name in ids
    assert {(link["href"] or "")[1:] for link in page.all("a")} <= set(ids)


def test_every_table_has_a_caption_and_scopes_and_every_chart_a_text(text: str) -> None:
    page = Page(text)
    assert len(page.all("table")) == len(page.all("caption")) == 9
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    charts = [one for one in page.all("div") if "chart" in (one.get("class") or "").split()]
    assert len(charts) == 6
    assert all(one["role"] == "img" and one["tabindex"] == "0" and one["aria-label"] for one in charts)


def test_nothing_comes_from_elsewhere(text: str) -> None:
    page = Page(text)
    assert not any("src" in attributes for tag, attributes in page.tags if tag != "img")
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert re.findall(r"url\((?!#)[^)]*\)|@import", report._asset("page.css")) == []


def test_numbers_are_means_over_seeds_beside_the_twins() -> None:
    """Worked by hand: scores 0.90, 0.92 and 0.94 beside a twin of 0.95, 0.95 and 0.98."""
    trials = []
    for method, scores in ((TWIN, (0.95, 0.95, 0.98)), ("BNN", (0.90, 0.92, 0.94))):
        for seed, score in enumerate(scores):
            trial = Trial("learning_task", "digits", "mlp", method, "common", seed, 2)
            trials.append(made.done(trial, Result({"score": score, "packed_bytes": 4e3})))
    page = Page(report.render(trials, [], made.tracks()))
    heads, twin, row = page.rows["track-learning-task-table"]
    columns = ["Method", "Score", "Gap to twin, points", "Published gap, points", "Published", "Packed bytes"]
    assert heads == [*columns, "Seeds", "Trials"]
    # deviations -1, -1, 2 points: sqrt(6 / 2) = 1.73; gaps -5, -3, -4: mean -4, deviation 1
    assert twin == [TWIN, "96.0 ± 1.7%", "–", "", "", "4.0 kB", "3", "1–3"]
    there = ["−4.2", "89.9% CIFAR-10, VGG-small"]
    assert row == ["BNN", "92.0 ± 2.0%", "−4.0 ± 1.0", *there, "4.0 kB", "3", "4–6"]
    assert [one[0] for one in page.rows["trials-table"][1:]] == ["1", "2", "3", "4", "5", "6"]


def test_published_figures_stand_beside_trainings_of_both_recipes() -> None:
    trials = []
    for method, recipe in ((TWIN, "common"), ("IRNet", "common"), ("IRNet", "paper"), ("XNORNetPlusPlus", "paper")):
        for task in ("digits", "spam"):
            trial = Trial("learning_task", task, "resnet20_cifar", method, recipe, 0, 3)
            trial = trial.having(**{"authors_recipe": f"of {method}"} if recipe == "paper" else {})
            trials.append(made.done(trial, Result({"score": 0.9}, {}, {}, (f"Recipe: {recipe} <one>.",))))
    page = Page(report.render(trials, [], made.tracks()))
    heads, *rows = page.rows["track-learning-task-table"]
    assert heads == ["Method", "Task", "Recipe", *heads[3:]]
    assert heads[3:7] == ["Score", "Gap to twin, points", "Published gap, points", "Published"]
    assert [row[5:7] for row in rows if row[0] == "IRNet"] == [["−6.7", "85.4% CIFAR-10, ResNet-20"]] * 4
    assert [row[4:7] for row in rows if row[0] == "XNORNetPlusPlus"] == [["+0.0", "none read", "none read"]] * 2
    figures = page.rows["published-table"]
    assert [row[1] for row in figures[1:]] == [
        "none read",
        "86.5%",
        "90.4%",
        "91.5%",
        "58.1%",
        "85.4%",
        "90.4%",
        "58.1%",
    ]
    assert figures[2][2:] == ["CIFAR-10, ResNet-20", "–", "no twin there", "htqin/IR-Net README.md"]
    assert figures[6][3:5] == ["92.1%", "−6.7"]
    differ = page.rows["recipes-table"]
    assert [row[:3] for row in differ[1:]] == [
        ["XNORNetPlusPlus", "paper", "digits, resnet20_cifar; spam, resnet20_cifar"],
        ["IRNet", "common", "digits, resnet20_cifar; spam, resnet20_cifar"],
        ["IRNet", "paper", "digits, resnet20_cifar; spam, resnet20_cifar"],
    ]
    assert differ[3][3:] == [
        *("CIFAR-10, ResNet-20", "3 of 400", "128", "random crop of 32 from 40 pixels, mirrored", "paper <one>.")
    ]


def test_costs_come_from_the_tracks_that_measure_them(text: str) -> None:
    rows = Page(text).rows["choices-table"]
    assert rows[0][3:9] == ["Score", "Gap, points", "Stored bytes", "OPs", "Latency", "Not beaten"]
    twin = rows[1]
    assert twin[:3] == [TWIN, "task 0", "network0"]
    assert twin[5:8] == ["960.0 kB", "4 M", "1.00 ms"]
    assert all("–" not in row[3:8] or row[0] == TWIN for row in rows[1:])


def test_failed_cells_say_why(text: str) -> None:
    (row,) = Page(text).rows["failed-table"][1:]
    assert row[0] == "FDA"
    assert row[5] == "ValueError: layer 'conv1' pads with 0, which has no bit"
    assert row[6] == "M1"


def test_hostile_names_stay_text() -> None:
    text = report.render(made.hostile(), [made.failed(made.HOSTILE, made.HOSTILE)], made.tracks())
    page = Page(text)
    assert page.open == []
    assert len(page.all("script")) == 4
    assert page.all("b") == []
    assert not any("onmouseover" in attributes for _, attributes in page.tags)
    assert made.HOSTILE in page.rows["failed-table"][1]
    assert data_of(text)["methods"][0]["name"] == made.HOSTILE


def test_overall_figures_are_those_of_the_tracks(text: str) -> None:
    overall = data_of(text)["overall"]
    assert [axis["title"] for axis in overall["axes"]][:2] == ["Learning task", "Neural architecture"]
    assert overall["axes"][0]["max"] == 1.0
    assert overall["axes"][4]["max"] == 16.0
    assert overall["rows"][0]["values"] == [1.0] * 6
    assert overall["rows"][1]["values"] == [0.9, 0.8, 0.7, 1.0, 12.0, 4.0]


def test_a_companion_stands_beside_its_axis_in_the_table_alone() -> None:
    class Misleading(made.MadeUpTrack):
        def companion(self, done: object) -> Companion:
            return Companion("Kept", "Lost says little of who has little.", {"BNN": 0.25})

    tracks = [made.MadeUpTrack("first", "score", {"BNN": 0.9}), Misleading("lost", "score", {"BNN": 7.0, "FDA": 1.0})]
    tracks.append(made.MadeUpTrack("last", "score", {"BNN": 0.5}))
    text = report.render(made.trials(tasks=1, networks=1, seeds=1), [], tracks)
    heads, twin, row, *_ = Page(text).rows["overall-table"]
    assert heads == ["Method", "First", "Lost", "Kept", "Last"]
    assert (twin, row) == ([TWIN, "1", "1", "1", "1"], ["BNN", "0.9", "7", "0.25", "0.5"])
    assert '<p class="reading">Lost says little of who has little.</p>' in text
    assert [axis["title"] for axis in data_of(text)["overall"]["axes"]] == ["First", "Lost", "Last"]


def test_a_method_that_lacks_a_track_is_named(text: str) -> None:
    tracks = list(made.tracks())
    tracks[0] = made.MadeUpTrack("learning_task", "score", {"BNN": 0.9})
    page = report.render(made.trials(tasks=1, networks=1, seeds=1), [], tracks)
    assert "Not drawn, since a track is missing: XNORNet, " in page
    assert "Not drawn" not in text


def test_curves_are_means_with_their_range() -> None:
    trials = []
    for seed, losses in enumerate(((2.0, 1.0), (4.0, 1.5))):
        trial = Trial("learning_task", "digits", "mlp", "BNN", "common", seed, 2)
        trials.append(made.done(trial, Result({"score": 0.9}, {"test_loss": losses})))
    (cell,) = chart_data(view(trials, [], ()))["curves"]
    (line,) = cell["quantities"]["loss"]["lines"]
    assert (line["mean"], line["low"], line["high"]) == ([3.0, 1.25], [2.0, 1.0], [4.0, 1.5])
    assert line["epochs"] == [1, 2]


def test_twins_stand_beside_papers_recipes() -> None:
    trials = []
    for method, recipe in ((TWIN, "common"), ("BNN", "common"), ("BNN", "paper")):
        trial = Trial("learning_task", "digits", "mlp", method, recipe, 0, 2)
        trials.append(made.done(trial, Result({"score": 0.9}, {"test_loss": (1.0, 2.0)})))
    cells = chart_data(view(trials, [], ()))["curves"]
    assert [len(cell["quantities"]["loss"]["lines"]) for cell in cells] == [2, 2]


def test_long_curves_are_thinned_to_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bittern.bench.page.data.CURVE_VALUES", 36)
    trial = Trial("learning_task", "digits", "mlp", "BNN", "common", 0, 1000)
    long = made.done(trial, Result({"score": 0.9}, {"test_loss": tuple(1.0 + i for i in range(1000))}))
    (cell,) = chart_data(view([long], [], ()))["curves"]
    epochs = cell["quantities"]["loss"]["lines"][0]["epochs"]
    assert (len(epochs), epochs[0], epochs[-1]) == (12, 1, 1000)


def test_many_classes_become_their_worst_pairs() -> None:
    names = [f"class {i}" for i in range(30)]
    counts = [[100 if i == j else 0 for j in range(30)] for i in range(30)]
    counts[3][7] = 9
    file = json.dumps({"classes": names, "counts": counts}).encode()
    trials = [
        made.done(
            Trial("learning_task", "t", "n", "BNN", "", seed, 1), Result({"score": 0.9}, {}, {"confusion.json": file})
        )
        for seed in range(2)
    ]
    (cell,) = chart_data(view(trials, [], ()))["looks"]["cells"]
    assert cell["confusion"] == {"pairs": [["class 3", "class 7", 18]]}


def test_what_has_no_room_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bittern.bench.page.looks.BYTES", 10_000)
    looks = chart_data(view(made.trials(), [], ()))["looks"]
    assert looks["left_out"] > 0
    assert len(looks["cells"]) + looks["left_out"] == 40


def test_one_trial_of_an_unknown_track_and_failures_alone_have_a_page() -> None:
    trial = Trial("of my own", "t", "n", "mine", "", 0, 0, (("width", 3),))
    page = Page(report.render([made.done(trial, Result({"speed": 2.0}))], [], ()))
    assert page.rows["track-of-my-own-table"] == [["Method", "Speed", "Seeds", "Trials"], ["mine", "2", "1", "1"]]
    assert "failed-table" in Page(report.render([], [made.failed()], ())).rows
    with pytest.raises(ValueError, match="no trial to tell of"):
        report.render([], [], ())


def test_written_whole(tmp_path: Path, text: str) -> None:
    target = tmp_path / "deep" / "page.html"
    report.write(target, made.trials(), [made.failed()], made.tracks())
    assert target.read_text(encoding="utf-8") == text
    assert len(text.encode()) < 3_000_000


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("accuracy", 0.91234, "91.2%"),
        ("packed_bytes", 41_200.0, "41.2 kB"),
        ("latency", 0.00026, "260 µs"),
        ("latency: ONNX Runtime", 0.5, "500.0 ms"),
        ("speedup: torch", 3.456, "3.46×"),
        ("fog", 0.5, "50.0%"),
        ("motion_blur_3", 0.5, "50.0%"),
        ("motion_blur_x", 0.5, "0.5"),
        ("diverged", 0.0, "no"),
        ("twin_step_time", 3.0, "3 s"),
        ("ops", 12_345_678.0, "12.3 M"),
        ("exact", 1.0, "yes"),
        ("exact", 0.0, "no"),
        ("loss", 0.123456, "0.1235"),
    ],
)
def test_values_have_units(name: str, value: float, shown: str) -> None:
    assert value_text(name, value) == shown


def test_spreads_are_told_where_there_are_any() -> None:
    assert estimate_text("score", Estimate(0.9, None, 1)) == "90.0%"
    assert estimate_text("score", Estimate(0.9, 0.0, 3)) == "90.0%"
    assert estimate_text("score", Estimate(0.9, 0.1, 2)) == "90.0%"
    assert estimate_text("score", Estimate(0.9, 0.1, 3)) == "90.0 ± 10.0%"
    assert estimate_text("latency", Estimate(1e-3, 4e-5, 3)) == "1.00 ms ± 4%"
    assert points_text(Estimate(-0.05, 0.01, 3)) == "−5.0 ± 1.0"
    assert times_text(Estimate(0.25, None, 1)) == "0.25×"
    assert title("hardware_latency") == "Hardware latency"


def test_severities_stand_behind_one_name() -> None:
    assert found_text({"fog_1": 0.9, "fog_2": 0.8, "fog": 0.85, "ops": 3.0}) == (
        "fog by severity 90.0% 80.0%, fog 85.0%, ops 3"
    )


def test_trials_of_several_builds_are_named() -> None:
    trials = [made.done(Trial("t", "a", "n", "BNN", "", seed, 1), Result({"score": 0.9})) for seed in range(3)]
    assert builds_told(trials) == ""
    assert "builds of bittern" not in report.render(trials, [], ())
    trials[1:] = [
        replace(one, machine=replace(one.machine, build=build)) for one, build in zip(trials[1:], "ab", strict=True)
    ]
    told = (
        "These trials are of three builds of bittern (bittern 0.1.0 (build a): 1 trial; bittern 0.1.0 (build b): "
        "1 trial; bittern 0.1.0, build unknown: 1 trial)"
    )
    assert builds_told(trials).startswith(told)
    page = report.render(trials, [], ())
    assert told in page
    assert "1 seed" not in page
    assert "3 seeds, 1 machine." in page


def test_links_to_runs_of_trials() -> None:
    assert trial_links([3, 1, 2, 9]).html == ('<span class="links"><a href="#t1">1–3</a>, <a href="#t9">9</a></span>')
