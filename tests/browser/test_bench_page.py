# SPDX-License-Identifier: Apache-2.0
"""The benchmark's page in a real browser: clicks, keys, the pointer; phone and desktop, dark and light, paper."""

from __future__ import annotations

from pathlib import Path

import pytest

import _page_trials as made
from _browser import CHROMIUM, DESKTOP, MISSING, PHONE, brightness, chromium, probe
from bittern.bench.page import report

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]

CHARTS = ["overall-chart", "pareto-bytes", "pareto-ops", "pareto-latency", "curve-loss", "curve-accuracy"]
PROBE = f"<script>{(Path(__file__).parent / 'bench_page_probe.js').read_text(encoding='utf-8')}</script>"


@pytest.fixture(scope="module")
def text() -> str:
    return report.render(made.trials(), [made.failed()], made.tracks())


@pytest.mark.parametrize(("size", "dark"), [(PHONE, True), (DESKTOP, False)], ids=["phone, dark", "desktop, light"])
def test_everything_can_be_reached(tmp_path: Path, text: str, size: tuple[int, int], dark: bool) -> None:
    found = probe(tmp_path, text, PROBE, size, dark)
    assert found["inner"] == size[0]
    assert found["scroll"] <= size[0]
    assert found["wide"] == []
    assert [name for name, _ in found["drawn"]] == CHARTS
    assert min(paths for _, paths in found["drawn"]) > 5
    assert found["loaded"] == []
    assert found["label"] >= 10.0
    paper, ink = map(brightness, found["colors"])
    assert (paper < 60) == dark
    assert abs(paper - ink) > 150
    paper, ink = map(brightness, found["switched"])
    assert (paper < 60) != dark
    assert abs(paper - ink) > 150
    assert found["opened"]

    before, first, falling, second, rising = found["sorted"]
    assert (before, first, second) == ("none", "descending", "ascending")
    numbers = [float(one.split()[0].rstrip("%")) for one in rising]
    assert len(numbers) == 40
    assert numbers == sorted(numbers)
    assert sorted(falling) == sorted(rising)
    assert float(falling[0].split()[0]) == numbers[-1]
    assert found["live"] == "sorted by Score, ascending"

    spoken, told = found["key"]
    assert spoken.startswith("float twin, network0; score: 9")
    assert told is not None
    assert "bytes: 960.0 kB" in told
    assert "ops: " in found["pointer"]
    assert found["hidden"] == ["false", False, "What each choice scores and costs (36 of 40 rows)"]
    assert found["shown"] == ["true", True, "What each choice scores and costs"]
    assert found["found"] == ["Hardware inference"]
    assert found["look"] == ["BNN", 10, 12, 5]
    assert found["curveTables"] == 2


def test_console_is_silent_whatever_names_say(tmp_path: Path, text: str) -> None:
    """With the page's own policy, which forbids what it does not name."""
    hostile = report.render(made.hostile(), [made.failed(made.HOSTILE, made.HOSTILE)], made.tracks())
    for name, one in (("page", text), ("hostile", hostile)):
        page = tmp_path / f"{name}.html"
        page.write_text(one, encoding="utf-8")
        flags = ("--enable-logging=stderr", "--virtual-time-budget=2000", "--dump-dom")
        found = chromium(page, DESKTOP, False, *flags)
        assert "CONSOLE" not in found.stderr
        assert 'id="methods" role="group" aria-label="Methods"><button' in found.stdout
    assert "<b onmouseover" not in found.stdout
    assert "aria-sort" in found.stdout


def test_prints_on_white_paper(tmp_path: Path, text: str) -> None:
    page, target = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(text, encoding="utf-8")
    chromium(page, DESKTOP, True, "--virtual-time-budget=2000", f"--print-to-pdf={target}", "--no-pdf-header-footer")
    assert target.read_bytes().count(b"/Type /Page\n") > 3
