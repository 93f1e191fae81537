"""The report as text: complete, escaped, self-contained, accessible, the same for the same result."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from _demo_result import sample, with_wrong_row
from bittern import binary
from bittern.bench import report
from bittern.bench.demo_result import DemoResult, Settings
from bittern.bench.report_plots import COLORS, accuracy_ticks, bytes_axis, linear_axis, spread
from bittern.bench.report_text import breakable, duration, number_word, plural, size
from bittern.bench.store import load

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
    assert headers.count("row") == 1 + len(binary.ALL) + 3
    assert text.count('<span class="yes">yes</span>') == len(binary.ALL)
    assert len(page.all("caption")) == 2
    rows = re.findall(r'<th scope="row">(.*?)</th>', text)
    networks = ["float32", *(m.__name__ for m in binary.ALL)]
    assert [row.replace("<wbr>", "") for row in rows] == [*networks, "32 bits", "8 bits", "4 bits"]
    assert "<td><span>97.8%</span></td><td><span>46.3 kB</span><small>23×</small></td>" in text


def test_plots_are_drawings_with_words(result: DemoResult, text: str) -> None:
    page = Page(text)
    drawings = page.all("svg")
    assert len(drawings) == 2 + len(result.rows) + len(result.optimizers)
    assert all(drawing["role"] == "img" for drawing in drawings)
    assert len(page.all("figcaption")) == len(drawings)
    assert "BNN: 97.8% at 46.3 kB" in text
    assert "ReCU: 98.6% at 780 µs" in text


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


def test_spread_moves_labels_apart_and_keeps_their_order() -> None:
    heights = [0.5, 0.5, 0.52, 0.9, 0.1, 0.5]
    placed = spread(heights, 0.1, 0.0, 1.0)
    ordered = sorted(placed)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(ordered))
    assert sorted(range(6), key=lambda i: (heights[i], i)) == sorted(range(6), key=lambda i: (placed[i], i))
    assert placed[3] == pytest.approx(0.9)
    assert placed[4] == pytest.approx(0.1)


def test_spread_stays_inside() -> None:
    placed = spread([1.0, 1.0, 1.0], 0.2, 0.0, 1.0)
    assert placed == pytest.approx([0.6, 0.8, 1.0])
    assert spread([], 0.1, 0.0, 1.0) == []


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


def test_axes_reach_beyond_the_values() -> None:
    for largest in (3.0, 999.0, 1441.0, 123456.0):
        axis = linear_axis("time", largest)
        assert axis.ticks[0][0] == 0.0
        assert axis.ticks[-1][0] * 0.63 >= largest
    axis = bytes_axis("size", [46_000, 1_044_784])
    assert [text for _, text in axis.ticks] == ["10 kB", "100 kB", "1 MB", ""]


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
