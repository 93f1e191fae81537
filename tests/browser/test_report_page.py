# SPDX-License-Identifier: Apache-2.0
"""The report in a real browser: on a phone and a desktop, in the dark and in the light."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from _demo_result import sample, with_wrong_row
from bittern.bench.demo import report

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt install chromium)"),
]

PHONE, DESKTOP = (390, 844), (1280, 900)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
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
# a window cannot be as narrow as a phone where --dump-dom is used; a frame can
FRAME = """<!doctype html><html style="color-scheme: light dark"><body><pre id="probe"></pre><script>
addEventListener("message", (event) => {{ document.getElementById("probe").textContent = event.data; }});
</script><iframe src="{name}" width="{width}" height="{height}" style="border: 0"></iframe></body></html>"""


def _chromium(page: Path, size: tuple[int, int], dark: bool, *flags: str) -> str:
    assert CHROMIUM is not None
    profile = page.parent / f"profile{len(list(page.parent.iterdir()))}"
    command = [
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={profile}",
        f"--window-size={size[0]},{size[1]}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        *flags,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def _probe(folder: Path, size: tuple[int, int], dark: bool) -> dict[str, Any]:
    """What a copy of the page with a script in it says of itself."""
    text = report.render(sample())
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    copy = folder / "probed.html"
    copy.write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(name=copy.name, width=size[0], height=size[1]), encoding="utf-8")
    dom = _chromium(frame, (1400, 1000), dark, "--virtual-time-budget=2000", "--dump-dom")
    found = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None
    answers: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return answers


def _screenshot(folder: Path, page: Path, size: tuple[int, int], dark: bool) -> npt.NDArray[np.uint8]:
    target = folder / "shot.png"
    _chromium(page, size, dark, f"--screenshot={target}")
    with Image.open(target) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_sticks_out_and_nothing_is_loaded(tmp_path: Path, size: tuple[int, int], dark: bool) -> None:
    found = _probe(tmp_path, size, dark)
    assert found["inner"] == size[0]
    assert found["scroll"] <= size[0]
    assert found["wide"] == []
    assert found["loaded"] == []
    table, room = found["table"]
    assert table <= room
    assert found["label"] >= 10.0
    paper, ink, mark = (_brightness(found[name]) for name in ("paper", "ink", "mark"))
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
    dom = _chromium(page, PHONE, False, "--dump-dom")
    assert 'role="alert">Not exact: ReCU' in dom


def _brightness(color: str) -> float:
    """Of a computed "rgb(r, g, b)", 0 ... 255."""
    return sum(float(n) for n in re.findall(r"[\d.]+", color)[:3]) / 3
