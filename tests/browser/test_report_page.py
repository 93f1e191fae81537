# SPDX-License-Identifier: Apache-2.0
"""The report in a real browser: on a phone and a desktop, in the dark and in the light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from _browser import CHROMIUM, DESKTOP, MISSING, PHONE, brightness, chromium, probe
from _demo_result import sample, with_wrong_row
from bittern.bench.demo import report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]

PROBE = """<script>
addEventListener("load", () => {
  const wide = [...document.querySelectorAll("main *:not(svg *)")].filter(
    (e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5 && !e.closest(".next, .table"));
  const table = document.querySelector(".table");
  parent.postMessage(JSON.stringify({
    inner: innerWidth,
    scroll: document.documentElement.scrollWidth,
    wide: wide.map((e) => e.outerHTML.slice(0, 80)),
    table: [table.scrollWidth, table.clientWidth],
    paper: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
    mark: getComputedStyle(document.querySelector(".plots svg use")).fill,
    label: parseFloat(getComputedStyle(document.querySelector(".plots svg text")).fontSize)
      * document.querySelector(".plots svg").getBoundingClientRect().width / 360,
    loaded: performance.getEntriesByType("resource").map((entry) => entry.name),
  }), "*");
});
</script>"""


def _screenshot(folder: Path, page: Path, size: tuple[int, int], dark: bool) -> npt.NDArray[np.uint8]:
    target = folder / "shot.png"
    chromium(page, size, dark, f"--screenshot={target}")
    with Image.open(target) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_sticks_out_and_nothing_is_loaded(tmp_path: Path, size: tuple[int, int], dark: bool) -> None:
    found = probe(tmp_path, report.render(sample()), PROBE, size, dark)
    assert found["inner"] == size[0]
    assert found["scroll"] <= size[0]
    assert found["wide"] == []
    assert found["loaded"] == []
    table, room = found["table"]
    assert table <= room
    assert found["label"] >= 10.0
    paper, ink, mark = (brightness(found[name]) for name in ("paper", "ink", "mark"))
    assert (paper < 60) == dark
    assert abs(paper - ink) > 150
    assert abs(paper - mark) > 60


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_is_painted(tmp_path: Path, dark: bool) -> None:
    page = report.write(sample(), tmp_path / "report")
    pixels = _screenshot(tmp_path, page, PHONE, dark)
    assert pixels.shape == (PHONE[1], PHONE[0], 3)
    corner = pixels[2, 2].astype(int)
    assert (corner.mean() < 60) == dark
    painted = (np.abs(pixels.astype(int) - corner).max(axis=2) > 40).mean()
    assert 0.02 < painted < 0.6


def test_alarm_shows(tmp_path: Path) -> None:
    page = report.write(with_wrong_row(sample(), "ReCU"), tmp_path / "report")
    dom = chromium(page, PHONE, False, "--dump-dom").stdout
    assert 'role="alert">Not exact: ReCU' in dom
