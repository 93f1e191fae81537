# SPDX-License-Identifier: Apache-2.0
"""The report as text: complete, escaped, self-contained, accessible, the same for the same result."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from _demo_result import noisy, sample, with_wrong_row
from bittern import binary
from bittern.bench.core.store import load
from bittern.bench.core.words import breakable, duration, number_word, plural, size
from bittern.bench.demo import report
from bittern.bench.demo.plots import COLORS, accuracy_axis, accuracy_ticks, linear_axis, share_interval
from bittern.bench.demo.result import DemoResult, Settings

VOID = {"meta", "link", "br", "wbr", "path", "use", "rect"}


class Page(HTMLParser):
    """Tags with their attributes, the ids, and whether every tag that opens closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def result() -> DemoResult:
    return sample()


@pytest.fixture(scope="module")
def text(result: DemoResult) -> str:
    return report.render(result)


def test_same_result_same_page(result: DemoResult, text: str) -> None:
    assert report.render(result) == text


def test_tags_close_and_ids_are_unique(text: str) -> None:
    page = Page(text)
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in (attributes.get("aria-labelledby") or "").split():
            assert name in ids
        for target in re.findall(r"url\(#([^)]*)\)", attributes.get("clip-path") or ""):
            assert target in ids
        link = attributes.get("xlink:href")
        assert link is None or link.removeprefix("#") in ids


def test_loads_nothing(text: str) -> None:
    page = Page(text)
    assert "//" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    assert not page.all("script")
    assert not page.all("img")
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none';")


def test_text_from_outside_is_escaped(text: str) -> None:
    assert "<b>" not in text
    assert "A &lt;b&gt;&quot;CPU&quot;&lt;/b&gt; &amp; more" in text
    assert "&lt;folder&gt;" in text


def test_table_has_a_row_for_each_network(result: DemoResult, text: str) -> None:
    page = Page(text)
    headers = [th.get("scope") for th in page.all("th")]
    assert headers.count("col") == 6 + 4  # networks, optimizers
    assert headers.count("row") == 1 + len(binary.COMPARED) + 3
    assert text.count('<span class="yes">yes</span>') == len(binary.COMPARED)
    assert len(page.all("caption")) == 2
    rows = re.findall(r'<th scope="row">(.*?)</th>', text)
    networks = ["float32", *(m.__name__ for m in binary.COMPARED)]
    assert [row.replace("<wbr>", "") for row in rows] == [*networks, "32 bits", "8 bits", "4 bits"]
    assert "<td><span>97.8%</span></td><td><span>46.3 kB</span><small>23×</small></td>" in text


def test_plots_are_drawings_with_words(result: DemoResult, text: str) -> None:
    page = Page(text)
    drawings = page.all("svg")
    assert len(drawings) == 2 + len(result.rows) + len(result.optimizers)
    assert all(drawing["role"] == "img" for drawing in drawings)
    assert len(page.all("figcaption")) == len(drawings)
    assert "BNN: 97.8% (95.7% to 98.9%)" in text
    assert "ReCU: 98.6% (96.8% to 99.4%)" in text
    assert "ReCU: 780 µs (757 µs to 819 µs)" in text


def test_sizes_are_those_of_the_layers_and_of_the_file(text: str) -> None:
    assert "the weights of the binary layers: 32.3 kB instead of 1.03 MB</dt><dd>32× smaller</dd>" in text
    assert "whole files, by median: 47.5 kB instead of 1.04 MB</dt><dd>22× smaller</dd>" in text


def test_optimizers_have_bars_of_their_memory(result: DemoResult, text: str) -> None:
    widths = re.findall(r'<div class="bar" style="width:([0-9.]+)%">', text)
    assert widths == ["100.0", "25.0", "12.5"]
    assert "<td><span>900 µs</span><small>0.9×</small></td>" in text
    assert "optimizers" not in report.render(replace(result, optimizers=())).split("<body>")[1]


def test_colours_follow_the_page(text: str) -> None:
    body = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    assert not any(stand_in in body for stand_in in COLORS)
    # apart from the black that Matplotlib gives to groups whose marks bring their own colour
    assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", body)) <= {"#000000"}
    assert "prefers-color-scheme: dark" in text
    for variable in COLORS.values():
        name = variable.removeprefix("var(").removesuffix(")")
        assert len(re.findall(rf"{name}: #", text)) == 2


def test_page_fits_a_phone(text: str) -> None:
    views = [meta["content"] for meta in Page(text).all("meta") if meta.get("name") == "viewport"]
    assert views == ["width=device-width, initial-scale=1"]


def test_says_how_it_was_measured(text: str) -> None:
    for told in ("seed 0", "359", "torch 2.13.0", "Python 3.11.0", "2 logical cores", "2026-01-02", "took 91 s"):
        assert told in text
    assert "quick run" not in text


def test_quick_run_warns(result: DemoResult) -> None:
    assert "its figures mean nothing" in report.render(replace(result, settings=Settings(quick=True)))


def test_wrong_row_raises_the_alarm(result: DemoResult) -> None:
    text = report.render(with_wrong_row(result, "ReCU"))
    assert '<p class="failure" role="alert">Not exact: ReCU.' in text
    assert text.count('<span class="no">NO</span>') == 1
    assert "8 of 9" in text


def test_write_makes_folder_and_data(result: DemoResult, tmp_path: Path) -> None:
    path = report.write(result, tmp_path / "new" / "folder")
    assert path.read_text(encoding="utf-8") == report.render(result)
    assert load(path.parent / report.DATA_NAME, DemoResult) == result


def test_failed_write_keeps_the_old_page(result: DemoResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / report.FILE_NAME).write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="cannot write"):
        report.write(result, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [report.FILE_NAME]
    assert (tmp_path / report.FILE_NAME).read_text() == "old"


def test_a_noisy_machine_gets_no_speed(result: DemoResult, text: str) -> None:
    assert "1.5× as fast" in text
    assert 'role="note"' not in text
    assert not result.noisy
    loud = noisy(result)
    assert loud.noisy
    page = report.render(loud)
    assert "timings that were repeated at once differed by 25%, and above 10% no speed is told" in page
    assert "as fast" not in page.split("<body>")[1]
    assert "1.5×" not in page
    assert "0.9×" not in page


def test_noise_is_that_of_the_typical_method(result: DemoResult) -> None:
    """One method that is disturbed says little about the machine."""
    one = replace(noisy(result).methods[3])
    rows = tuple(one if row.name == one.name else row for row in result.rows)
    assert not replace(result, rows=rows).noisy


def test_commands_to_try_are_shown_as_they_are_typed(result: DemoResult, text: str) -> None:
    assert 'id="next"' not in text
    page = report.render(result, ("bittern run 'a <b>'", "bittern info x"))
    assert "<code>bittern run &#x27;a &lt;b&gt;&#x27;\nbittern info x</code>" in page


@pytest.mark.parametrize(
    ("right", "count", "interval"),
    # from the equation (p - q)^2 = z^2 q (1 - q) / n that the ends q solve
    [(350, 359, (0.9530, 0.9867)), (359, 359, (0.98941, 1.0)), (0, 359, (0.0, 0.01059)), (5, 10, (0.2366, 0.7634))],
)
def test_intervals_of_shares(right: int, count: int, interval: tuple[float, float]) -> None:
    found = share_interval(right / count, count)
    assert found == pytest.approx(interval, abs=1e-4)
    for end in found:
        if 0.0 < end < 1.0:
            assert (right / count - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / count)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.978, 0.992], [0.975, 0.98, 0.985, 0.99, 0.995]),
        ([0.1, 0.9], [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([1.0, 1.0], [0.996, 0.998, 1.0]),
        ([0.0], [0.0, 0.002, 0.004]),
        ([0.5], [0.5, 0.502, 0.504]),
    ],
)
def test_accuracy_ticks(values: list[float], ticks: list[float]) -> None:
    assert accuracy_ticks(values) == pytest.approx(ticks)


@pytest.mark.parametrize("largest", [3.0, 999.0, 1000.0, 1441.0, 123456.0])
def test_axes_reach_the_values_in_a_few_steps(largest: float) -> None:
    axis = linear_axis("time", largest)
    assert axis.ticks[0][0] == 0.0
    assert largest <= axis.ticks[-1][0] < 1.5 * largest
    assert len(axis.ticks) <= 6


def test_accuracy_axis_has_room_for_its_texts() -> None:
    assert [text for _, text in accuracy_axis([0.978, 0.992]).ticks] == ["97.5%", "", "98.5%", "", "99.5%"]
    assert [text for _, text in accuracy_axis([1.0, 1.0]).ticks] == ["99.6%", "99.8%", "100%"]


def test_equal_accuracies_still_plot(result: DemoResult) -> None:
    perfect = replace(result, rows=tuple(replace(row, accuracy=1.0) for row in result.rows))
    assert "100%" in report.render(perfect)


def test_words() -> None:
    assert breakable("XNORNetPlusPlus") == "XNORNet<wbr>Plus<wbr>Plus"
    assert breakable("<A>") == "&lt;A&gt;"
    assert (number_word(9), number_word(11)) == ("nine", "11")
    assert (plural(1, "image"), plural(1000, "image")) == ("1 image", "1,000 images")
    assert [size(n) for n in (999, 1000, 1_044_784)] == ["999 B", "1.0 kB", "1.04 MB"]
    assert [duration(us) for us in (12.3, 1234.0, 12345.0)] == ["12 µs", "1.23 ms", "12.3 ms"]
