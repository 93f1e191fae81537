# SPDX-License-Identifier: Apache-2.0
"""The page: one HTML file with everything in it, made of trials and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from bittern._files import write_atomically
from bittern._version import __version__
from bittern.bench.core.frame import DARK, LIGHT, page, switched, themes
from bittern.bench.page import provenance, sections
from bittern.bench.page.data import chart_data
from bittern.bench.page.track_section import track_sections
from bittern.bench.page.view import view
from bittern.bench.trials.track import Track
from bittern.bench.trials.trial import Done, Failed

ASSETS = Path(__file__).parent / "assets"
TITLE = "Bittern benchmark"
METHODS_LIGHT = """
  --twin: #1d2125; --method0: #a4550b; --method1: #0f766e; --method2: #c2255c; --method3: #6741d9; --method4: #5c7c12;
  --method5: #1971c2; --method6: #8a6d00; --method7: #9c36b5; --method8: #52606d;
"""
METHODS_DARK = """
  --twin: #e9e6df; --method0: #e8a14f; --method1: #4fd1c5; --method2: #ff8fab; --method3: #b3a0ff; --method4: #b5d44b;
  --method5: #74b9ff; --method6: #e3c64a; --method7: #e599f7; --method8: #a9b7c6;
"""


def write(path: Path, done: Sequence[Done], failed: Sequence[Failed], tracks: Sequence[Track]) -> None:
    """Write the page; makes its folder. Raises: ValueError for no trials; OSError, with what was there left whole."""
    text = render(done, failed, tracks)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())


def render(done: Sequence[Done], failed: Sequence[Failed], tracks: Sequence[Track]) -> str:
    """The page, of trials in any order; the same trials give the same text.

    tracks: those that the trials may be of, in the order of the page; trials of others get a plain table.

    Raises: ValueError for no trials.
    """
    if not done and not failed:
        raise ValueError("report: there is no trial to tell of; run some first: bittern bench run")
    seen = view(done, failed, tracks)
    data = chart_data(seen)
    parts = (
        sections.header(seen),
        sections.overall(data["overall"], seen.methods),
        sections.tradeoffs(seen, data["tradeoffs"]),
        track_sections(seen),
        sections.curves(data["curves"]),
        sections.trained(data["looks"]),
        provenance.failures(seen),
        provenance.left_out(seen),
        provenance.trials(seen),
        provenance.sources(seen),
        _footer(),
    )
    body = f"""<a class="skip" href="#main">To the results</a>
{sections.controls()}
<main id="main">
{"".join(part + chr(10) for part in parts if part)}</main>
<p id="live" class="unseen" aria-live="polite"></p>
<script type="application/json" id="data">{_json(data)}</script>
<script type="text/plain" id="licences">{_asset("charts.LICENSE.txt")}</script>"""
    style = themes(METHODS_LIGHT, METHODS_DARK) + switched(DARK + METHODS_DARK) + _asset("page.css")
    scripts = (_asset("charts.js"), _asset("page.js"))
    return page(TITLE, __version__, body, style=style + _on_paper(), scripts=scripts)


def _on_paper() -> str:
    """Paper is white, whatever the reader's scheme is."""
    white = "--paper: #fff; --card: #fff;"
    return f"@media print {{ :root:root:root {{ color-scheme: light; {LIGHT} {METHODS_LIGHT} {white} }} }}"


def _footer() -> str:
    return (
        f"<footer><p>Written by <code>bittern bench report</code>, bittern {escape(__version__)}. This page is one "
        "file and loads nothing. Charts: Apache ECharts, whose licences stand in the file's source.</p></footer>"
    )


def _json(data: dict[str, Any]) -> str:
    """For a <script> element, which ends at "</script" wherever that stands: no "<" is left."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
